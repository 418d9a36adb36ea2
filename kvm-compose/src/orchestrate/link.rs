//! Changing one link while its guest runs, outside an `up`: the same steps, journalled and taken back as any other.
//!
//! Must not know how a link is shaped.

use super::{Operation, execute, unwind};
use crate::{
    api::link::{Carrier, SetLink},
    error::{Code, Problem},
    orchestrate::{
        event::EventKind,
        execute::{Direction, OnFailure},
        host::Host,
    },
    plan::{
        blueprint::Blueprint,
        describe,
        link::{Link, ObservedLink},
        link_report,
        step::{Impact, Plan, Step, StepId, Work},
    },
    topology::Shape,
};

/// Makes a guest's link as the request says. What the file says is left to the next `up`.
pub fn set_link(host: &dyn Host, blueprint: &Blueprint, request: &SetLink, operation: &Operation<'_>) -> Result<(), Problem> {
    let link = link_report::named(blueprint, request)?;
    let plan = plan(host, blueprint, request, link)?;
    operation.sink.emit(EventKind::Planned { steps: plan.steps.iter().map(describe::planned).collect() })?;
    let ran = execute(host, &plan, &blueprint.deployment, operation, OnFailure::Stop, Direction::Forward);
    let Some((_, problem)) = ran.failures.first().cloned() else { return Ok(()) };
    unwind(host, &plan, &ran, blueprint, operation).map_or(Err(problem.clone()), |left| Err(problem.cause(left)))
}

fn plan(host: &dyn Host, blueprint: &Blueprint, request: &SetLink, link: &Link) -> Result<Plan, Problem> {
    let observed = host.observe(&blueprint.deployment, Some(blueprint))?;
    let domain = observed.domains.iter().find(|domain| domain.guest == request.guest && domain.active).ok_or_else(|| {
        Problem::new(Code::Conflict, format!("guest `{}` does not run, so its link cannot be changed", request.guest))
            .hint("`testbed up` starts it")
    })?;
    let there = observed.links.iter().map(|there| &there.what).find(|there| there.port == link.port);
    let now = there.map_or_else(Shape::default, |there| there.shape);
    let wanted = link_report::changed(&now, request)?;
    let mut steps = Vec::new();
    let mut step = |id: &str, work: Work, undo: Option<Work>| {
        steps.push(Step {
            id: StepId::new(format!("{id}/{}:{}", request.guest, request.interface)),
            host: domain.host.clone(),
            work,
            needs: Vec::new(),
            reason: "asked for".to_string(),
            impact: Impact::InPlace,
            guests: vec![request.guest.clone()],
            traffic: Vec::new(),
            undo,
        });
    };
    let shaped = |shape: Shape, before: Option<Shape>| Work::ShapeLink {
        guest: request.guest.clone(),
        link: Link { shape, ..link.clone() },
        before,
    };
    match there {
        None if wanted.is_plain() => {}
        Some(ObservedLink { fault: None, .. }) if wanted == now => {}
        Some(_) if wanted.is_plain() => {
            let label = format!("{}:{}", request.guest, request.interface);
            step("link", Work::UnshapeLink { port: link.port, label }, Some(shaped(now, None)));
        }
        _ => {
            let work = shaped(wanted, there.map(|_| now));
            let undo = work.undo();
            step("link", work, undo);
        }
    }
    if let Some(carrier) = request.carrier.filter(|carrier| (*carrier == Carrier::Down) != domain.down.contains(&link.port)) {
        let work = Work::SetCarrier {
            guest: request.guest.clone(),
            domain: domain.name.clone(),
            uuid: domain.uuid,
            interface: request.interface.clone(),
            port: link.port,
            up: carrier == Carrier::Up,
            runtime: domain.runtime,
        };
        let undo = work.undo();
        step("carrier", work, undo);
    }
    Ok(Plan { steps })
}
