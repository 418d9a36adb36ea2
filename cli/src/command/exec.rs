//! `testbed exec`

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kvm_compose::{
    api::{
        ActionRequest, ExecRequest,
        action::{ExecOutput, LogEntry},
    },
    error::{Code, Problem},
    names::{GuestName, printable},
};

use super::ended;
use crate::{
    action::{self, Ended, Watch},
    args::{Exec, Format},
    client::Owner,
    exit::{Exit, Outcome},
    output,
    session::Session,
};

pub async fn run(session: &Session, args: Exec) -> Outcome {
    let guest = GuestName::new(&args.guest)?;
    let name = session.deployment()?;
    let environment = environment(&args.env)?;
    let stdin_base64 = if args.interactive { Some(stdin()?) } else { None };
    let timeout_s = session.global.timeout.map(|limit| limit.as_secs());
    let request = ActionRequest::Exec(ExecRequest { guest, argv: args.argv, environment, stdin_base64, timeout_s });

    let client = session.client()?;
    // The server keeps to the limit itself: it ends the command in the guest.
    let watch = Watch { progress: session.progress_on_request(), limit: None };
    let owner = Owner::Deployment(name.clone());
    let followed = action::run(session, &client, &owner, client.act(&name, &request), watch).await?;
    let Some(ended) = ended(followed)? else { return Ok(Exit::CANCELLED) };
    match session.global.output {
        Format::Text => print(session, &ended.record.entry)?,
        Format::Json => session.out.result(&ended.record, |_| String::new()),
        Format::Ndjson => {}
    }
    exit_of(&ended)
}

/// The command's own status, when it came to have one.
fn exit_of(ended: &Ended) -> Outcome {
    let entry = &ended.record.entry;
    let own = entry.problem.as_ref().is_none_or(|problem| problem.code == Code::CommandFailed);
    match entry.exit_status.and_then(|status| u8::try_from(status).ok()) {
        Some(status) if own && !ended.interrupted => Ok(Exit(status)),
        _ => ended.outcome(),
    }
}

/// What the command printed, byte for byte.
fn print(session: &Session, entry: &LogEntry) -> Result<(), Problem> {
    let Some(result) = &entry.result else { return Ok(()) };
    let unreadable =
        |error: &dyn std::fmt::Display| Problem::internal("the command's output is not what this command expects").cause(error);
    let output: ExecOutput = serde_json::from_value(result.clone()).map_err(|error| unreadable(&error))?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| unreadable(&error));
    session.out.bytes(&decode(&output.stdout_base64)?);
    output::error_bytes(&decode(&output.stderr_base64)?);
    if output.truncated {
        session.out.warning("the output is longer than the guest agent hands over; its end is missing");
    }
    Ok(())
}

fn environment(pairs: &[String]) -> Result<BTreeMap<String, String>, Problem> {
    let parse = |pair: &String| {
        let (key, value) = pair.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            Problem::new(Code::BadRequest, format!("`{}` is not KEY=VALUE", printable(pair))).hint("write it as in `-e LANG=C`")
        })?;
        Ok((key.to_string(), value.to_string()))
    };
    pairs.iter().map(parse).collect()
}

fn stdin() -> Result<String, Problem> {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).map_err(|error| Problem::io("standard input cannot be read", &error))?;
    Ok(STANDARD.encode(bytes))
}
