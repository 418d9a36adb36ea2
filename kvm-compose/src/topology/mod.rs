//! What a testbed file means: defaults, MACs, addresses, references resolved.
//!
//! Pure. Must not know paths of a host, XML, or OVN rows.

mod bridges;
pub mod checks;
mod clones;
mod config;
mod config_guest;
mod config_network;
mod guests;
mod interface;
mod kinds;
mod limits;
mod links;
pub mod model;
mod model_guest;
mod nat;
mod relations;
mod resolve;
mod routers;
mod shape;
mod switches;

use std::rc::Rc;

pub use model::*;

use crate::{
    diagnostic::{Diagnostic, Severity, problem_of},
    error::Problem,
    names::DeploymentName,
    spec::{
        self, Sources,
        model::Spec,
        reader::{NOT_YET, Reader},
    },
};

/// Reads and resolves a testbed file that stands alone. `file` is its name for messages.
pub fn load(file: &str, text: &str, deployment: &DeploymentName, leases: &Leases) -> Result<Loaded, Problem> {
    load_all(&Sources::alone(file, text), deployment, leases)
}

/// Reads and resolves a testbed.
///
/// Fails with `invalid_file` (or `unsupported`, when that is all there is) and every fault of the file in `diagnostics`.
pub fn load_all(sources: &Sources, deployment: &DeploymentName, leases: &Leases) -> Result<Loaded, Problem> {
    let (spec, mut reader) = spec::parse(sources);
    let bridges = spec.as_ref().is_some_and(|spec| spec.network.bridges.is_some());
    let topology = spec.map(|spec| resolve_spec(spec, deployment, leases, &mut reader));
    let diagnostics = reader.into_diagnostics();
    if let Some(problem) = problem_of(&sources.file, diagnostics.clone()) {
        return Err(problem);
    }
    let topology = topology.ok_or_else(|| Problem::internal("a file without faults gave no topology"))?;
    let warnings = diagnostics.into_iter().filter(|d| d.severity == Severity::Warning).collect();
    Ok(Loaded { topology, bridges, warnings })
}

impl Loaded {
    /// What the file says, defaults filled in: `testbed config`.
    pub fn resolved(&self) -> serde_json::Value {
        spec::compose::written(config::document(&self.topology))
    }
}

/// What `up` refuses of a file, all of it at once: keys of the language that this version cannot act on yet.
pub fn refused(file: &str, loaded: &Loaded) -> Option<Problem> {
    let mut refused: Vec<Diagnostic> = loaded.warnings.iter().filter(|warning| warning.code == NOT_YET).cloned().collect();
    for fault in &mut refused {
        fault.severity = Severity::Error;
        fault.code = "E090".to_string();
        fault.hint = Some("take it out, or use a version that acts on it; `testbed validate` lists all of these".to_string());
    }
    let many = refused.len();
    let problem = problem_of(file, refused)?;
    let message = if many == 1 { problem.message.clone() } else { format!("`{file}` asks for {many} things that this version cannot do") };
    Some(Problem { message, ..problem })
}

/// Warnings without those of what `up` refuses: the server that is asked may act on it.
pub fn without_refused(warnings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    warnings.into_iter().filter(|warning| warning.code != NOT_YET).collect()
}

/// What could be understood of a testbed, faults or not: to look at the files that it names.
pub fn understood(sources: &Sources, deployment: &DeploymentName) -> Option<Topology> {
    let (spec, mut reader) = spec::parse(sources);
    spec.map(|spec| resolve_spec(spec, deployment, &Leases::new(), &mut reader))
}

/// Resolves what was read; faults go to the reader, so that those of structure and those of meaning come out together.
fn resolve_spec(spec: Spec, deployment: &DeploymentName, leases: &Leases, reader: &mut Reader) -> Topology {
    let spec = bridges::as_switches(spec, deployment, reader);
    let Some((mut machines, scaled)) = clones::written_out(spec.machines, reader) else { return Topology::nothing(deployment) };
    guests::limit_nics(&mut machines, reader);
    let ovn = &spec.network.ovn;
    limits::check(ovn, &machines, reader);
    let mut segments = resolve::Segments::new(&ovn.switches, reader);
    let mut routers = routers::routers(&ovn.routers, deployment, &mut segments, reader);
    switches::ports(&ovn.switches, deployment, &mut segments, reader);
    let mut guests = guests::guests(&machines, deployment, leases, &mut segments, reader);
    // After the guests, which look at their switch again and again: it is light until it has its rules.
    switches::acls(ovn.acl.as_ref(), &mut segments, reader);
    let partly = guests::partly(&machines, &guests);
    let wires = links::links(&spec.network.links, &machines, deployment, &mut guests, &mut segments, reader);
    switches::check_impairments(&ovn.switches, &machines, reader);
    switches::check_port_names(ovn.acl.as_ref(), &segments, &routers, &guests, reader);
    nat::nat(&ovn.routers, &mut routers, &mut segments, reader);
    relations::resolve(&mut guests, &machines, &scaled, reader);
    let checks = checks::checks(&spec.checks, &guests, &partly, reader);
    Topology {
        deployment: deployment.clone(),
        switches: segments.switches.into_values().map(Rc::unwrap_or_clone).collect(),
        routers,
        guests,
        scaled,
        labels: spec.labels.into_iter().map(|(key, value)| (key, value.value)).collect(),
        wires,
        checks,
        dns: ovn.dns.as_ref().is_none_or(|dns| dns.value),
    }
}
