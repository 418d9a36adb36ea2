//! `testbed snapshot`

use kvm_compose::{
    api::{
        ActionRequest, SnapshotInfo, SnapshotOperation, SnapshotReport, SnapshotRequest,
        snapshot::{Holds, SnapshotGuest},
    },
    error::Problem,
    names::{GuestName, SnapshotName},
    orchestrate::event::clean,
};

use super::{act, conclude};
use crate::{
    action::Ended,
    args::{Format, Snapshot},
    exit::{Exit, Outcome},
    output::{self, table},
    session::Session,
};

pub async fn run(session: &Session, command: Snapshot) -> Outcome {
    use SnapshotOperation::{Create, Delete, Restore};
    match command {
        Snapshot::Create { name, guests, memory, .. } => perform(session, Create, &name, &guests, memory).await,
        Snapshot::Restore { name, guests, .. } => perform(session, Restore, &name, &guests, false).await,
        Snapshot::Delete { name } => perform(session, Delete, &name, &[], false).await,
        Snapshot::List => {
            let all = session.client()?.snapshots(&session.deployment()?).await?;
            session.out.list(&all, |all| if session.global.quiet { names(all) } else { list(all) });
            Ok(Exit::SUCCESS)
        }
        Snapshot::Info { name } => {
            let found = session.client()?.snapshot(&session.deployment()?, &SnapshotName::new(&name)?).await?;
            session.out.result(&found, info);
            Ok(Exit::SUCCESS)
        }
    }
}

async fn perform(session: &Session, operation: SnapshotOperation, name: &str, guests: &[String], memory: bool) -> Outcome {
    let guests: Result<Vec<GuestName>, Problem> = guests.iter().map(|guest| GuestName::new(guest)).collect();
    let request = SnapshotRequest { operation, name: SnapshotName::new(name)?, guests: guests?, memory };
    let (client, deployment) = (session.client()?, session.deployment()?);
    let Some(ended) = act(session, &client, &deployment, &ActionRequest::Snapshot(request)).await? else { return Ok(Exit::CANCELLED) };
    tell(session, &ended);
    conclude(session, &ended)
}

/// What became of each guest, as the action's record says.
fn tell(session: &Session, ended: &Ended) {
    let report = ended.record.entry.result.clone().and_then(|result| serde_json::from_value::<SnapshotReport>(result).ok());
    let Some(report) = report.filter(|_| session.global.output == Format::Text) else { return };
    for guest in report.guests.iter().filter(|guest| guest.error_code != 0) {
        let why = guest.problem.as_ref().map(ToString::to_string).unwrap_or_default();
        output::error_bytes(clean(&format!("guest `{}`: error {}: {why}", guest.guest, guest.error_code)).as_bytes());
        output::error_bytes(b"\n");
    }
    if ended.record.entry.error_code != Some(0) || session.global.quiet {
        return;
    }
    let count = match report.guests.len() {
        1 => "1 guest".to_string(),
        count => format!("{count} guests"),
    };
    session.out.line(&match (report.operation, report.pause_ms) {
        (SnapshotOperation::Create, Some(pause)) => {
            format!("the snapshot `{}` of {count} is made; they stood still for {:.1} s", report.name, pause as f64 / 1000.0)
        }
        (SnapshotOperation::Create, None) => format!("the snapshot `{}` of {count} is made", report.name),
        (SnapshotOperation::Restore, _) => format!("the snapshot `{}` is restored: {count}", report.name),
        (SnapshotOperation::Delete, _) => format!("the snapshot `{}` is deleted", report.name),
    });
}

fn names(all: &[SnapshotInfo]) -> String {
    all.iter().map(|found| format!("{}\n", found.name)).collect()
}

fn list(all: &[SnapshotInfo]) -> String {
    let rows = all.iter().map(|found| match &found.fault {
        Some(fault) => vec![found.name.to_string(), format!("damaged: {fault}"), "-".into(), "-".into(), "-".into(), size(found.bytes)],
        None => vec![
            found.name.to_string(),
            found.created.format("%Y-%m-%d %H:%M:%S").to_string(),
            holds(found),
            found.guests.len().to_string(),
            format!("{} ms", found.pause_ms),
            size(found.bytes),
        ],
    });
    table::table(&["name", "created", "holds", "guests", "pause", "size"], rows.collect(), "no snapshots")
}

fn holds(found: &SnapshotInfo) -> String {
    let what = if found.whole { "the whole testbed" } else { "guests" };
    if found.memory { format!("{what}, with memory") } else { format!("{what}, disks") }
}

fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn info(found: &SnapshotInfo) -> String {
    let mut text = table::pairs(&[
        ("snapshot", found.name.to_string()),
        ("created", found.created.to_rfc3339()),
        ("holds", found.fault.clone().map_or_else(|| holds(found), |fault| format!("damaged: {fault}"))),
        ("pause", format!("{} ms", found.pause_ms)),
        ("size", size(found.bytes)),
    ]);
    text.push('\n');
    text.push_str(&table::table(&["guest", "state", "holds", "file", "size", "sha-256"], found.guests.iter().flat_map(rows).collect(), ""));
    text
}

fn rows(guest: &SnapshotGuest) -> Vec<Vec<String>> {
    let head = [guest.name.to_string(), guest.state.to_string()];
    let row = |rest: [String; 4]| head.iter().cloned().chain(rest).collect::<Vec<_>>();
    let dash = || "-".to_string();
    let mut rows: Vec<Vec<String>> = guest
        .files
        .iter()
        .map(|file| {
            let holds = if file.holds == Holds::Memory { "memory" } else { "disk" };
            row([holds.to_string(), file.file.clone(), size(file.bytes), file.sha256.clone()])
        })
        .collect();
    rows.extend(guest.image.iter().map(|image| row(["files".to_string(), image.clone(), dash(), dash()])));
    if rows.is_empty() {
        rows.push(row(["nothing".to_string(), dash(), dash(), dash()]));
    }
    rows
}
