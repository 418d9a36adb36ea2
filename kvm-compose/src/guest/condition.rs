//! Whether a guest's readiness condition holds now.
//!
//! Must not know how long is waited, nor what is done then. What happens in a guest is asked of its agent, so that no
//! network between it and the host is needed.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
    time::{Duration, Instant},
};

use super::agent::{Agent, Program, Status};
use crate::{backend::hypervisor::AgentFault, orchestrate::host::Cancel, plan::blueprint::ReadyCondition};

/// How long a request in the guest may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How often the request is asked for.
const REQUEST_PAUSE: Duration = Duration::from_millis(50);
/// A socket that listens, as the kernel writes its state (include/net/tcp_states.h).
const LISTENS: &str = "0A";
/// A guest with more sockets than this has other troubles.
const LONGEST_TABLE: usize = 8 << 20;

/// What cloud-init writes when it has ended, however it went (its documentation, "Files it writes").
const SET_UP: &str = "/run/cloud-init/result.json";
/// Who is there where a guest has it.
const CLOUD_INIT: &str = "/usr/bin/cloud-init";

/// Nothing when cloud-init has set the guest up, or the guest has none; or else what was seen instead.
pub fn set_up(agent: &Agent<'_>) -> Result<Option<String>, AgentFault> {
    let is_there = |path| match agent.open(path, "r") {
        Ok(handle) => agent.close(handle).map(|()| true),
        Err(AgentFault::Refused(_)) => Ok(false),
        Err(fault) => Err(fault),
    };
    Ok((!is_there(SET_UP)? && is_there(CLOUD_INIT)?).then(|| "cloud-init has not ended".to_string()))
}

/// Nothing when it holds, or else what was seen instead.
pub fn holds(condition: &ReadyCondition, agent: &Agent<'_>, console_log: &Path, cancel: &Cancel) -> Result<Option<String>, AgentFault> {
    match condition {
        ReadyCondition::Running => Ok(None),
        ReadyCondition::Agent => agent.ping().map(|()| None),
        ReadyCondition::Tcp(port) => {
            // A guest without IPv6 has no second table.
            let listening =
                listens(&table(agent, "/proc/net/tcp")?, *port) || table(agent, "/proc/net/tcp6").is_ok_and(|table| listens(&table, *port));
            Ok((!listening).then(|| format!("nothing listens on TCP port {port}")))
        }
        ReadyCondition::Http { port, path } => answers(agent, *port, path, cancel),
        ReadyCondition::Log(text) => Ok(match says(console_log, text) {
            Ok(true) => None,
            Ok(false) => Some("the console has not said it".to_string()),
            Err(error) => Some(format!("the console's log cannot be read: {error}")),
        }),
    }
}

fn table(agent: &Agent<'_>, path: &str) -> Result<String, AgentFault> {
    let handle = agent.open(path, "r")?;
    let mut content = Vec::new();
    let read = loop {
        match agent.read(handle) {
            Ok(piece) if piece.is_empty() || content.len() > LONGEST_TABLE => break Ok(()),
            Ok(piece) => content.extend(piece),
            Err(fault) => break Err(fault),
        }
    };
    agent.close(handle).and(read)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// True when a socket of the table listens on the port (proc_net_tcp(5): local address `ADDRESS:PORT` in hexadecimal).
pub fn listens(table: &str, port: u16) -> bool {
    let wanted = format!("{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        state == LISTENS && local.rsplit_once(':').is_some_and(|(_, number)| number == wanted)
    })
}

/// Asks with whichever of the usual programs the guest has.
fn answers(agent: &Agent<'_>, port: u16, path: &str, cancel: &Cancel) -> Result<Option<String>, AgentFault> {
    let url = format!("http://127.0.0.1:{port}{path}");
    // `wget -T` of busybox crashes where it is linked statically.
    let script =
        "if command -v curl >/dev/null; then exec curl -fsS -m 8 -o /dev/null \"$1\"; fi; exec timeout 8 wget -q -O /dev/null \"$1\"";
    let pid = agent.start(&Program { path: "/bin/sh", arguments: vec!["-c", script, "sh", &url], ..Program::default() })?;
    let deadline = Instant::now() + REQUEST_LIMIT;
    loop {
        match agent.status(pid)? {
            Status::Ended { status: 0, .. } => return Ok(None),
            Status::Ended { status, stderr, .. } => {
                let said = String::from_utf8_lossy(&stderr);
                let said = said.lines().last().unwrap_or_default();
                return Ok(Some(format!("{url} does not answer (status {status}) {said}")));
            }
            Status::Running if Instant::now() >= deadline => return Ok(Some(format!("{url} does not answer in time"))),
            Status::Running if cancel.wait(REQUEST_PAUSE) => return Ok(Some("it was cancelled".to_string())),
            Status::Running => {}
        }
    }
}

/// True when the console has said the text since the guest was made.
fn says(log: &Path, text: &str) -> std::io::Result<bool> {
    let mut file = match File::open(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => BufReader::new(file?),
    };
    let (wanted, mut kept, mut piece) = (text.as_bytes(), Vec::new(), vec![0; 64 << 10]);
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(false);
        }
        kept.extend_from_slice(&piece[..length]);
        if kept.windows(wanted.len()).any(|window| window == wanted) {
            return Ok(true);
        }
        // The text may stand across two pieces.
        let rest = kept.len().saturating_sub(wanted.len());
        kept.drain(..rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
            \x20  1: 0A00000A:1F90 0A00000B:0050 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0\n";
        assert!(listens(table, 22));
        // A connection from that port is none that listens.
        assert!(!listens(table, 8080) && !listens(table, 80) && !listens("", 22));
    }

    #[test]
    fn the_console_is_searched_across_pieces() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("console.log");
        assert!(!says(&log, "ready").expect("no log says nothing"));
        let mut text = vec![b'.'; (64 << 10) - 3];
        text.extend_from_slice(b"ready\n");
        std::fs::write(&log, text).expect("written");
        assert!(says(&log, "ready").expect("readable") && !says(&log, "steady").expect("readable"));
    }
}
