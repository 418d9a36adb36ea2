//! The decision table of `why`: each fact that stands in the way, alone, is named as the culprit; and none is where nothing does.

use kvm_compose::{
    api::{Culprit, Traffic},
    error::Place,
    names::GuestName,
    why::{
        Binding, Drift, End, Facts, Foreign, ForeignKind, Leads, Nic, Outside, Probed, Target, Translated, Verdict, diagnose,
        facts::Rule,
        inside::{Inside, Link, Way},
        trace::Traced,
    },
};

fn end(name: &str, switch: &str, address: &str, gateway: &str) -> End {
    let mac = format!("02:00:00:00:00:0{}", if name == "a" { 1 } else { 2 });
    let link = Link {
        up: true,
        carrier: Some(true),
        mtu: 1442,
        mac: mac.clone(),
        addresses: vec![format!("{address}/24").parse().expect("valid")],
    };
    let way = Way { via: gateway.parse().ok(), link: "eth0".to_string(), source: address.parse().ok() };
    let inside = Inside {
        links: [("eth0".to_string(), link)].into(),
        way: Some(way),
        tcp: vec![(80, true), (53, false)],
        udp: vec![(53, true)],
        ..Inside::default()
    };
    let nic = Nic {
        name: "eth0".to_string(),
        switch: switch.to_string(),
        mac,
        addresses: vec![format!("{address}/24").parse().expect("valid")],
        gateway: gateway.parse().ok(),
        dhcp: name == "a",
        loss_ppm: 0,
        loss_by_file: false,
        link_fault: None,
        plugged: Some(true),
        key: format!("port/{name}/0"),
        binding: Some(Binding { present: true, enabled: true, chassis: Some("h1".to_string()), up: true }),
    };
    End {
        guest: GuestName::new(name).expect("valid"),
        domain: Some("running".to_string()),
        away: None,
        switch_down: None,
        inside: Ok(inside),
        nic: Some(nic),
    }
}

/// Two guests with routers between them; everything is as it should be, and yet no answer came.
fn facts() -> Facts {
    let acl = |priority, matches: &str, at| Rule {
        switch: "right".to_string(),
        direction: "to-lport".to_string(),
        priority,
        matches: matches.to_string(),
        at,
    };
    let at = Place { file: "x.yaml".to_string(), line: 30, column: 7 };
    Facts {
        deployment: "d".to_string(),
        by: Traffic::Tcp(80),
        from: end("a", "left", "10.1.0.2", "10.1.0.1"),
        to: Target { wrote: "b".to_string(), address: "10.2.0.9".parse().ok(), end: Some(end("b", "right", "10.2.0.9", "10.2.0.1")) },
        probe: Probed::Failed("no answer within 3 s".to_string()),
        forward: Some(Traced::Delivered { port: "pb".to_string() }),
        back: Some(Traced::Delivered { port: "pa".to_string() }),
        drift: Vec::new(),
        acls: vec![acl(500, "ip4.src == 10.0.0.0/8", Some(at.clone())), acl(900, "(ip4 && tcp)", Some(at)), acl(0, "ip", None)],
        translated: vec![
            Translated { address: "192.0.2.7".parse().expect("valid"), router: "r1".to_string(), leads: Leads::All },
            Translated { address: "192.0.2.8".parse().expect("valid"), router: "r1".to_string(), leads: Leads::By(Traffic::Tcp(8080)) },
        ],
        foreign: Vec::new(),
        outside: None,
        joined: true,
        bridges: false,
        mtu: 1442,
        behind: None,
    }
}

fn inside(end: &mut End) -> &mut Inside {
    end.inside.as_mut().expect("an agent")
}

fn link(end: &mut End) -> &mut Link {
    inside(end).links.get_mut("eth0").expect("eth0")
}

fn b(facts: &mut Facts) -> &mut End {
    facts.to.end.as_mut().expect("a guest")
}

fn binding(end: &mut End) -> &mut Binding {
    end.nic.as_mut().and_then(|nic| nic.binding.as_mut()).expect("a binding")
}

fn nic(end: &mut End) -> &mut Nic {
    end.nic.as_mut().expect("a nic")
}

fn foreign(kind: ForeignKind, priority: u32, matches: &str) -> Foreign {
    let (words, remove) = ("thing".to_string(), "ovn-nbctl away d.r1".to_string());
    Foreign { at: "router/r1".to_string(), kind, priority, matches: matches.to_string(), words, remove }
}

fn outside(facts: &mut Facts, to: &str, by: Traffic) {
    facts.to = Target { wrote: to.to_string(), address: to.parse().ok(), end: None };
    facts.by = by;
}

fn way_out(masquerade: bool, hidden: bool) -> Outside {
    Outside { bridge: "br-ex".to_string(), host: "172.16.1.1".parse().expect("valid"), masquerade, hidden }
}

fn dropped(datapath: &str, stage: &str, matched: &str, priority: u32) -> Option<Traced> {
    Some(Traced::Dropped { datapath: datapath.into(), stage: stage.into(), matched: matched.into(), priority })
}

fn drift(facts: &mut Facts, key: &str, missing: bool) {
    facts.drift.push(Drift { key: key.to_string(), missing });
}

/// What is wrong, the culprit, and words of the sentence.
type Case = (fn(&mut Facts), Culprit, &'static str);

const CASES: &[Case] = &[
    (|f| f.from.domain = None, Culprit::GuestDown, "guest `a` is not there"),
    (|f| b(f).domain = Some("paused".into()), Culprit::GuestDown, "guest `b` is paused"),
    (|f| b(f).domain = Some("shut off".into()), Culprit::GuestDown, "guest `b` is stopped: it is shut off"),
    (|f| b(f).away = Some(("h2".into(), "silent".into())), Culprit::HostAway, "host `h2`, where guest `b`"),
    (
        |f| (f.from.inside, f.probe) = (Err("it gave no sign".into()), Probed::NotSent("nobody".into())),
        Culprit::NoAgent,
        "agent of guest `a`",
    ),
    // One that was too slow to say what it sees, but sent the probe: the rest may still tell.
    (|f| (f.from.inside, f.by) = (Err("it was too slow".into()), Traffic::Tcp(81)), Culprit::NotListening, "nothing listens on tcp:81"),
    (|f| f.from.inside = Err("it was too slow".into()), Culprit::NoAgent, "it was too slow"),
    (|f| (f.to.end, f.to.address, f.to.wrote) = (None, None, "x".into()), Culprit::Name, "no address for the name `x`"),
    (|f| inside(&mut f.from).links.clear(), Culprit::LinkDown, "guest `a` has no interface eth0"),
    (|f| link(&mut f.from).up = false, Culprit::LinkDown, "switched off in guest `a`"),
    (|f| link(b(f)).carrier = Some(false), Culprit::LinkDown, "eth0 of guest `b` is down at its port"),
    (|f| link(&mut f.from).addresses.clear(), Culprit::NoAddress, "lost its lease: it has no address, and should have 10.1.0.2"),
    (|f| link(b(f)).addresses = vec!["10.2.0.66/24".parse().expect("valid")], Culprit::WrongAddress, "10.2.0.66"),
    (|f| link(&mut f.from).mac = "02:ff:00:00:00:01".into(), Culprit::PortSecurity, "sends as 02:ff:00:00:00:01"),
    (|f| drift(f, "port/b/0", true), Culprit::Port, "guest `b` has no port on switch `right`"),
    (|f| drift(f, "port/a/0", false), Culprit::Port, "the port of eth0 of guest `a` is not as the file wants it"),
    (|f| binding(b(f)).enabled = false, Culprit::Port, "guest `b` is switched off in OVN"),
    (|f| binding(&mut f.from).present = false, Culprit::OvnBehind, "southbound"),
    (|f| binding(b(f)).chassis = None, Culprit::Port, "guest `b` is on no host: no ovn-controller"),
    (|f| binding(b(f)).up = false, Culprit::Port, "not up yet on host `h1`"),
    (|f| inside(&mut f.from).way = None, Culprit::GuestRoute, "default route through 10.1.0.1 is missing"),
    (|f| (inside(&mut f.from).way, f.from.nic.as_mut().expect("a nic").gateway) = (None, None), Culprit::GuestRoute, "gives it no gateway"),
    (|f| inside(b(f)).way = None, Culprit::GuestRoute, "guest `b` has no route to `a`"),
    (
        |f| {
            (inside(&mut f.from).way, inside(&mut f.from).forbidden) =
                (None, vec![("blackhole".into(), "10.2.0.9/32".parse().expect("valid"))])
        },
        Culprit::GuestRoute,
        "forbids `b` (10.2.0.9): blackhole 10.2.0.9/32",
    ),
    (
        |f| inside(&mut f.from).way.as_mut().expect("a way").via = "10.1.0.77".parse().ok(),
        Culprit::WrongGateway,
        "through 10.1.0.77, and its gateway is 10.1.0.1",
    ),
    (|f| inside(&mut f.from).way.as_mut().expect("a way").via = None, Culprit::WrongGateway, "to be on its own segment"),
    (
        |f| f.forward = dropped("switch/right", "ls_out_acl", "reg0[9] == 1 && ((ip4 && tcp))", 1900),
        Culprit::Acl,
        "ACL 2 of switch `right` at x.yaml:30:7 drops packets: to-lport, priority 900",
    ),
    (
        |f| f.forward = dropped("switch/right", "ls_out_acl_eval", "(ip)", 1000),
        Culprit::Acl,
        "drops the request (tcp:80 from `a` to `b`) because of `apply_deny_all`: none of its to-lport rules allows it",
    ),
    (
        |f| f.back = dropped("switch/right", "ls_in_acl", "udp", 2500),
        Culprit::Acl,
        "the file does not have drops answers: from-lport, priority 1500",
    ),
    (|f| f.forward = dropped("router/r1", "lr_in_ip_routing", "1", 0), Culprit::RouterRoute, "router `r1` has no route to 10.2.0.9"),
    (
        |f| f.back = dropped("router/r2", "lr_in_ip_routing", "1", 0),
        Culprit::RouterRoute,
        "router `r2` has no route to 10.1.0.2, where answers go",
    ),
    (
        |f| {
            f.forward = dropped("router/r1", "lr_in_ip_routing", "1", 0);
            drift(f, "nat/r9/snat/192.0.2.1/10.0.0.0/8", true);
            drift(f, "route/r1/10.2.0.0/24/10.9.0.2", true);
        },
        Culprit::RouterRoute,
        "the route of router `r1` to 10.2.0.0/24 through 10.9.0.2 is missing",
    ),
    (
        |f| {
            f.forward = dropped("router/r2", "lr_in_ip_routing", "1", 0);
            drift(f, "router-port/r2-right", true);
        },
        Culprit::Network,
        "router port `r2-right` is missing in OVN",
    ),
    (
        |f| {
            (f.to.end, f.to.address, f.to.wrote) = (None, "192.0.2.7".parse().ok(), "192.0.2.7".into());
            drift(f, "nat/r1/dnat_and_snat/192.0.2.7/10.2.0.9/32", false);
        },
        Culprit::Nat,
        "the dnat_and_snat of router `r1` at 192.0.2.7 is not as the file wants it",
    ),
    (
        |f| f.forward = Some(Traced::Asks { datapath: "router/r2".into() }),
        Culprit::GatewaySilent,
        "router `r2` gets no answer when it asks who has 10.2.0.9",
    ),
    (|f| f.forward = dropped("switch/left", "ls_in_apply_port_sec", "", 50), Culprit::PortSecurity, "the sender's address"),
    (|f| nic(b(f)).loss_ppm = 1_000_000, Culprit::Loss, "guest `b` loses every packet, as `testbed link set` asked"),
    (
        |f| (nic(b(f)).loss_ppm, nic(b(f)).loss_by_file) = (950_000, true),
        Culprit::Loss,
        "guest `b` loses 95 % of all packets, as its `impairment` in the file asks",
    ),
    (
        |f| nic(&mut f.from).link_fault = Some("its relay does not run".into()),
        Culprit::Loss,
        "eth0 of guest `a` passes nothing: its relay does not run",
    ),
    (
        |f| b(f).switch_down = Some(("h1".into(), "ovs-vswitchd has ended".into())),
        Culprit::OvnBehind,
        "Open vSwitch does not run on host `h1`, where guest `b` stands",
    ),
    (
        |f| (binding(b(f)).chassis, nic(b(f)).plugged) = (None, Some(false)),
        Culprit::Port,
        "no integration bridge holds an interface with its id",
    ),
    // Two segments, and no router of the file between them.
    (
        |f| {
            (inside(&mut f.from).way, nic(&mut f.from).gateway) = (None, None);
            (f.joined, f.bridges) = (false, true);
        },
        Culprit::Network,
        "no router joins the segment of bridge `left` of guest `a` and the segment of bridge `right` of guest `b`",
    ),
    // What somebody else has put on our routers.
    (
        |f| {
            f.forward = dropped("router/r1", "lr_in_policy", "ip4.dst == 10.2.0.9", 1000);
            f.foreign = vec![foreign(ForeignKind::Policy, 1000, "ip4.dst == 10.2.0.9")];
        },
        Culprit::Network,
        "a routing policy of router `r1` that the file does not have drops packets: priority 1000, `ip4.dst == 10.2.0.9`",
    ),
    (
        |f| {
            f.forward = Some(Traced::Asks { datapath: "router/r1".into() });
            f.foreign = vec![foreign(ForeignKind::Route, 0, "10.2.0.9/32")];
        },
        Culprit::RouterRoute,
        "router `r1` has a thing that the file does not have, and that may lead packets to 10.2.0.9 astray",
    ),
    // The edge of the testbed.
    (|f| outside(f, "192.0.2.8", Traffic::Tcp(8082)), Culprit::Nat, "leads tcp:8082 of 192.0.2.8 to a guest: it has tcp:8080"),
    (
        |f| {
            outside(f, "8.8.8.8", Traffic::Icmp);
            f.outside = Some(way_out(false, true));
        },
        Culprit::Nat,
        "get as far as this host (172.16.1.1 on `br-ex`), which does not send them on under an address of its own: `masquerade` is off",
    ),
    (
        |f| {
            outside(f, "8.8.8.8", Traffic::Icmp);
            f.outside = Some(way_out(true, false));
        },
        Culprit::Nat,
        "leave the testbed as 10.1.0.2, which nobody outside can answer: no `snat` rule covers it",
    ),
    (|f| f.by = Traffic::Tcp(81), Culprit::NotListening, "nothing listens on tcp:81 in guest `b`"),
    (
        |f| (f.by, f.probe) = (Traffic::Tcp(53), Probed::Failed("connection refused".into())),
        Culprit::NotListening,
        "on another address only",
    ),
    (
        |f| {
            f.by = Traffic::Icmp;
            inside(b(f)).ignores_echo = true;
        },
        Culprit::GuestFirewall,
        "ignores echo requests",
    ),
    (|f| inside(b(f)).rules = 3, Culprit::GuestFirewall, "3 rules that drop or reject"),
    (
        |f| inside(&mut f.from).silent = vec!["10.1.0.1".parse().expect("valid")],
        Culprit::GatewaySilent,
        "the gateway 10.1.0.1 does not answer",
    ),
    (|f| f.behind = Some("ovn-northd is at configuration 3 of 4".into()), Culprit::OvnBehind, "ovn-northd is at"),
    (|_| {}, Culprit::Unknown, "does not reach `b` (10.2.0.9) by tcp:80 (no answer within 3 s)"),
];

#[test]
fn each_fault_alone_is_named() {
    for (spoil, culprit, words) in CASES {
        let mut facts = facts();
        spoil(&mut facts);
        let verdict = diagnose(&facts);
        assert!(
            verdict.culprit == *culprit && verdict.sentence.contains(words) && !verdict.reachable,
            "{culprit:?} `{words}`: {verdict:#?}"
        );
        assert!(!verdict.sentence.ends_with('.') && !verdict.sentence.contains('\n'), "{}", verdict.sentence);
    }
}

#[test]
fn what_is_not_on_the_way_is_no_culprit() {
    // A row of somebody else's port, and a route that this way does not need: the end is what stays silent.
    let mut facts = facts();
    drift(&mut facts, "port/c/0", true);
    drift(&mut facts, "route/r7/10.7.0.0/24/10.9.0.7", true);
    facts.by = Traffic::Tcp(81);
    assert_eq!(diagnose(&facts).culprit, Culprit::NotListening);
}

#[test]
fn what_answers_is_reached_whatever_else_is_odd() {
    let mut facts = facts();
    facts.probe = Probed::Reached("connected".to_string());
    facts.forward = dropped("switch/right", "ls_out_acl", "tcp", 1900);
    let verdict = diagnose(&facts);
    assert_eq!(
        verdict,
        Verdict { reachable: true, culprit: Culprit::None, sentence: "`a` reaches `b` (10.2.0.9) by tcp:80: connected".into(), hint: None }
    );
    link(&mut facts.from).mtu = 1500;
    let verdict = diagnose(&facts);
    assert!(verdict.reachable && verdict.culprit == Culprit::Mtu && verdict.sentence.contains("MTU of 1500"), "{verdict:?}");
    link(&mut facts.from).mtu = 1442;
    link(b(&mut facts)).mtu = 600;
    let verdict = diagnose(&facts);
    assert!(
        verdict.reachable && verdict.culprit == Culprit::Mtu && verdict.sentence.contains("eth0 of `b` has an MTU of 600"),
        "{verdict:?}"
    );
    link(b(&mut facts)).mtu = 1442;
    // A name brings addresses of both versions of IP, and one was asked.
    let nic = facts.to.end.as_mut().and_then(|end| end.nic.as_mut()).expect("an interface");
    nic.addresses.push("2001:db8::9/64".parse().expect("valid"));
    let hint = diagnose(&facts).hint.expect("a hint");
    assert!(hint.contains("`testbed why a 2001:db8::9` asks by IPv6"), "{hint}");
    facts.to.wrote = "10.2.0.9".to_string();
    assert_eq!(diagnose(&facts).hint, None);
    facts.to.wrote = "b".to_string();
    // UDP needs no answer: delivered, and read, is as much as can be known.
    facts.probe = Probed::NotSent("who gets UDP need not answer".to_string());
    (facts.by, facts.forward) = (Traffic::Udp(53), Some(Traced::Delivered { port: "pb".to_string() }));
    assert!(diagnose(&facts).reachable);
}
