//! Guests started, stopped, restarted and held by the engine: in order, at every fault, and beside `up`.

mod fake;

use fake::{FakeHost, Fault, World, blueprint, deployment, up};
use kvm_compose::{
    api::UpOptions,
    error::{Code, Problem},
    names::GuestName,
    orchestrate::{
        Operation,
        host::{Cancel, Host},
        lifecycle::fulfil,
    },
    plan::{
        blueprint::Blueprint,
        lifecycle::{self, Wish},
        observed::Observed,
        step::{Step, Work},
    },
};
use uuid::Uuid;

/// Three that depend on each other, one that has a disk and a shaped link among them, and a container apart.
const CHAIN: &str = "
machines:
  - name: db
    libvirt: {cpus: 1, memory_mb: 256, libvirt_type: {existing_disk: {path: db.qcow2, driver_type: qcow2, setup_script: setup.sh, run_script: run.sh}}}
    network: [{switch: lan, ip: 10.9.0.5, impairment: {delay_ms: 20}}]
  - name: app
    micro: {setup_script: app.sh}
    depends_on: [db]
    network: [{switch: lan}]
  - name: web
    micro: {}
    depends_on: [app]
    network: [{switch: lan}]
  - name: box
    docker: {image: alpine}
    network: [{switch: lan}]
network:
  ovn:
    switches: {lan: {subnet: 10.9.0.0/24}}
    routers: {r: {ports: [{name: p1, gateway_ip: 10.9.0.1/24, switch: lan}], dhcp: [{switch: lan}]}}
";

fn there() -> (World, Blueprint) {
    let host = FakeHost::default();
    let wanted = blueprint(CHAIN, &World::default());
    up(&host, &wanted, &UpOptions::default()).expect("it comes up");
    (host.world.into_inner(), wanted)
}

fn names(guests: &[&str]) -> Vec<GuestName> {
    guests.iter().map(|name| GuestName::new(name).expect("valid")).collect()
}

fn ask(host: &FakeHost, wanted: Option<&Blueprint>, wish: Wish, guests: &[&str]) -> Result<(), Problem> {
    let (cancel, events) = (Cancel::new(), fake::Events::default());
    let operation = Operation { uuid: Uuid::from_u128(3), cancel: &cancel, sink: &events };
    fulfil(host, (&deployment(), wanted), wish, &names(guests), &operation)
}

fn look(host: &FakeHost, wanted: &Blueprint) -> Observed {
    host.observe(&deployment(), Some(wanted)).expect("it answers")
}

fn steps(host: &FakeHost, wanted: &Blueprint, wish: Wish, guests: &[&str]) -> Vec<Step> {
    lifecycle::plan(wish, Some(wanted), &look(host, wanted), &names(guests)).expect("a plan").steps
}

fn states(host: &FakeHost) -> Vec<(String, String)> {
    host.world.lock().domains.values().map(|domain| (domain.guest.to_string(), domain.state.clone())).collect()
}

/// Guests in the order in which they were stopped or started.
fn order(host: &FakeHost) -> Vec<String> {
    let word = |work: &Work| match work {
        Work::ShutDownDomain { guest, .. } => Some(format!("stop {guest}")),
        Work::StartDomain { domain } => Some(format!("start {}", domain.guest)),
        _ => None,
    };
    host.history.lock().iter().filter_map(word).filter(|word| !word.ends_with("box")).collect()
}

#[test]
fn what_stops_keeps_its_disk_rows_and_link_and_starts_as_it_was() {
    let (world, wanted) = there();
    let host = FakeHost::with(world.clone());
    ask(&host, Some(&wanted), Wish::Stop(None), &[]).expect("stopped");
    let stopped = host.world.lock().clone();
    assert!(stopped.domains.values().all(|domain| !domain.active), "{:?}", states(&host));
    assert_eq!((&stopped.rows, &stopped.files, &stopped.seeds), (&world.rows, &world.files, &world.seeds));
    assert_eq!(stopped.links, world.links, "the link waits for its guest");
    assert_eq!(steps(&host, &wanted, Wish::Stop(None), &[]), []);
    ask(&host, Some(&wanted), Wish::Start, &[]).expect("started");
    assert_eq!(order(&host), ["stop web", "stop app", "stop db", "start db", "start app", "start web"]);
    // A fake guest forgets which scripts have run; `run` ones are not due again.
    let without_scripts = |world: &World| {
        let mut shape = world.shape();
        shape.domains.values_mut().for_each(|domain| domain.scripts.clear());
        shape
    };
    assert!(without_scripts(&host.world.lock()) == without_scripts(&world), "{:?}", states(&host));
    assert_eq!(steps(&host, &wanted, Wish::Start, &[]), []);
}

#[test]
fn up_starts_what_was_stopped_or_held_and_touches_nobody_else() {
    let (world, wanted) = there();
    for (wish, held) in [(Wish::Stop(None), "shut off"), (Wish::Pause, "paused")] {
        let host = FakeHost::with(world.clone());
        ask(&host, Some(&wanted), wish, &["web"]).expect("done");
        assert!(states(&host).contains(&("web".to_string(), held.to_string())), "{:?}", states(&host));
        up(&host, &wanted, &UpOptions::default()).expect("it comes up");
        assert_eq!(host.world.lock().shape(), world.shape(), "{wish:?}");
        let touched =
            host.history.lock().iter().filter(|work| matches!(work, Work::StartDomain { .. } | Work::RemoveDomain { .. })).count();
        assert_eq!(touched, 1, "{wish:?}");
    }
}

#[test]
fn each_wish_ends_the_same_whatever_goes_wrong_on_the_way() {
    let (world, wanted) = there();
    let stopped = FakeHost::with(world.clone());
    ask(&stopped, Some(&wanted), Wish::Stop(Some(0)), &[]).expect("stopped");
    let paused = FakeHost::with(world.clone());
    ask(&paused, Some(&wanted), Wish::Pause, &[]).expect("held");
    let (stopped, paused) = (stopped.world.into_inner(), paused.world.into_inner());
    let table = [
        (Wish::Start, &stopped, &world),
        (Wish::Start, &paused, &world),
        (Wish::Stop(None), &world, &stopped),
        (Wish::Stop(None), &paused, &stopped),
        (Wish::Restart(None), &world, &world),
        (Wish::Restart(None), &stopped, &world),
        (Wish::Pause, &world, &paused),
        (Wish::Resume, &paused, &world),
    ];
    let mut points = 0;
    for (wish, before, after) in table {
        for step in steps(&FakeHost::with(before.clone()), &wanted, wish, &[]) {
            for fault in Fault::ALL {
                points += 1;
                let host = FakeHost::with(before.clone());
                host.fail_at(&step.work, fault);
                let problem = ask(&host, Some(&wanted), wish, &[]).expect_err("the fault is reported");
                if fault == Fault::Cancel {
                    assert_eq!(problem.code, Code::Cancelled, "{wish:?}: {}", step.id);
                }
                // The same command again, by whichever server.
                let again = FakeHost::with(host.world.into_inner());
                ask(&again, Some(&wanted), wish, &[]).unwrap_or_else(|problem| panic!("{wish:?} {} {fault:?}: {problem:?}", step.id));
                let end = again.world.into_inner();
                // What is there says nothing of how often it was started, nor has a fake guest a clock.
                assert_eq!(end.domains.keys().collect::<Vec<_>>(), after.domains.keys().collect::<Vec<_>>());
                for (guest, domain) in &end.domains {
                    assert_eq!(domain.state, after.domains[guest].state, "{wish:?} {} {fault:?}: {guest}", step.id);
                }
                assert_eq!((&end.rows, &end.files), (&after.rows, &after.files), "{wish:?} {} {fault:?}", step.id);
            }
        }
    }
    assert!(points > 100, "{points}");
}

#[test]
fn a_failure_keeps_only_those_back_that_rest_on_it() {
    let (world, wanted) = there();
    let host = FakeHost::with(world);
    ask(&host, Some(&wanted), Wish::Stop(None), &[]).expect("stopped");
    let at = steps(&host, &wanted, Wish::Start, &[]).into_iter().find(|step| step.id.as_str() == "start/app").expect("it starts");
    host.fail_at(&at.work, Fault::Before);
    ask(&host, Some(&wanted), Wish::Start, &[]).expect_err("it is told");
    let state = |guest: &str| states(&host).into_iter().find(|(name, _)| name == guest).expect("there").1;
    assert_eq!([state("db"), state("box"), state("app"), state("web")], ["running", "running", "shut off", "shut off"].map(str::to_string));
}

#[test]
fn a_link_that_was_changed_live_stays_as_it_was_changed() {
    let (mut world, wanted) = there();
    let link = world.links.values_mut().next().expect("a shaped link");
    link.what.shape = Default::default();
    link.what.shape.to_guest.loss_ppm = 70_000;
    link.what.fault = Some("its guest does not run".to_string());
    let shape = link.what.shape;
    let host = FakeHost::with(world);
    ask(&host, Some(&wanted), Wish::Restart(None), &["db"]).expect("restarted");
    let links = host.world.lock().links.clone();
    assert_eq!(links.values().map(|link| link.what.shape).collect::<Vec<_>>(), [shape]);
}

#[test]
fn a_restart_of_what_keeps_nothing_sets_it_up_again_and_leaves_run_scripts_to_up() {
    let (world, wanted) = there();
    let host = FakeHost::with(world);
    let scripts = |guest: &str| -> Vec<String> {
        let steps = steps(&host, &wanted, Wish::Restart(None), &[guest]);
        steps.iter().filter(|step| matches!(step.work, Work::RunScript { .. })).map(|step| step.id.to_string()).collect()
    };
    assert_eq!(scripts("app"), ["setup/app"]);
    // Whether it has run is asked of its mark, on its disk.
    assert_eq!(scripts("db"), ["setup/db"]);
    assert_eq!(scripts("web"), [""; 0]);
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is() {
    let (world, wanted) = there();
    let refusals = [
        (Wish::Stop(None), "nobody", Code::NotFound, "no guest `nobody`"),
        (Wish::Resume, "db", Code::Conflict, "does not run"),
        (Wish::Pause, "db", Code::Conflict, "does not run"),
        (Wish::Start, "gone", Code::NotFound, "is not there"),
    ];
    let larger = blueprint(&CHAIN.replace("memory_mb: 256", "memory_mb: 512").replace("name: web", "name: gone"), &World::default());
    for (wish, guest, code, words) in refusals {
        let host = FakeHost::with(world.clone());
        ask(&host, Some(&wanted), Wish::Stop(None), &["db"]).expect("stopped");
        let before = host.world.lock().clone();
        let file = if guest == "gone" { &larger } else { &wanted };
        let problem = ask(&host, Some(file), wish, &[guest]).expect_err("refused");
        assert!(problem.code == code && problem.message.contains(words), "{wish:?} {guest}: {problem:?}");
        assert_eq!(*host.world.lock(), before);
    }
    // What the file wants otherwise is for `up` to make.
    let host = FakeHost::with(world.clone());
    ask(&host, Some(&larger), Wish::Stop(None), &["db"]).expect("stopped");
    let problem = ask(&host, Some(&larger), Wish::Start, &["db"]).expect_err("refused");
    assert!(problem.code == Code::Conflict && problem.message.contains("memory 256"), "{problem:?}");
    // Without a usable file guests still stop, the one that left the file too.
    ask(&host, None, Wish::Stop(None), &[]).expect("stopped");
    assert!(host.world.lock().domains.values().all(|domain| !domain.active));
}
