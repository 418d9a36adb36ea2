//! `testbed exec`

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kvm_compose::{
    api::{ActionRequest, ExecRequest, action::ExecOutput},
    error::{Code, Problem},
    names::{GuestName, printable},
};

use super::{ended, exec_many};
use crate::{
    action::{self, Ended, Watch},
    args::{Format, exec::Exec},
    client::Owner,
    exit::{Exit, Outcome},
    output,
    session::Session,
};

pub async fn run(session: &Session, args: Exec) -> Outcome {
    let (named, argv) = named(&args)?;
    let name = session.deployment()?;
    let environment = environment(&args.env)?;
    let stdin_base64 = if args.interactive { Some(stdin()?) } else { None };
    let timeout_s = session.global.timeout.map(|limit| limit.as_secs());
    let client = session.client()?;
    let guests = match named {
        Some(guests) => guests,
        None => exec_many::all(&client, &name).await?,
    };
    let guest = guests.first().cloned().ok_or_else(|| Problem::new(Code::BadRequest, "no guest is named"))?;
    let request = ExecRequest { guest, argv, environment, stdin_base64, timeout_s };
    if guests.len() > 1 || args.all {
        return exec_many::run(session, &client, &name, guests, &request).await;
    }
    let request = ActionRequest::Exec(request);
    // The server keeps to the limit itself: it ends the command in the guest.
    let prints = session.global.output == Format::Text;
    let watch = Watch { progress: session.progress_on_request(), limit: None, prints };
    let owner = Owner::Deployment(name.clone());
    let followed = action::run(session, &client, &owner, client.act(&name, &request), watch).await?;
    let Some(ended) = ended(followed)? else { return Ok(Exit::CANCELLED) };
    match session.global.output {
        Format::Text => print(session, &ended)?,
        Format::Json => session.out.result(&ended.record, |_| String::new()),
        Format::Ndjson => {}
    }
    exit_of(&ended)
}

/// The guests that are named, none for all, and the command.
fn named(args: &Exec) -> Result<(Option<Vec<GuestName>>, Vec<String>), Problem> {
    if args.all {
        // No guest is named, so the first word is the command's.
        return Ok((None, std::iter::once(&args.guest).chain(&args.argv).cloned().collect()));
    }
    let mut guests = args.guest.split(',').map(GuestName::new).collect::<Result<Vec<_>, _>>()?;
    guests.sort();
    guests.dedup();
    if guests.len() > 1 && args.interactive {
        return Err(
            Problem::new(Code::BadRequest, "one standard input cannot be for several guests").hint("leave `-i` out, or name one guest")
        );
    }
    Ok((Some(guests), args.argv.clone()))
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

/// What the command printed, byte for byte, as far as it was not printed already; and what its status means.
fn print(session: &Session, ended: &Ended) -> Result<(), Problem> {
    let entry = &ended.record.entry;
    let Some(result) = &entry.result else { return Ok(()) };
    let unreadable =
        |error: &dyn std::fmt::Display| Problem::internal("the command's output is not what this command expects").cause(error);
    let output: ExecOutput = serde_json::from_value(result.clone()).map_err(|error| unreadable(&error))?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| unreadable(&error));
    // What came while the connection was cut, or was too much for the journal.
    let rest = |bytes: Vec<u8>, printed: usize| bytes.get(printed..).map(<[u8]>::to_vec).unwrap_or_default();
    session.out.bytes(&rest(decode(&output.stdout_base64)?, ended.told.printed[0]));
    output::error_bytes(&rest(decode(&output.stderr_base64)?, ended.told.printed[1]));
    if output.truncated {
        session.out.warning("the output is longer than 16 MiB; its end is missing");
    }
    if let (Some(129..=192), Some(problem)) = (entry.exit_status, &entry.problem) {
        output::error_line(&kvm_compose::orchestrate::event::clean(&problem.message));
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
