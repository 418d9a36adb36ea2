//! Conditions that the kernel applies itself, where it can: netem (tc-netem(8)) on the way out of a device, or a token bucket
//! (tc-tbf(8)) for a rate alone. Packets to the guest leave by its TAP device; those from it enter there, and pass through an
//! intermediate device (ifb) first, which only the kernel's own datapath of Open vSwitch waits for.
//!
//! The choice and the commands are pure. What is asked stands in the `external_ids` of the guest's port, so that looks find it.

use std::{sync::OnceLock, time::Duration};

use serde_json::Value;
use uuid::Uuid;

use super::device;
use crate::{
    backend::files::process::{Call, Finished},
    error::{Code, Problem},
    orchestrate::host::Cancel,
    topology::{Conditions, Shape},
};

/// How long tc(8) and ip(8) may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Packets that netem holds at most; its default of 1000 drops at 40 ms of a gigabit.
const HELD: &str = "100000";
/// What may wait for its turn at a rate, as in the relay: 100 ms of it, and 32 KiB in any case.
const LEAST_QUEUE: u64 = 32 << 10;
/// A bucket that takes the largest frame, and a millisecond of the rate.
const LEAST_BURST: u64 = 3000;

/// What this kernel can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// It has netem.
    pub netem: bool,
    /// It has the token bucket filter.
    pub tbf: bool,
    /// It can lead what enters a device through an intermediate one, and Open vSwitch waits for it.
    pub inbound: bool,
}

/// Commands that make the kernel apply a shape to a guest's TAP device; nothing when it cannot.
pub fn commands(shape: &Shape, tap: &str, port: Uuid, alias: &str, abilities: Abilities) -> Option<Vec<Vec<String>>> {
    let mut commands = Vec::new();
    if shape.to_guest != Conditions::default() {
        commands.push(qdisc(tap, &shape.to_guest, abilities)?);
    }
    if shape.from_guest != Conditions::default() {
        if !abilities.inbound {
            return None;
        }
        let inner = inbound_name(port);
        commands.push(words(&["ip", "link", "add", "name", &inner, "type", "ifb"]));
        commands.push(words(&["ip", "link", "set", "dev", &inner, "alias", alias, "up"]));
        commands.push(qdisc(&inner, &shape.from_guest, abilities)?);
        commands.push(words(&["tc", "qdisc", "replace", "dev", tap, "ingress"]));
        commands.push(words(&[
            "tc", "filter", "replace", "dev", tap, "parent", "ffff:", "protocol", "all", "prio", "1", "handle", "800::1", "u32", "match",
            "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", &inner,
        ]));
    }
    Some(commands)
}

/// Commands that take it away again; each may fail for want of what it takes away.
pub fn removal(tap: &str, port: Uuid) -> Vec<Vec<String>> {
    vec![
        words(&["tc", "qdisc", "replace", "dev", tap, "root", "noqueue"]),
        words(&["tc", "qdisc", "del", "dev", tap, "ingress"]),
        words(&["ip", "link", "del", "dev", &inbound_name(port)]),
    ]
}

fn inbound_name(port: Uuid) -> String {
    device::inbound_name_of(port)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// The queueing discipline for one direction; nothing when the kernel has none that does it.
fn qdisc(device: &str, of: &Conditions, abilities: Abilities) -> Option<Vec<String>> {
    let mut command = words(&["tc", "qdisc", "replace", "dev", device, "root"]);
    let only_rate = Conditions { rate_kbit: None, ..*of } == Conditions::default();
    match of.rate_kbit {
        Some(rate) if only_rate && abilities.tbf => {
            let burst = (rate / 8).max(LEAST_BURST);
            let limit = (rate * 100 / 8).max(LEAST_QUEUE) + burst;
            command.extend(words(&["tbf", "rate", &format!("{rate}kbit"), "burst", &burst.to_string(), "limit", &limit.to_string()]));
            return Some(command);
        }
        _ if !abilities.netem => return None,
        rate => {
            command.extend(words(&["netem", "limit", HELD]));
            let percent = |ppm: u32| format!("{}%", f64::from(ppm) / 10_000.0);
            if of.delay_us > 0 {
                command.extend(words(&["delay", &format!("{}us", of.delay_us)]));
                if of.jitter_us > 0 {
                    command.push(format!("{}us", of.jitter_us));
                }
            }
            for (word, ppm) in [("loss", of.loss_ppm), ("duplicate", of.duplicate_ppm), ("reorder", of.reorder_ppm)] {
                if ppm > 0 {
                    command.extend(words(&[word, &percent(ppm)]));
                }
            }
            if let Some(rate) = rate {
                command.extend(words(&["rate", &format!("{rate}kbit")]));
            }
        }
    }
    Some(command)
}

/// What this kernel can do, found out once by trying it on a device of our own.
pub fn abilities(datapath_is_kernels: bool, cancel: &Cancel) -> Abilities {
    static KNOWN: OnceLock<(bool, bool, bool)> = OnceLock::new();
    let (netem, tbf, ifb) = *KNOWN.get_or_init(|| {
        let name = format!("tbq{}", std::process::id());
        let ran = |command: &str| Call::new(command.split_whitespace(), LIMIT).run(cancel).is_ok_and(|ended| ended.status.success());
        let made = ran(&format!("ip tuntap add dev {name} mode tap"));
        let root = |rest: &str| made && ran(&format!("tc qdisc replace dev {name} root {rest}"));
        let (netem, tbf) = (root("netem delay 1ms"), root("tbf rate 1mbit burst 3000 latency 100ms"));
        let _gone = ran(&format!("ip link del dev {name}"));
        let ifb = ran(&format!("ip link add name {name} type ifb"));
        let _gone = ran(&format!("ip link del dev {name}"));
        tracing::info!(netem, tbf, ifb, "what the kernel can do to links");
        (netem, tbf, ifb)
    });
    Abilities { netem, tbf, inbound: ifb && datapath_is_kernels }
}

/// Runs commands; the first failure ends it.
pub fn run(commands: &[Vec<String>], label: &str, cancel: &Cancel) -> Result<(), Problem> {
    for command in commands {
        let Finished { argv, status, stderr, .. } = Call::new(command.clone(), LIMIT).run(cancel)?;
        let words = String::from_utf8_lossy(&stderr).trim().to_string();
        // The device that leads inwards may be there from before.
        if !status.success() && !words.contains("File exists") {
            return Err(Problem::new(Code::Link, format!("the kernel does not take the conditions of `{label}`"))
                .cause(format!("`{}`: {words}", argv.join(" "))));
        }
    }
    Ok(())
}

/// Takes the kernel's conditions off a device; what is not there is not missed.
pub fn clear(tap: &str, port: Uuid, cancel: &Cancel) -> Result<(), Problem> {
    removal(tap, port).into_iter().try_for_each(|command| Call::new(command, LIMIT).run(cancel).map(drop))
}

/// A queue's counts: packets and bytes that left, packets dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that left.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets dropped.
    pub dropped: u64,
}

/// Counts of the two directions of a link.
pub fn counts(tap: &str, port: Uuid) -> Result<(Counts, Counts), Problem> {
    let cancel = Cancel::new();
    let of = |device: &str| -> Result<Counts, Problem> {
        let ended = Call::new(["tc", "-s", "-j", "qdisc", "show", "dev", device, "root"], LIMIT).run(&cancel)?;
        Ok(read_counts(&serde_json::from_slice(&ended.stdout).unwrap_or(Value::Null)))
    };
    Ok((of(tap)?, of(&inbound_name(port))?))
}

fn read_counts(answer: &Value) -> Counts {
    let number = |key: &str| answer[0][key].as_u64().unwrap_or(0);
    Counts { packets: number("packets"), bytes: number("bytes"), dropped: number("drops") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities { netem: true, tbf: true, inbound: true };

    fn lines(to_guest: Conditions, from_guest: Conditions, abilities: Abilities) -> Option<Vec<String>> {
        let port = Uuid::from_u128(0x0123_4567_89ab_0000_0000_0000_0000_0000);
        let commands = commands(&Shape { to_guest, from_guest }, "vnet3", port, "mark", abilities);
        commands.map(|commands| commands.iter().map(|command| command.join(" ")).collect())
    }

    #[test]
    fn conditions_become_netem_and_a_rate_alone_a_token_bucket() {
        let all = Conditions {
            delay_us: 25_000,
            jitter_us: 5_000,
            loss_ppm: 50_000,
            duplicate_ppm: 10_000,
            reorder_ppm: 2_500,
            rate_kbit: Some(10_000),
        };
        let plain = Conditions::default();
        assert_eq!(
            lines(all, plain, ALL).expect("possible"),
            ["tc qdisc replace dev vnet3 root netem limit 100000 delay 25000us 5000us loss 5% duplicate 1% reorder 0.25% rate 10000kbit"]
        );
        let rate = Conditions { rate_kbit: Some(64), ..plain };
        let bucket = "tc qdisc replace dev vnet3 root tbf rate 64kbit burst 3000 limit 35768";
        assert_eq!(lines(rate, plain, ALL).expect("possible"), [bucket]);
        assert_eq!(lines(rate, plain, Abilities { tbf: true, ..Abilities::default() }).expect("possible"), [bucket]);
        assert!(
            lines(rate, plain, Abilities { netem: true, ..Abilities::default() }).expect("possible")[0]
                .ends_with("netem limit 100000 rate 64kbit")
        );
        assert_eq!(lines(plain, plain, Abilities::default()), Some(Vec::new()));
    }

    #[test]
    fn what_enters_goes_through_a_device_of_its_own() {
        let slow = Conditions { delay_us: 1_000, ..Conditions::default() };
        let commands = lines(Conditions::default(), slow, ALL).expect("possible");
        assert_eq!(commands[0], "ip link add name tbi0123456789 type ifb");
        assert_eq!(commands[2], "tc qdisc replace dev tbi0123456789 root netem limit 100000 delay 1000us");
        assert!(commands[4].ends_with("mirred egress redirect dev tbi0123456789"), "{commands:?}");
    }

    #[test]
    fn what_this_kernel_cannot_do_is_left_to_the_relay() {
        let (plain, slow) = (Conditions::default(), Conditions { delay_us: 1_000, ..Conditions::default() });
        let rate = Conditions { rate_kbit: Some(64), ..plain };
        let without_netem = Abilities { netem: false, ..ALL };
        let userspace = Abilities { inbound: false, ..ALL };
        assert_eq!(lines(slow, plain, without_netem), None);
        assert_eq!(lines(Conditions { delay_us: 1, ..rate }, plain, without_netem), None);
        assert_eq!(lines(plain, rate, userspace), None);
        assert_eq!(lines(slow, slow, userspace), None);
        assert_eq!(lines(rate, plain, Abilities::default()), None);
    }

    #[test]
    fn counts_are_read() {
        let answer = serde_json::json!([{"kind": "tbf", "bytes": 4200, "packets": 42, "drops": 3}]);
        assert_eq!(read_counts(&answer), Counts { packets: 42, bytes: 4200, dropped: 3 });
        assert_eq!(read_counts(&Value::Null), Counts::default());
    }
}
