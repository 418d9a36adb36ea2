//! Links: what an edit changes on them, what `set_link` changes, and what faults leave.

mod fake;

use fake::{FakeHost, Fault, World, blueprint, down, steps, up};
use kvm_compose::{
    api::{
        UpOptions,
        link::{Carrier, LinkChange, SetLink},
    },
    error::{Code, Problem},
    names::GuestName,
    orchestrate::{
        self, Operation, Sink,
        event::EventKind,
        host::{Cancel, Host},
    },
    plan::{
        self,
        blueprint::Blueprint,
        link_report,
        step::{Impact, Step, StepId, Work},
    },
};
use uuid::Uuid;

/// Guests `a`, with this much memory and this impairment, and `b` on a switch with its own.
fn text(memory_mb: u32, impairment: &str, switch: &str) -> String {
    format!(
        "machines:\n  - {{name: a, micro: {{memory_mb: {memory_mb}}}, network: [{{switch: lan, ip: 10.0.0.1{}}}]}}\n  - {{name: b, micro: {{}}, network: [{{switch: lan, ip: 10.0.0.2}}]}}\nnetwork: {{ovn: {{switches: {{lan: {{subnet: 10.0.0.0/24{}}}}}}}}}\n",
        with(impairment),
        with(switch)
    )
}

fn with(impairment: &str) -> String {
    if impairment.is_empty() { String::new() } else { format!(", impairment: {{{impairment}}}") }
}

fn wanted(host: &FakeHost, text: &str) -> Blueprint {
    blueprint(text, &host.world.lock())
}

fn brought_up(text: &str) -> FakeHost {
    let host = FakeHost::default();
    up(&host, &blueprint(text, &World::default()), &UpOptions::default()).expect("it comes up");
    host
}

/// (step, impact, guests), as `plan` shows them.
fn planned(host: &FakeHost, text: &str) -> Vec<(String, Impact, String)> {
    let names = |guests: &[GuestName]| guests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    steps(host, &wanted(host, text)).iter().map(|step| (step.id.to_string(), step.impact, names(&step.guests))).collect()
}

fn one(id: &str, guest: &str) -> Vec<(String, Impact, String)> {
    vec![(id.to_string(), Impact::InPlace, guest.to_string())]
}

#[test]
fn an_edit_of_conditions_is_in_place_and_names_its_guest() {
    let plain = text(128, "", "");
    let host = brought_up(&plain);
    assert!(host.world.lock().links.is_empty());
    for (next, plan) in [
        (text(128, "delay_ms: 25", ""), one("link/a:eth0", "a")),
        (text(128, "delay_ms: 25, to_guest: {loss_percent: 5}", ""), one("link/a:eth0", "a")),
        // The switch's conditions are those of interfaces that have none of their own.
        (text(128, "delay_ms: 25, to_guest: {loss_percent: 5}", "rate_mbit: 10"), one("link/b:eth0", "b")),
        (text(128, "delay_ms: 25, to_guest: {loss_percent: 5}", ""), one("unlink/b:eth0", "b")),
        (plain.clone(), one("unlink/a:eth0", "a")),
    ] {
        assert_eq!(planned(&host, &next), plan);
        up(&host, &wanted(&host, &next), &UpOptions::default()).expect("changed");
        assert!(planned(&host, &next).is_empty());
    }
    let world = host.world.lock();
    assert!(world.links.is_empty() && world.starts.values().all(|starts| *starts == 1));
}

#[test]
fn a_guest_that_starts_anew_finds_its_place_free_and_gets_its_link_back() {
    let host = brought_up(&text(128, "delay_ms: 25", ""));
    let larger = text(256, "delay_ms: 25", "");
    let plan = planned(&host, &larger);
    let at = |id: &str| plan.iter().position(|(step, ..)| step == id).unwrap_or_else(|| panic!("no {id} in {plan:?}"));
    assert!(at("remove/a") < at("unlink/a:eth0") && at("unlink/a:eth0") < at("start/a") && at("start/a") < at("link/a:eth0"));
    // The world refuses a start where the old link still stands.
    up(&host, &wanted(&host, &larger), &UpOptions::default()).expect("changed");
    assert!(planned(&host, &larger).is_empty());
    assert_eq!(host.world.lock().links.len(), 1);
    // One that died by itself, too.
    for domain in host.world.lock().domains.values_mut() {
        (domain.active, domain.agent, domain.state) = (false, false, "shut off".to_string());
    }
    up(&host, &wanted(&host, &larger), &UpOptions::default()).expect("started");
    assert!(planned(&host, &larger).is_empty());
    down(&host).expect("down");
    assert_eq!(host.world.lock().shape(), World::default());
}

#[test]
fn an_interface_that_is_plugged_anew_gives_up_its_old_link_before_and_gets_its_own_after() {
    let file = text(128, "delay_ms: 25", "");
    let host = brought_up(&file);
    let wanted = wanted(&host, &file);
    let observed = Host::observe(&host, &fake::deployment(), Some(&wanted)).expect("it answers");
    let mut plug = steps(&FakeHost::default(), &wanted).into_iter().find(|step| step.id.as_str() == "seed/a").expect("a step");
    let a = &wanted.guests.iter().find(|guest| guest.name.as_str() == "a").expect("a guest").domain;
    plug.work = Work::AttachNic { name: a.name.clone(), uuid: a.uuid, nic: a.nics[0].clone(), runtime: Default::default() };
    (plug.id, plug.needs) = (StepId::new("plug/a/eth0"), Vec::new());
    let domain = wanted.guests.iter().map(|guest| &guest.domain).find(|domain| domain.guest.as_str() == "a").expect("its domain");
    plug.work = Work::AttachNic { name: domain.name.clone(), uuid: domain.uuid, nic: domain.nics[0].clone(), runtime: Default::default() };
    let named = |steps: Vec<Step>| -> Vec<(String, Vec<String>)> {
        steps.into_iter().map(|step| (step.id.to_string(), step.needs.iter().map(ToString::to_string).collect())).collect()
    };
    assert!(plan::with_links(Vec::new(), &wanted, &observed, None).is_empty(), "it is as it is wanted");
    let (gone, plugged) = ("unlink/a:eth0".to_string(), "plug/a/eth0".to_string());
    let expected = [(gone.clone(), vec![]), (plugged.clone(), vec![gone]), ("link/a:eth0".to_string(), vec![plugged])];
    assert_eq!(named(plan::with_links(vec![plug], &wanted, &observed, None)), expected);
}

struct Quiet;

impl Sink for Quiet {
    fn emit(&self, _: EventKind) -> Result<(), Problem> {
        Ok(())
    }
}

fn set(host: &FakeHost, text: &str, request: &SetLink) -> Result<(), Problem> {
    let operation = Operation { uuid: Uuid::from_u128(3), cancel: &Cancel::new(), sink: &Quiet };
    orchestrate::link::set_link(host, &wanted(host, text), request, &operation)
}

fn request(carrier: Option<Carrier>, delay_ms: Option<f64>) -> SetLink {
    let change = LinkChange { delay_ms, ..LinkChange::default() };
    let guest = GuestName::new("a").expect("valid");
    SetLink { guest, interface: "eth0".to_string(), carrier, clear: false, to_guest: change, from_guest: change }
}

#[test]
fn what_set_link_changes_is_a_deviation_that_up_takes_back() {
    let file = text(128, "delay_ms: 25", "");
    let host = brought_up(&file);
    set(&host, &file, &request(Some(Carrier::Down), Some(50.0))).expect("set");
    let observed = Host::observe(&host, &fake::deployment(), None).expect("it answers");
    let reports = link_report::reports(&wanted(&host, &file), &observed);
    let a = reports.iter().find(|link| link.guest.as_str() == "a").expect("its link");
    assert_eq!((a.deviates, a.carrier, a.to_guest.file.delay_ms, a.to_guest.set.delay_ms), (true, Some(Carrier::Down), 25.0, 50.0));
    let plan: Vec<String> = planned(&host, &file).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(plan, ["link/a:eth0", "carrier/a:eth0"]);
    up(&host, &wanted(&host, &file), &UpOptions::default()).expect("taken back");
    assert!(planned(&host, &file).is_empty());
    // On a link that the file leaves plain.
    let plain = text(128, "", "");
    up(&host, &wanted(&host, &plain), &UpOptions::default()).expect("changed");
    set(&host, &plain, &request(None, Some(5.0))).expect("set");
    assert_eq!(planned(&host, &plain), one("unlink/a:eth0", "a"));
    set(&host, &plain, &SetLink { clear: true, ..request(None, None) }).expect("set");
    assert!(planned(&host, &plain).is_empty());
}

#[test]
fn a_change_of_a_link_that_fails_leaves_it_as_it_was() {
    let file = text(128, "delay_ms: 25", "");
    let before = brought_up(&file).world.into_inner();
    let change = request(Some(Carrier::Down), Some(50.0));
    // The steps that it takes, from a run without a fault.
    let host = FakeHost::with(before.clone());
    set(&host, &file, &change).expect("set");
    let works = host.history.lock().clone();
    assert_eq!(works.len(), 2);
    for work in works {
        for fault in [Fault::Before, Fault::After, Fault::Panic] {
            let host = FakeHost::with(before.clone());
            host.fail_at(&work, fault);
            set(&host, &file, &change).expect_err("the fault is reported");
            assert_eq!(host.world.into_inner(), before, "{work:?} {fault:?}");
        }
    }
}

#[test]
fn what_is_not_there_cannot_be_set() {
    let file = text(128, "", "");
    let host = FakeHost::default();
    let code = |host: &FakeHost, request: &SetLink| set(host, &file, request).expect_err("refused").code;
    assert_eq!(code(&host, &request(Some(Carrier::Down), None)), Code::Conflict, "the guest does not run");
    let host = brought_up(&file);
    assert_eq!(code(&host, &SetLink { interface: "eth7".to_string(), ..request(Some(Carrier::Down), None) }), Code::NotFound);
    let nobody = GuestName::new("nobody").expect("valid");
    assert_eq!(code(&host, &SetLink { guest: nobody, ..request(Some(Carrier::Down), None) }), Code::NotFound);
}
