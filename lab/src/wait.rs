//! Bounded waits, and what can go wrong with a lab. It knows nothing of hosts.

use std::{
    io,
    process::Output,
    thread,
    time::{Duration, Instant},
};

/// What went wrong with the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file, or a process that does not start.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The script, or a command that should have succeeded.
    #[error("{what}: exit status {status}\n{output}")]
    Failed {
        /// The command.
        what: String,
        /// Its exit status, or the signal that ended it.
        status: String,
        /// What it wrote.
        output: String,
    },
    /// A condition that did not come about.
    #[error("not within {limit:?}: {what}")]
    Late {
        /// The condition.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// A host that the lab does not have.
    #[error("the lab has no host {0}")]
    NoHost(String),
    /// An answer of the script that makes no sense.
    #[error("not understood: {0:?}")]
    Answer(String),
}

/// Asks `probe` again and again until it has an answer, `limit` at most; `what` names the condition in the error.
///
/// # Errors
///
/// [`LabError::Late`] after the limit.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T, LabError> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        if Instant::now() >= end {
            return Err(LabError::Late { what: what.to_owned(), limit });
        }
        thread::sleep(Duration::from_millis(25));
    }
}

pub(crate) fn succeeded(what: &str, output: Output) -> Result<Output, LabError> {
    if output.status.success() {
        return Ok(output);
    }
    let both = [output.stdout, output.stderr].concat();
    Err(LabError::Failed {
        what: what.to_owned(),
        status: output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string()),
        output: String::from_utf8_lossy(&both).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_until_there_is_an_answer() {
        let mut asked = 0;
        let answer = until("three", Duration::from_secs(5), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer.expect("an answer"), 3);
    }

    #[test]
    fn it_gives_up_and_says_on_what() {
        let late = until::<()>("the moon is blue", Duration::from_millis(30), || None).expect_err("never");
        assert_eq!(late.to_string(), "not within 30ms: the moon is blue");
    }
}
