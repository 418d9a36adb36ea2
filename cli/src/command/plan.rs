//! `testbed plan`

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use kvm_compose::{
    api::{ActionRequest, Draft, PlanDocument, PlanOptions, UpOptions, deployment::PlannedChange},
    diagnostic::problem_of,
    error::Problem,
    names::{DeploymentName, GuestName},
    orchestrate::{self, host::Cancel},
    plan::{
        anywhere,
        blueprint::{DiskFormat, Sum},
        describe,
        site::{DiskFile, PackedTree, ProjectFiles, StoredImage},
        step::Impact,
    },
    topology::{FileRef, GuestKind, Topology},
};

use super::{act, conclude, up};
use crate::{
    args::{Format, Plan},
    client::Client,
    exit::{Exit, Outcome},
    output::{problem::print_warnings, table},
    project::Project,
    session::{Session, no_file},
};

pub async fn run(session: &Session, args: Plan) -> Outcome {
    let options = up::options(&args.converge, false)?;
    if args.offline {
        return offline(session);
    }
    ask(session, &session.client()?, options).await
}

/// Asks the server what `up` would do now. The testbed file goes with the request: the server's own copy stays as it is.
pub async fn ask(session: &Session, client: &Client, options: UpOptions) -> Outcome {
    let (name, draft) = draft(session)?;
    let request = ActionRequest::Plan(PlanOptions::of(options, draft));
    let Some(ended) = act(session, client, &name, &request).await? else { return Ok(Exit::CANCELLED) };
    let exit = if session.global.output == Format::Json { ended.outcome()? } else { conclude(session, &ended)? };
    let Some(result) = &ended.record.entry.result else { return Ok(exit) };
    let document: PlanDocument = serde_json::from_value(result.clone())
        .map_err(|error| Problem::internal("the server's plan is not what this command expects").cause(error))?;
    // The events went out as they came; a plan is no event.
    session.out.result(&document, text);
    Ok(exit)
}

/// The deployment that is meant, and the testbed file here, if there is one: checked, and its warnings printed.
pub fn draft(session: &Session) -> Result<(DeploymentName, Option<Draft>), Problem> {
    let Some(project) = session.project()? else { return Ok((session.deployment_without_file()?, None)) };
    let name = session.name_of(&project)?;
    let (sources, loaded) = project.load(&name)?;
    print_warnings(&session.out, &kvm_compose::topology::without_refused(loaded.warnings));
    Ok((name, Some(Draft { project_location: Some(project.location()?), ..sources.into_draft() })))
}

fn offline(session: &Session) -> Outcome {
    let project = session.project()?.ok_or_else(no_file)?;
    let (_, mut loaded) = project.load(&session.name_of(&project)?)?;
    let judged = kvm_compose::rules::judge(&loaded.topology, &Cancel::new())?;
    if let Some(problem) = problem_of(&project.shown(), judged.clone()) {
        return Err(problem);
    }
    loaded.warnings.extend(judged);
    print_warnings(&session.out, &loaded.warnings);
    let blueprint = anywhere::blueprint(&loaded.topology, &files(&project, &loaded.topology))?;
    session.out.result(&orchestrate::plan_from_nothing(&blueprint), text);
    Ok(Exit::SUCCESS)
}

/// The project's scripts, and its disks taken to be what the testbed file says they are.
fn files(project: &Project, topology: &Topology) -> ProjectFiles {
    let place = |file: &FileRef| project.folder.join(Path::new(&file.path.replace("${PWD}", &project.folder.to_string_lossy())));
    let mut files = ProjectFiles::default();
    for shared in topology.scaled.iter().filter_map(|scaled| scaled.shared_setup.as_ref()) {
        files.scripts.insert(shared.path.clone(), fs::read_to_string(place(shared)).unwrap_or_default());
    }
    for guest in &topology.guests {
        if let Some(context) = &guest.context {
            // What it holds is the server's to say.
            let sum = Sum { sha256: String::new(), bytes: 0 };
            files.contexts.insert(context.path.clone(), PackedTree { path: place(context), sum });
        }
        for script in guest.setup_scripts.iter().chain(&guest.run_scripts) {
            // One that cannot be read here may be there on the server.
            files.scripts.insert(script.path.clone(), fs::read_to_string(place(script)).unwrap_or_default());
        }
        match &guest.kind {
            GuestKind::ExistingDisk { disk, format, .. } => {
                files.disks.insert(disk.path.clone(), as_written(place(disk), *format));
            }
            GuestKind::IsoGuest { iso, .. } => {
                files.disks.insert(iso.path.clone(), as_written(place(iso), DiskFormat::Raw));
            }
            GuestKind::CloudImage { image, .. } => {
                files.images.insert(image.path.clone(), as_pulled(&image.path));
            }
            _ => {}
        }
        if let GuestKind::Docker(container) = &guest.kind {
            // No step shows what is in it.
            files.env_files.extend(container.env_file.iter().map(|file| (file.path.clone(), BTreeMap::new())));
            files.trees.extend(container.volumes.iter().map(|mount| (mount.source.path.clone(), place(&mount.source))));
        }
    }
    files
}

/// An image that nobody looked at: which content the name stands for is the server's to say.
fn as_pulled(name: &str) -> StoredImage {
    StoredImage { path: Path::new("/images/disks").join(name), digest: name.to_string(), virtual_bytes: 0, user: None }
}

fn as_written(path: PathBuf, format: DiskFormat) -> DiskFile {
    DiskFile { path, format, version: String::new() }
}

fn text(plan: &PlanDocument) -> String {
    if plan.steps.is_empty() {
        return format!("nothing to do: `{}` is as its testbed file says", plan.deployment);
    }
    let rows = plan
        .steps
        .iter()
        .map(|step| vec![step.id.clone(), step.what.clone(), step.reason.clone(), describe::impact_word(step.impact).to_string()]);
    let mut text = table::table(&["step", "what", "reason", "impact"], rows.collect(), "");
    if !plan.network.is_empty() {
        text.push_str(&format!("\n\nnetwork:\n  {}", plan.network.join("\n  ")));
    }
    if !plan.placement.is_empty() {
        let lines: Vec<String> = plan.placement.iter().map(|place| format!("{} on {}: {}", place.guest, place.host, place.why)).collect();
        text.push_str(&format!("\n\nplacement:\n  {}", lines.join("\n  ")));
    }
    let offline = if plan.offline { ", as if nothing were there yet" } else { "" };
    let s = if plan.steps.len() == 1 { "" } else { "s" };
    if !plan.changes.is_empty() && !plan.offline {
        text.push_str(&format!("\n\nchanges:\n{}", changes(&plan.changes)));
    }
    let summary = if plan.summary.is_empty() { String::new() } else { format!(": {}", plan.summary) };
    text.push_str(&format!("\n\n{} step{s}{offline}{summary}", plan.steps.len()));
    text
}

/// What happens to each thing, a line each: how, to whom, and which guests notice.
fn changes(all: &[PlannedChange]) -> String {
    let line = |change: &PlannedChange| {
        let mut line = format!("  {:<9} {}: {}", describe::impact_word(change.impact), change.thing, change.what);
        let mut notes = Vec::new();
        if change.impact == Impact::InPlace && change.guests.is_empty() {
            notes.push("touches no guest".to_string());
        }
        if !change.traffic.is_empty() {
            notes.push(format!("traffic of {} may change", few(&change.traffic)));
        }
        if !notes.is_empty() {
            line.push_str(&format!("; {}", notes.join(", ")));
        }
        line
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Some names, and how many more there are.
fn few(names: &[GuestName]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(GuestName::as_str).collect();
    match names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", shown.join(", ")),
        None => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_traffic_may_change_is_told_of_what_is_new_too() {
        let names = |names: &[&str]| names.iter().map(|name| GuestName::new(name).expect("valid")).collect::<Vec<_>>();
        let change = |impact, guests: &[&str], traffic: &[&str]| PlannedChange {
            thing: "router r".to_string(),
            impact,
            what: "new".to_string(),
            guests: names(guests),
            traffic: names(traffic),
        };
        let told = changes(&[
            change(Impact::Create, &[], &["a", "b"]),
            change(Impact::InPlace, &[], &["a"]),
            change(Impact::InPlace, &[], &[]),
            change(Impact::InPlace, &["b"], &["a"]),
            change(Impact::Create, &["a"], &[]),
        ]);
        let lines: Vec<&str> = told.lines().map(|line| line.split_once("new").map_or("", |(_, rest)| rest)).collect();
        let one = "traffic of a may change";
        assert_eq!(
            lines,
            ["; traffic of a, b may change", &format!("; touches no guest, {one}"), "; touches no guest", &format!("; {one}"), ""]
        );
    }
}
