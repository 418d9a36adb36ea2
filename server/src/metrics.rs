//! Counts, and their Prometheus text (exposition format 0.0.4).
//!
//! Must not know where the counts come from.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use kvm_compose::api::{ActionState, Command};
use parking_lot::Mutex;

/// What is counted from the start of the server on.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<u16, u64>>,
    actions: Mutex<BTreeMap<(String, String), u64>>,
    followers: AtomicUsize,
}

/// Counts a follower for as long as it lives.
pub struct Following<'a>(&'a Metrics);

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is asked at the moment of the scrape.
pub struct Snapshot {
    /// Deployments by state.
    pub deployments: BTreeMap<String, usize>,
    /// Actions at work.
    pub running: usize,
}

impl Metrics {
    /// Counts a request by the status of its response.
    pub fn request_ended(&self, status: u16) {
        *self.requests.lock().entry(status).or_default() += 1;
    }

    /// Counts an action by what came of it.
    pub fn action_ended(&self, command: Command, state: ActionState) {
        *self.actions.lock().entry((command.to_string(), state.to_string())).or_default() += 1;
    }

    /// Counts a follower of a log.
    pub fn follow(&self) -> Following<'_> {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Following(self)
    }

    /// How many followers there are.
    pub fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    /// All of it as Prometheus text.
    pub fn text(&self, now: &Snapshot) -> String {
        let mut page = Page::default();
        page.family("testbedos_build_info", "gauge", "Version of the server.");
        page.sample("testbedos_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.family("testbedos_deployments", "gauge", "Deployments by state.");
        for state in ["running", "up", "down", "failed"] {
            page.sample("testbedos_deployments", &[("state", state)], now.deployments.get(state).copied().unwrap_or(0));
        }
        page.family("testbedos_actions_total", "counter", "Actions that ended, by command and state.");
        for ((command, state), count) in self.actions.lock().iter() {
            page.sample("testbedos_actions_total", &[("command", command), ("state", state)], count);
        }
        page.family("testbedos_actions_running", "gauge", "Actions at work.");
        page.sample("testbedos_actions_running", &[], now.running);
        page.family("testbedos_log_followers", "gauge", "Websockets that follow a log or the events.");
        page.sample("testbedos_log_followers", &[], self.followers());
        page.family("testbedos_http_requests_total", "counter", "Requests by status of the response.");
        for (status, count) in self.requests.lock().iter() {
            page.sample("testbedos_http_requests_total", &[("status", &status.to_string())], count);
        }
        page.family("process_resident_memory_bytes", "gauge", "Resident memory.");
        page.sample("process_resident_memory_bytes", &[], resident_bytes());
        page.text
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.text, "{name}{labels} {value}").ok();
    }
}

/// Resident memory of this process, in bytes; 0 where the kernel does not tell.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
