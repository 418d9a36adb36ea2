//! `testbed logs`

use kvm_compose::{
    api::{ActionState, LogEntry, LogIndex},
    error::{Code, Problem},
    names::{DeploymentName, GuestName, printable},
};
use uuid::Uuid;

use super::list;
use crate::{
    args::{Format, Logs},
    client::{Client, Owner},
    exit::{Exit, Outcome},
    follow::{Follower, Next},
    output::table,
    session::Session,
};

pub async fn run(session: &Session, args: Logs) -> Outcome {
    // What reads as an id is one.
    let guest = args.uuid.as_deref().filter(|text| Uuid::parse_str(text).is_err()).and_then(|text| GuestName::new(text).ok());
    if let Some(guest) = guest {
        return of_guest(session, &guest, &args).await;
    }
    let uuid = args.uuid.as_deref().map(parse).transpose()?;
    if args.tail.is_some() {
        return Err(Problem::new(Code::BadRequest, "`--tail` is for a guest's log").hint("`testbed logs GUEST --tail 20`"));
    }
    let name = session.deployment()?;
    let client = session.client()?;
    if args.list {
        return list_all(session, &client.log_index(&name).await?);
    }
    let uuid = match uuid {
        Some(uuid) => uuid,
        None => last(&name, &client.log_index(&name).await?)?,
    };
    let owner = Owner::Deployment(name);
    if args.follow {
        return follow(session, &client, &owner, uuid).await;
    }
    match session.global.output {
        Format::Text => print(session, &client, &owner, uuid).await,
        Format::Json | Format::Ndjson => {
            session.out.result(&client.log_record(&owner, uuid).await?, |_| String::new());
            Ok(Exit::SUCCESS)
        }
    }
}

/// What a guest has said.
async fn of_guest(session: &Session, guest: &GuestName, args: &Logs) -> Outcome {
    if args.follow {
        return Err(Problem::new(Code::BadRequest, "`--follow` follows an action, not a guest").hint("take it out, and ask again"));
    }
    let name = session.deployment()?;
    let client = session.client()?;
    let mut response = client.guest_log(&name, guest, args.tail).await?;
    while !session.out.is_closed() {
        match response.chunk().await.map_err(|error| client.lost(&error))? {
            Some(chunk) => session.out.bytes(&chunk),
            None => break,
        }
    }
    Ok(Exit::SUCCESS)
}

/// `testbed cancel`
pub async fn cancel(session: &Session, uuid: Option<&str>) -> Outcome {
    let uuid = uuid.map(parse).transpose()?;
    let name = session.deployment()?;
    let client = session.client()?;
    let uuid = match uuid {
        Some(uuid) => uuid,
        None => running(&name, &client.log_index(&name).await?)?,
    };
    client.cancel(&Owner::Deployment(name), uuid).await?;
    session
        .out
        .result(&serde_json::json!({ "uuid": uuid }), |_| format!("asked {uuid} to stop; `testbed logs -f {uuid}` shows how it ends"));
    Ok(Exit::SUCCESS)
}

fn running(name: &DeploymentName, index: &LogIndex) -> Result<Uuid, Problem> {
    let uuid = last(name, index)?;
    match index.0.get(&uuid) {
        Some(entry) if entry.state == ActionState::Running => Ok(uuid),
        _ => {
            Err(Problem::new(Code::NotFound, format!("no action runs on `{name}`"))
                .hint("`testbed logs --list` shows how the last ones ended"))
        }
    }
}

async fn print(session: &Session, client: &Client, owner: &Owner, uuid: Uuid) -> Outcome {
    let mut response = client.log_text(owner, uuid).await?;
    while !session.out.is_closed() {
        match response.chunk().await.map_err(|error| client.lost(&error))? {
            Some(chunk) => session.out.bytes(&chunk),
            None => break,
        }
    }
    Ok(Exit::SUCCESS)
}

async fn follow(session: &Session, client: &Client, owner: &Owner, uuid: Uuid) -> Outcome {
    let query = if session.global.output == Format::Text { "from={from}" } else { "format=events&from={from}" };
    let mut follower = Follower::new(client, owner.path(&["logs", &uuid.to_string(), "stream"]), query);
    while !session.out.is_closed() {
        match follower.next().await? {
            Next::Line(line) => session.out.line(&line),
            Next::Cut => session.out.warning("the connection to the server was lost; trying again for a minute at most"),
            Next::Back => {}
            // The log's last line says why; the exit status says it to scripts.
            Next::End(reason) => return Ok(exit_of(&reason)),
        }
    }
    Ok(Exit::SUCCESS)
}

/// The exit status for a close frame's `state=… error_code=…`.
fn exit_of(reason: &str) -> Exit {
    let number = reason.split_whitespace().find_map(|word| word.strip_prefix("error_code=")).and_then(|number| number.parse::<u16>().ok());
    match number {
        None | Some(0) => Exit::SUCCESS,
        Some(number) => Code::from_number(number).map_or(Exit::FAILED, |code| Exit(code.exit_status())),
    }
}

fn list_all(session: &Session, index: &LogIndex) -> Outcome {
    let mut entries: Vec<(&Uuid, &LogEntry)> = index.0.iter().collect();
    entries.sort_by_key(|(_, entry)| entry.started);
    session.out.result(index, |_| {
        let rows = entries.iter().map(|(uuid, entry)| {
            let code = entry.error_code.map_or_else(|| "-".to_string(), |code| code.to_string());
            vec![uuid.to_string(), entry.command.to_string(), entry.state.to_string(), code, list::local(entry.started), took(entry)]
        });
        table::table(&["id", "command", "state", "error code", "started", "took"], rows.collect(), "no actions yet")
    });
    Ok(Exit::SUCCESS)
}

fn took(entry: &LogEntry) -> String {
    let took = entry.ended.map(|ended| (ended - entry.started).num_milliseconds());
    took.map_or_else(|| "-".to_string(), |millis| format!("{:.1} s", millis as f64 / 1000.0))
}

fn last(name: &DeploymentName, index: &LogIndex) -> Result<Uuid, Problem> {
    // What changes the testbed comes before what is run in its guests, and what runs before what has ended.
    let rank = |entry: &LogEntry| (!entry.command.is_beside(), entry.state == ActionState::Running, entry.started);
    let last = index.0.iter().max_by_key(|(_, entry)| rank(entry)).map(|(uuid, _)| *uuid);
    last.ok_or_else(|| Problem::new(Code::NotFound, format!("`{name}` has no log: nothing was asked of it yet")))
}

fn parse(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| {
        Problem::new(Code::BadRequest, format!("`{}` is not an action's id", printable(text))).hint("`testbed logs --list` shows the ids")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_reason_gives_an_exit_status() {
        for (reason, exit) in [
            ("state=succeeded error_code=0", 0),
            ("state=failed error_code=72", 1),
            ("state=cancelled error_code=80", 130),
            ("state=failed error_code=9999", 1),
            ("", 0),
        ] {
            assert_eq!(exit_of(reason), Exit(exit), "{reason}");
        }
    }
}
