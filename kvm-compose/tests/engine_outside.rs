//! Hosts' bridges and interfaces, on a world in memory: made before what needs them, changed in place, removed alone.

mod fake;

use fake::{FakeHost, World, blueprint, deployment, down, hosts, steps, up};
use kvm_compose::{
    api::UpOptions,
    error::Code,
    orchestrate::host::Host,
    plan::{
        self,
        site::ProjectFiles,
        step::{Impact, Step, Work},
    },
    topology::{self, Leases},
};

const LOCALNET: &str = include_str!("../../examples/localnet/kvm-compose.yaml");
const NAT: &str = include_str!("../../examples/nat/kvm-compose.yaml");

fn ids(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.id.as_str()).collect()
}

#[test]
fn an_interface_of_the_host_comes_after_its_port_changes_in_place_and_goes_before_it() {
    let host = FakeHost::default();
    let wanted = blueprint(LOCALNET, &World::default());
    up(&host, &wanted, &UpOptions::default()).expect("it comes up");
    assert_eq!(ids(&steps(&host, &wanted)), [""; 0]);
    let world = host.world.lock().clone();
    let moved = blueprint(&LOCALNET.replace("ip: 10.73.0.2", "ip: 10.73.0.3"), &world);
    let plan = steps(&host, &moved);
    assert_eq!(ids(&plan), ["network", "plug/host-port"]);
    assert_eq!((plan[1].impact, plan[1].reason.as_str()), (Impact::InPlace, "its address changed"));
    // Taking it back is the address before, not the end of the interface.
    assert!(matches!(&plan[1].undo, Some(Work::PlugInternal { port }) if port.address.to_string() == "10.73.0.2/24"), "{:?}", plan[1].undo);
    let renamed = blueprint(&LOCALNET.replace("name: host-port", "name: other"), &world);
    let plan = steps(&host, &renamed);
    assert_eq!(ids(&plan), ["unplug/host-port", "network", "plug/other"]);
    assert!(plan.iter().all(|step| step.guests.is_empty()));
    up(&host, &renamed, &UpOptions::default()).expect("changed");
    let there = host.world.lock().internals.len();
    assert_eq!(there, 1);
    down(&host).expect("it goes down");
    let left = host.world.lock().clone();
    assert_eq!((left.internals.len(), left.uplinks.len()), (0, 1), "the host's bridge stays");
    assert!(host.observe(&deployment(), None).expect("it answers").is_nothing());
}

#[test]
fn a_bridge_is_made_where_traffic_leaves_and_a_network_that_no_host_has_is_refused_at_its_line() {
    let on_member = NAT.replace("set_gateway_chassis: main", "set_gateway_chassis: h1");
    let plan = steps(&FakeHost::default(), &blueprint(&on_member, &World::default()));
    assert_eq!(ids(&plan)[..2], ["uplink/public@h1", "network"]);
    assert_eq!(plan[0].host.as_str(), "h1");

    let mut hosts = hosts();
    hosts.members[0].mappings.clear();
    let refused = |text: &str| {
        let loaded = topology::load("kvm-compose.yaml", text, &deployment(), &Leases::new()).expect("a good file");
        let places = plan::place(&loaded.topology.guests, &hosts).expect("they fit");
        plan::lower(&loaded.topology, &hosts, &places, &ProjectFiles::default(), &plan::Sums::new()).err()
    };
    assert_eq!(refused(NAT), None);
    let problem = refused(&on_member).expect("h1 maps nothing");
    assert_eq!((problem.code, problem.at.map(|at| at.line)), (Code::Unsupported, Some(45)));
    assert!(problem.hint.is_some_and(|hint| hint.contains("host.json of host `h1` maps: nothing")));
}
