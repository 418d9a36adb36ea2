//! From text to plan, timed phase by phase.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use kvm_compose::{
    names::{DeploymentName, InstallationId},
    orchestrate,
    plan::{self, anywhere, blueprint::Blueprint, site::ProjectFiles},
    topology::{self, Leases},
};
use serde::{Deserialize, Serialize};

/// How long each phase took, in milliseconds, and how much memory the process had at most.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Times {
    /// Text to topology: parsing, resolving, the resolved document.
    pub load: f64,
    /// Hosts chosen.
    pub place: f64,
    /// Paths, XML, rows.
    pub lower: f64,
    /// Steps, with their descriptions.
    pub diff: f64,
    /// Processor time of everything together, in milliseconds: what it takes where nobody else wants the processor.
    pub processor: f64,
    /// Bytes of the file.
    pub bytes: usize,
    /// Steps of the plan.
    pub steps: usize,
    /// `VmHWM`, in MB (10⁶ bytes).
    pub memory: f64,
}

impl Times {
    /// Everything together.
    pub fn total(&self) -> f64 {
        self.load + self.place + self.lower + self.diff
    }
}

/// Plans a testbed file as `testbed plan --offline` does.
pub fn plan(text: &str, installation: InstallationId, deployment: &DeploymentName) -> Result<(Blueprint, Times)> {
    let told = |problem: kvm_compose::error::Problem| anyhow!("{problem} {:?}", problem.diagnostics.first());
    let mut times = Times { bytes: text.len(), ..Times::default() };
    let begun = processor()?;
    let mut mark = Instant::now();
    let mut lap = |place: &mut f64| {
        *place = mark.elapsed().as_secs_f64() * 1000.0;
        mark = Instant::now();
    };
    let loaded = topology::load("kvm-compose.yaml", text, deployment, &Leases::new()).map_err(told)?;
    lap(&mut times.load);
    let mut hosts = anywhere::hosts(&loaded.topology).map_err(told)?;
    hosts.master.installation = installation;
    let places = plan::place(&loaded.topology.guests, &hosts).map_err(told)?;
    lap(&mut times.place);
    let blueprint = plan::lower(&loaded.topology, &hosts, &places, &ProjectFiles::default(), &plan::Sums::new()).map_err(told)?;
    lap(&mut times.lower);
    let document = orchestrate::plan_from_nothing(&blueprint);
    lap(&mut times.diff);
    times.processor = processor()? - begun;
    times.steps = document.steps.len();
    times.memory = peak()?;
    Ok((blueprint, times))
}

/// The most memory that this process had so far (proc(5), `VmHWM`), in MB.
fn peak() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// The processor time of this thread so far (proc(5), `schedstat`), in milliseconds.
fn processor() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().context("no time in /proc/thread-self/schedstat")?.parse()?;
    Ok(nanoseconds / 1e6)
}
