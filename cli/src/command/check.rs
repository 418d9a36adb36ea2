//! `testbed check`

use std::path::Path;

use kvm_compose::{
    api::{ActionRequest, CheckOptions, CheckOutcome, CheckReport},
    error::Problem,
    spec::checks::Expect,
};

use super::{act, conclude, plan::draft};
use crate::{
    args::{Check, Format},
    exit::{Exit, Outcome},
    output::{junit, table},
    session::Session,
};

pub async fn run(session: &Session, args: Check) -> Outcome {
    let (name, draft) = draft(session)?;
    let request = ActionRequest::Check(CheckOptions { names: args.names, draft });
    let Some(ended) = act(session, &session.client()?, &name, &request).await? else { return Ok(Exit::CANCELLED) };
    let Some(result) = &ended.record.entry.result else { return conclude(session, &ended) };
    let report: CheckReport = serde_json::from_value(result.clone())
        .map_err(|error| Problem::internal("the server's report is not what this command expects").cause(error))?;
    let on_stdout = match &args.junit {
        Some(path) if path == Path::new("-") => {
            session.out.bytes(junit::document(&report, ended.record.entry.started)?.as_bytes());
            true
        }
        Some(path) => {
            let document = junit::document(&report, ended.record.entry.started)?;
            std::fs::write(path, document)
                .map_err(|error| Problem::io(format!("the report cannot be written to `{}`", path.display()), &error))?;
            false
        }
        None => false,
    };
    if !on_stdout {
        session.out.result(&report, text);
    }
    if report.checks.is_empty() && session.global.output == Format::Text {
        session.out.warning(&format!("the testbed file of `{name}` has no `checks`"));
    }
    ended.outcome()
}

fn text(report: &CheckReport) -> String {
    let rows = report.checks.iter().map(|check| {
        let expected = if check.expect == Expect::Fail { " (must fail)" } else { "" };
        let result = if check.outcome == CheckOutcome::Failed { "FAILED".to_string() } else { check.outcome.to_string() };
        let result = if check.outcome == CheckOutcome::Error { "ERROR".to_string() } else { result };
        vec![check.name.clone(), result, format!("{}{expected}", check.asked), check.seen.clone(), format!("{} ms", check.millis)]
    });
    let table = table::table(&["check", "result", "asked", "seen", "took"], rows.collect(), "no checks");
    let errors = if report.errors > 0 { format!(", {} could not be asked", report.errors) } else { String::new() };
    format!("{table}\n\n{} passed, {} failed{errors}, in {:.1} s", report.passed, report.failed, report.millis as f64 / 1000.0)
}
