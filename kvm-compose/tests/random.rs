//! Ten thousand testbeds that nobody wrote: none panics or hangs, faults have places, and what must hold of a good one does.

mod fake;
mod sound;

use std::{fmt::Write as _, time::Duration};

use fake::FakeHost;
use kvm_compose::api::UpOptions;

/// As long as a text may take, in a build that is not optimised.
const LIMIT: Duration = Duration::from_secs(1);

/// Numbers that look random and are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// True once in so many times.
    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }
}

/// A testbed after the language's grammar. Names and addresses come from small pools, so that they meet.
struct Writer {
    dice: Dice,
    /// How often something is wrong: once in so many values; never when 0.
    wrong: usize,
}

const NAMES: &[&str] = &["web", "db", "a", "b-1", "x0", "client", "Node_1", "r", "lan"];
const SWITCHES: &[&str] = &["lan", "wan", "left", "right"];
const NETS: &[&str] = &["10.0.0", "10.1.0", "192.168.7", "172.16.3"];
const ODD: &[&str] = &[
    "",
    "~",
    "-1",
    "1e9",
    "99999999999999999999",
    "true",
    "[]",
    "{}",
    "[[[1]]]",
    "{a: {b: c}}",
    "\"\\u0000\"",
    "'ü☃'",
    "${A}",
    "\"${A:?no}\"",
    "\"${\"",
    "*a",
    "&a b",
    "!!int x",
    "10.0.0.300",
    "10.0.0.1/24",
    "fd00::1",
    "ff:ff:ff:ff:ff:ff",
    "dynamic",
    "0",
    "|\n  x",
    "? x",
    "\t",
    "\u{85}",
    "\u{202e}",
    "''",
];

impl Writer {
    fn value(&mut self, good: String) -> String {
        if self.wrong > 0 && self.dice.one_in(self.wrong) { self.dice.of(ODD).to_string() } else { good }
    }

    fn pick(&mut self, from: &[&str]) -> String {
        let good = self.dice.of(from).to_string();
        self.value(good)
    }

    fn number(&mut self, from: usize, to: usize) -> String {
        let good = (from + self.dice.below(to - from + 1)).to_string();
        self.value(good)
    }

    /// A key as it is, or sometimes mistyped.
    fn key(&mut self, key: &str) -> String {
        match self.wrong > 0 && self.dice.one_in(self.wrong * 3) {
            true => key.chars().rev().collect(),
            false => key.to_string(),
        }
    }

    fn address(&mut self, switch: usize) -> String {
        let host = if self.dice.one_in(30) { 255 } else { 2 + self.dice.below(12) };
        self.value(format!("{}.{host}", NETS[switch % NETS.len()]))
    }

    fn interface(&mut self) -> String {
        let index = self.dice.below(SWITCHES.len());
        let mut text = format!("{{{}: {}", self.key("switch"), self.value(SWITCHES[index].to_string()));
        match self.dice.below(4) {
            0 => drop(write!(text, ", ip: {}", self.address(index))),
            1 => text.push_str(", ip: dynamic"),
            _ => {}
        }
        if self.dice.one_in(6) {
            let good = format!("{}.1", NETS[index]);
            let _written = write!(text, ", gateway: {}", self.value(good));
        }
        if self.dice.one_in(6) {
            let good = format!("\"02:00:00:00:00:{:02x}\"", self.dice.below(40));
            let _written = write!(text, ", mac: {}", self.value(good));
        }
        if self.dice.one_in(8) {
            let delay = self.number(0, 100);
            let _written = write!(text, ", impairment: {{delay_ms: {delay}, loss_percent: {}}}", self.number(0, 5));
        }
        text + "}"
    }

    fn machine(&mut self, number: usize) -> String {
        let name = if self.dice.one_in(12) { self.pick(NAMES) } else { format!("g{number}") };
        let mut text = format!("  - {}: {name}\n", self.key("name"));
        if self.dice.one_in(6) {
            return text + &self.scaled();
        }
        let nics: Vec<String> = (0..self.dice.below(4)).map(|_| self.interface()).collect();
        let _written = writeln!(text, "    network: [{}]", nics.join(", "));
        if self.dice.one_in(8) {
            let on = self.dice.below(number + 1);
            let _written = writeln!(text, "    depends_on: [{}]", self.value(format!("g{on}")));
        }
        match self.dice.below(8) {
            6 => {
                let (image, name) = (self.pick(&["ubuntu_22_04", "debian_12", "none"]), self.key("name"));
                let _written = writeln!(
                    text,
                    "    libvirt: {{cpus: 1, memory_mb: 512, libvirt_type: {{cloud_image: {{{name}: {image}, expand_gigabytes: {}}}}}}}",
                    self.number(0, 20)
                );
            }
            7 => {
                let (command, volume) = (self.pick(&["sh -c 'a b'", "[a, b]", "\"'\""]), self.pick(&["${PWD}/x", "./y", "/z"]));
                let _written = writeln!(
                    text,
                    "    docker: {{image: nginx, command: {command}, {}: [{{source: \"{volume}\", target: /t}}]}}",
                    self.key("volumes")
                );
            }
            0 => {
                let (cpus, memory) = (self.number(1, 4), self.number(64, 512));
                let path = self.pick(&["disk.qcow2", "images/a.img", "${PWD}/x"]);
                let _written = writeln!(
                    text,
                    "    libvirt: {{cpus: {cpus}, memory_mb: {memory}, libvirt_type: {{existing_disk: {{path: \"{path}\", create_deep_copy: {}}}}}}}",
                    self.pick(&["true", "false"])
                );
            }
            1 => text.push_str("    micro:\n"),
            _ => {
                let (memory, cpus) = (self.number(96, 512), self.number(1, 4));
                let _written = write!(text, "    micro: {{memory_mb: {memory}, {}: {cpus}", self.key("cpus"));
                if self.dice.one_in(3) {
                    let _written = write!(text, ", environment: {{A: {}, B: \"$$x ${{A:-d}}\"}}", self.pick(NAMES));
                }
                if self.dice.one_in(4) {
                    let _written = write!(text, ", setup_script: {}", self.pick(&["a.sh", "b/c.sh"]));
                }
                text.push_str("}\n");
            }
        }
        if self.dice.one_in(5) {
            let _written = writeln!(text, "    ready: {{timeout_s: {}}}", self.number(1, 500));
        }
        if self.dice.one_in(20) {
            let _written = writeln!(text, "    labels: {{x: {}}}", self.pick(NAMES));
        }
        text
    }

    /// A machine of several clones, on one switch or two.
    fn scaled(&mut self) -> String {
        let count = 1 + self.dice.below(4);
        let mut text = match self.dice.below(2) {
            0 => String::from("    docker:\n      image: nginx:stable\n"),
            _ => String::from("    libvirt:\n      cpus: 1\n      memory_mb: 256\n      libvirt_type: {existing_disk: {path: a.img}}\n"),
        };
        let _written = writeln!(text, "      scaling:\n        count: {}\n        interfaces:", self.value(count.to_string()));
        for index in 0..1 + self.dice.below(2) {
            let clones: Vec<String> = (0..count).filter(|_| !self.dice.one_in(4)).map(|clone| clone.to_string()).collect();
            let (last, first) = (clones.len().max(1) - 1, 20 + self.dice.below(3));
            let clones = self.value(format!("[{}]", clones.join(", ")));
            let ip = match self.dice.one_in(2) {
                true => "dynamic".to_string(),
                false => format!("{{ip_range: {{from: {}.{first}, to: {}.{}}}}}", NETS[index], NETS[index], first + last),
            };
            let _written = writeln!(text, "          {}: {{clones: {clones}, ip_type: {}}}", self.key(SWITCHES[index]), self.value(ip));
        }
        text
    }

    /// The older form.
    fn bridges(&mut self) -> String {
        let mut text = String::from("machines:\n");
        for number in 0..self.dice.below(5) {
            let on: Vec<String> =
                (0..1 + self.dice.below(2)).map(|_| format!("{{{}: br{}}}", self.key("bridge"), self.number(0, 3))).collect();
            let _written = writeln!(text, "  - {{name: b{number}, micro: {{}}, interfaces: [{}]}}", on.join(", "));
        }
        text.push_str("  - {name: last, micro: {}}\nnetwork:\n  bridges:\n");
        for bridge in 0..4 {
            let _written = writeln!(text, "    - {{name: br{bridge}, {}: OpenFlow13}}", self.key("protocol"));
        }
        if self.dice.one_in(2) {
            let (one, other) = (self.number(0, 3), self.number(0, 3));
            let _written = writeln!(text, "  bridge_connections: {{br{one}: [br{other}, br{}]}}", self.number(0, 3));
        }
        if self.dice.one_in(3) {
            let _written = writeln!(text, "  external_bridge: br{}", self.number(0, 3));
        }
        text
    }

    fn network(&mut self) -> String {
        let mut text = String::from("network:\n  ovn:\n    switches:\n");
        for (index, (switch, net)) in SWITCHES.iter().zip(NETS).enumerate() {
            let prefix = if self.dice.one_in(10) { 28 } else { 24 };
            let subnet = self.value(format!("{net}.0/{prefix}"));
            let ipv6 = if self.dice.one_in(4) { format!(", ipv6: \"fd00:{}::/64\"", index + 1) } else { String::new() };
            let _written = writeln!(text, "      {}: {{{}: {subnet}{ipv6}}}", self.key(switch), self.key("subnet"));
        }
        let routers = self.dice.below(3);
        if routers > 0 {
            text.push_str("    routers:\n");
        }
        for router in 0..routers {
            let _written = writeln!(text, "      r{router}:\n        ports:");
            let mut on = Vec::new();
            for (index, switch) in SWITCHES.iter().enumerate() {
                if self.dice.one_in(2) {
                    let address = self.value(format!("{}.{}/24", NETS[index], 1 + router));
                    let _written = writeln!(text, "          - {{name: p{router}-{index}, gateway_ip: {address}, switch: {switch}}}");
                    on.push(index);
                }
            }
            if let (Some(first), true) = (on.first(), self.dice.one_in(2)) {
                let rule = format!(
                    "{{switch: {}, exclude_ips: {{from: {}.1, to: {}.{}}}}}",
                    SWITCHES[*first],
                    NETS[*first],
                    NETS[*first],
                    1 + self.dice.below(9)
                );
                let _written = writeln!(text, "        dhcp: [{}]", self.value(rule));
            }
            if let (Some(first), true) = (on.first(), self.dice.one_in(4)) {
                let route = format!("{{prefix: 10.{}.0.0/16, nexthop: {}.9}}", 50 + self.dice.below(3), NETS[*first]);
                let _written = writeln!(text, "        static_routes: [{}]", self.value(route));
            }
        }
        if self.dice.one_in(4) {
            let rule = format!("{{direction: to-lport, priority: {}, match: ip4, action: allow}}", self.number(0, 40000));
            let _written = writeln!(text, "    acl: {{apply_deny_all: true, switches: {{lan: [{}]}}}}", self.value(rule));
        }
        text
    }

    fn testbed(&mut self) -> String {
        if self.dice.one_in(12) {
            return self.bridges();
        }
        let count = self.dice.below(7);
        let machines: String = (0..count).map(|number| self.machine(number)).collect();
        let mut text = match count {
            0 => "machines: []\n".to_string(),
            _ => format!("{}:\n{machines}", self.key("machines")),
        };
        text.push_str(&self.network());
        if self.dice.one_in(6) {
            text = format!("include: part.yaml\n{text}%%% part.yaml\nmachines:\n{}", self.machine(50));
        }
        if self.dice.one_in(6) {
            text = format!("extends: base.yaml\n{text}%%% base.yaml\nmachines:\n{}", self.machine(0));
        }
        if self.dice.one_in(6) {
            let option = self.pick(&[
                "machines.g0.micro.memory_mb=200",
                "machines.0.name=zed",
                "network.ovn.switches.lan.subnet=10.9.0.0/24",
                "a=b",
                "machines.g1=",
                "x",
            ]);
            text = format!("{text}%%% set\n{option}\n");
        }
        if self.wrong > 0 && self.dice.one_in(4) {
            text = self.mangled(text);
        }
        text
    }

    /// Bytes, lines and whole parts cut, doubled and swapped.
    fn mangled(&mut self, text: String) -> String {
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        for _ in 0..1 + self.dice.below(4) {
            let at = self.dice.below(lines.len());
            match self.dice.below(5) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                2 => lines[at] = format!("  {}", lines[at]),
                3 => {
                    let cut = self.dice.below(lines[at].chars().count() + 1);
                    lines[at] = lines[at].chars().take(cut).collect();
                }
                _ => {
                    let other = self.dice.below(lines.len());
                    lines.swap(at, other);
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        lines.join("\n")
    }
}

fn testbeds(seed: u64, wrong: usize) -> impl Iterator<Item = String> {
    let mut writer = Writer { dice: Dice(seed), wrong };
    std::iter::from_fn(move || Some(writer.testbed()))
}

/// How many of the testbeds were refused, could not be placed, were planned.
fn fared(seed: u64, wrong: usize, count: usize) -> [usize; 3] {
    let mut fared = [0; 3];
    for (index, text) in testbeds(seed, wrong).take(count).enumerate() {
        let found = std::panic::catch_unwind(|| sound::check(&text, LIMIT));
        let found = found.unwrap_or_else(|_| panic!("number {index} of seed {seed}:\n{text}"));
        fared[found as usize] += 1;
    }
    fared
}

// Together ten thousand. That each kind says something about both ends is asserted, too.

#[test]
fn three_thousand_testbeds_by_the_grammar() {
    let fared = fared(1, 0, 3000);
    assert!(fared[0] > 300 && fared[2] > 1000, "{fared:?}");
}

#[test]
fn four_thousand_testbeds_with_a_mistake() {
    let fared = fared(2, 60, 4000);
    assert!(fared[0] > 1000 && fared[2] > 300, "{fared:?}");
}

#[test]
fn three_thousand_testbeds_with_many_mistakes() {
    let fared = fared(3, 12, 3000);
    assert!(fared[0] > 1000, "{fared:?}");
}

#[test]
fn after_what_was_planned_is_done_nothing_is_left_to_do() {
    let mut done = 0;
    for text in testbeds(4, 0).take(600) {
        let sources = sound::sources(&text);
        let Ok(loaded) = sound::load(&sources) else { continue };
        let host = FakeHost::default();
        let text = loaded.resolved().to_string();
        let wanted = fake::blueprint(&text, &host.world.lock().clone());
        fake::up(&host, &wanted, &UpOptions::default()).unwrap_or_else(|problem| panic!("{problem:?}\n{text}"));
        // With the addresses that the guests have now, as a server asks the second time.
        let world = host.world.lock().clone();
        let again = fake::blueprint(&text, &world);
        let left: Vec<String> = fake::steps(&host, &again).into_iter().map(|step| format!("{}: {}", step.id, step.reason)).collect();
        assert_eq!(left.iter().filter(|step| !step.starts_with("run/")).collect::<Vec<_>>(), Vec::<&String>::new(), "{text}");
        fake::down(&host).unwrap_or_else(|problem| panic!("{problem:?}\n{text}"));
        assert_eq!(host.world.lock().shape(), Default::default(), "{text}");
        done += 1;
    }
    assert!(done > 100, "{done}");
}
