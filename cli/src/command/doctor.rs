//! `testbed doctor`

use kvm_compose::api::{CheckResult, Ready};

use crate::{
    exit::{Exit, Outcome},
    output::{table, unicode},
    session::Session,
};

pub async fn run(session: &Session) -> Outcome {
    let ready = session.client()?.ready().await?;
    session.out.result(&ready, text);
    let works = ready.ready && ready.parts.iter().all(|part| part.ok || !part.required);
    Ok(if works { Exit::SUCCESS } else { Exit::FAILED })
}

pub async fn run_orphans(session: &Session) -> Outcome {
    let orphans = session.client()?.orphans().await?;
    session.out.list(&orphans, |orphans| {
        let rows = orphans.iter().map(|orphan| {
            vec![
                orphan.kind.clone(),
                orphan.name.clone(),
                table::or_dash(&orphan.detail),
                table::or_dash(orphan.fix.as_deref().unwrap_or_default()),
            ]
        });
        table::table(&["kind", "name", "detail", "how to remove it"], rows.collect(), "nothing is left behind")
    });
    Ok(Exit::SUCCESS)
}

fn text(ready: &Ready) -> String {
    let width = ready.parts.iter().map(|part| part.part.chars().count()).max().unwrap_or_default();
    ready.parts.iter().map(|part| line(part, width)).collect()
}

fn line(part: &CheckResult, width: usize) -> String {
    let mut text = format!("{} {:width$}  {}\n", mark(part), part.part, part.detail);
    if let (false, Some(fix)) = (part.ok, &part.fix) {
        let pad = " ".repeat(mark(part).chars().count() + width + 1);
        text.push_str(&fix.lines().map(|line| format!("{pad}  fix: {line}\n")).collect::<String>());
    }
    // What the server found is text from other programs.
    text.lines().map(|line| format!("{}\n", kvm_compose::orchestrate::event::clean(line))).collect()
}

/// Works, does not and must, does not and need not.
fn mark(part: &CheckResult) -> &'static str {
    match (part.ok, part.required, unicode()) {
        (true, _, true) => "✓",
        (true, _, false) => "[ok]  ",
        (false, true, true) => "✗",
        (false, true, false) => "[FAIL]",
        (false, false, true) => "!",
        (false, false, false) => "[warn]",
    }
}
