//! `testbed exec` in several guests at once: each line of what they print bears its guest's name.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{StreamExt as _, stream};
use kvm_compose::{
    api::{
        ActionRequest, ExecRequest,
        action::{ExecOutput, LogRecord},
    },
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
};
use serde::Serialize;

use crate::{
    action::{self, Followed, Watch},
    args::Format,
    client::{Client, Owner},
    exit::{Exit, Outcome},
    output,
    progress::{Progress, Talk},
    session::Session,
};

/// Guests at once; the server speaks to as many agents.
const AT_ONCE: usize = 12;

/// What became of it in one guest.
#[derive(Serialize)]
struct Ran {
    guest: GuestName,
    /// The action's record; none when the server took no action.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<LogRecord>,
    /// Why there is no record, or why the command has no status.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
    #[serde(skip)]
    interrupted: bool,
}

/// Every guest that runs, by name.
pub async fn all(client: &Client, name: &DeploymentName) -> Result<Vec<GuestName>, Problem> {
    let running = client.state(name).await?.guests.into_iter().filter(|guest| matches!(guest.state.as_str(), "running" | "idle"));
    let names: Vec<GuestName> = running.map(|guest| guest.name).collect();
    match names.is_empty() {
        true => Err(Problem::new(Code::NotFound, format!("no guest of `{name}` runs")).hint("`testbed up` or `testbed start` starts them")),
        false => Ok(names),
    }
}

/// Runs the command in all of them. Ends with 0 when it did everywhere, else with the first status, by name, that is another.
pub async fn run(session: &Session, client: &Client, name: &DeploymentName, guests: Vec<GuestName>, request: &ExecRequest) -> Outcome {
    let width = guests.iter().map(|guest| guest.as_str().len()).max().unwrap_or_default();
    let owner = Owner::Deployment(name.clone());
    let one = |guest: GuestName| {
        let request = ActionRequest::Exec(ExecRequest { guest: guest.clone(), ..request.clone() });
        let owner = &owner;
        async move {
            let watch = Watch { progress: Progress::none(Talk::Nothing), limit: None, prints: false };
            match action::run(session, client, owner, client.act(name, &request), watch).await {
                Ok(Followed::Ended(ended)) => {
                    let problem = ended.record.entry.problem.clone().filter(|problem| problem.code != Code::CommandFailed);
                    Ran { guest, interrupted: ended.interrupted, record: Some(ended.record), problem }
                }
                Ok(Followed::Left) => Ran { guest, record: None, problem: None, interrupted: true },
                Err(problem) => Ran { guest, record: None, problem: Some(problem), interrupted: false },
            }
        }
    };
    let mut running = stream::iter(guests).map(one).buffer_unordered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(ran) = running.next().await {
        if session.global.output == Format::Text {
            print(session, &ran, width)?;
        }
        all.push(ran);
    }
    all.sort_by(|one, other| one.guest.cmp(&other.guest));
    // As lines of JSON the events were printed already.
    if session.global.output == Format::Json {
        session.out.list(&all, |_| String::new());
    }
    if all.iter().any(|ran| ran.interrupted) {
        return Ok(Exit::CANCELLED);
    }
    let status = |ran: &Ran| match (&ran.problem, ran.record.as_ref().and_then(|record| record.entry.exit_status)) {
        (Some(problem), _) => problem.code.exit_status(),
        (None, status) => status.and_then(|status| u8::try_from(status).ok()).unwrap_or(1),
    };
    Ok(all.iter().map(status).find(|status| *status != 0).map_or(Exit::SUCCESS, Exit))
}

fn print(session: &Session, ran: &Ran, width: usize) -> Result<(), Problem> {
    let head = format!("{:width$} | ", ran.guest.as_str());
    let result = ran.record.as_ref().and_then(|record| record.entry.result.clone());
    if let Some(result) = result {
        let unreadable =
            |error: &dyn std::fmt::Display| Problem::internal("the command's output is not what this command expects").cause(error);
        let output: ExecOutput = serde_json::from_value(result).map_err(|error| unreadable(&error))?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|error| unreadable(&error));
        session.out.bytes(&prefixed(&head, &decode(&output.stdout_base64)?));
        output::error_bytes(&prefixed(&head, &decode(&output.stderr_base64)?));
        if output.truncated {
            output::error_line(&format!("{head}(the output is longer than 16 MiB; its end is missing)"));
        }
    }
    if let Some(problem) = &ran.problem {
        output::error_line(&format!("{head}{problem}"));
    } else if let Some(status) = ran.record.as_ref().and_then(|record| record.entry.exit_status).filter(|status| *status != 0) {
        output::error_line(&format!("{head}(ended with status {status})"));
    }
    Ok(())
}

/// Each line with a head; a last one without its end gets one.
fn prefixed(head: &str, text: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(text.len() + head.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        all.extend_from_slice(head.as_bytes());
        all.extend_from_slice(line);
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        all.push(b'\n');
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_bears_its_guest() {
        for (text, expected) in [("", ""), ("a\nb", "x | a\nx | b\n"), ("a\n\n", "x | a\nx | \n")] {
            assert_eq!(String::from_utf8_lossy(&prefixed("x | ", text.as_bytes())), expected);
        }
    }
}
