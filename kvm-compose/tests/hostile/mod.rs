//! Texts as large as a testbed may be, about two MiB: one for each thing of which there may be many.

pub mod faults;
pub mod guests;
pub mod networks;
pub mod references;

use kvm_compose::spec::node::MAX_BYTES;

/// A text, its name, and the code of the fault that it must have; none when it is a testbed.
pub type Row = (&'static str, String, Option<&'static str>);

/// A build that is not optimised takes such a part of everything.
pub const PART: usize = if cfg!(debug_assertions) { 8 } else { 1 };
/// As many guests as there may be.
const GUESTS: usize = part(12_000);

const fn part(count: usize) -> usize {
    count / PART
}

/// Head, as many items as fit between, tail.
fn full(head: &str, item: impl Fn(usize) -> String, tail: &str) -> String {
    filled(MAX_BYTES / PART, usize::MAX, head, item, tail)
}

/// The same with so many items at most.
fn some(most: usize, head: &str, item: impl Fn(usize) -> String, tail: &str) -> String {
    filled(MAX_BYTES / PART, most, head, item, tail)
}

fn filled(size: usize, most: usize, head: &str, item: impl Fn(usize) -> String, tail: &str) -> String {
    let mut text = head.to_string();
    for number in 0..most {
        let item = item(number);
        if text.len() + item.len() + tail.len() > size {
            break;
        }
        text.push_str(&item);
    }
    text + tail
}

/// Lines without an end.
fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

/// 10.a.b.c, counted.
fn ten(number: usize) -> String {
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

/// An address of the subnet of that number and of that prefix length.
fn on(number: usize, length: usize, host: usize) -> String {
    ten(((number + 1) << (32 - length)) + host)
}

const LAN: &str = "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/8}}}}\n";
const NOBODY: &str = "machines: []\n";
const ONE: &str = "machines: [{name: a, micro: , network: [{switch: lan}]}]\n";
/// A network of a switch, up to its routers.
const ROUTERS: &str = "machines: []\nnetwork:\n  ovn:\n    switches: {lan: {subnet: 10.0.0.0/8}}\n    routers:\n";
/// The same up to the switches.
const SWITCHES: &str = "machines: []\nnetwork:\n  ovn:\n    switches:\n";
/// A switch up to its ports.
const PORTS: &str = "machines: []\nnetwork:\n  ovn:\n    switches:\n      s:\n        subnet: 10.0.0.0/8\n        ports:\n";

fn guest(number: usize) -> String {
    format!("- {{name: g{number}, micro: , network: [{{switch: lan}}], labels: {{course: networks-{number}, group: n{number}}}}}\n")
}

/// A guest with something beside its kind.
fn guest_with(number: usize, keys: &str) -> String {
    guest(number).replace("micro: ", &format!("micro: , {keys}"))
}

fn machines(item: impl Fn(usize) -> String) -> String {
    some(GUESTS, "machines:\n", item, LAN)
}

/// Machines whose network is this.
fn plugged(network: impl Fn(usize) -> String) -> String {
    machines(|n| format!("- {{name: g{n}, micro: , network: [{}]}}\n", network(n)))
}

/// Below a router that has a port in 10.0.0.0/8.
fn router(keys: &str, item: impl Fn(usize) -> String) -> String {
    let port = "{name: p, gateway_ip: 10.255.255.254/8, switch: lan, set_gateway_chassis: main}";
    full(&format!("{ROUTERS}      r:\n        ports: [{port}]\n        {keys}:\n"), |number| format!("        - {}\n", item(number)), "")
}

/// Routers on one switch.
fn routers(address: impl Fn(usize) -> String) -> String {
    full(ROUTERS, |n| format!("      r{n}: {{ports: [{{name: p{n}, gateway_ip: {}/8, switch: lan}}]}}\n", address(n)), "")
}

/// Switches with a subnet each.
fn nets(count: usize, length: usize) -> String {
    lines(count, |n| format!("      s{n}: {{subnet: {}/{length}}}\n", on(n, length, 0)))
}

/// Ports of one router on such switches.
fn ports(count: usize, length: usize) -> String {
    lines(count, |n| format!("        - {{name: p{n}, gateway_ip: {}/{length}, switch: s{n}}}\n", on(n, length, 1)))
}

fn rules(item: impl Fn(usize) -> String) -> String {
    let head = format!("{ONE}network:\n  ovn:\n    switches: {{lan: {{subnet: 10.0.0.0/8}}}}\n    acl:\n      switches:\n        lan:\n");
    full(&head, |number| format!("        - {}\n", item(number)), "")
}

fn links(most: usize, item: impl Fn(usize) -> String) -> String {
    let machines = lines(GUESTS, |number| format!("- {{name: g{number}, micro: }}\n"));
    some(most, &format!("machines:\n{machines}network:\n  links:\n"), |n| format!("  - {}\n", item(n)), "")
}

fn checks(item: impl Fn(usize) -> String) -> String {
    full(&format!("{ONE}{LAN}checks:\n"), |n| format!("- {}\n", item(n)), "")
}

fn labels(item: impl Fn(usize) -> String) -> String {
    full(&format!("{ONE}{LAN}labels:\n"), |n| format!("  {}\n", item(n)), "")
}

/// One long command.
fn command(item: impl Fn(usize) -> String, tail: &str) -> String {
    full(&format!("{ONE}{LAN}checks:\n- exec:\n    guest: a\n    command: \""), item, tail)
}

fn bridges(count: usize, most: usize, connections: impl Fn(usize) -> String) -> String {
    let bridges = lines(count, |number| format!("b{number}, "));
    some(most, &format!("{NOBODY}network:\n  bridges: [{bridges}]\n  bridge_connections:\n"), connections, "")
}

/// A machine with clones, without its network.
fn clones(name: &str, count: usize, below: &str) -> String {
    let disk = "libvirt_type: {existing_disk: {path: a.img, driver_type: qcow2}}";
    format!("- name: {name}\n  libvirt:\n    cpus: 1\n    memory_mb: 64\n    {disk}\n    scaling:\n      count: {count}\n{below}")
}

/// A testbed of such machines.
fn cloned(machines: &str) -> String {
    format!("machines:\n{machines}{LAN}")
}

/// Files that stand on each other.
fn files(count: usize, text: impl Fn(usize) -> String) -> String {
    lines(count, |number| format!("%%% f{number}.yaml\n{}", text(number)))
}
