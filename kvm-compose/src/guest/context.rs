//! What a guest gets as its `context`: sent through its agent as a tar stream, unpacked beside, put in place at once, and marked.
//!
//! The mark lies among those of scripts, so "has it" is asked of the guest. Must not know where the stream comes from.

use std::{
    cell::RefCell,
    io::{self, BufWriter, Write},
    time::Duration,
};

use super::{
    agent::{Agent, CHUNK},
    script::{self, Guest},
};
use crate::{
    backend::hypervisor::AgentFault,
    error::{Code, Problem},
    orchestrate::event::clean,
    plan::blueprint::Context,
};

/// Where the stream lies until it is unpacked.
const STREAM: &str = "/var/lib/testbedos-guest/context.tar";
/// Unpacks it and puts it in place; a death in between leaves the old or the new, and no mark.
const UNPACK: &str = "set -e
stream=$1 mark=$2 place=/etc/nocloud/context own=/var/lib/testbedos-guest
rm -rf $place.new $place.old
mkdir -p $place.new
tar -xpf \"$stream\" -C $place.new
rm -f \"$stream\"
if [ -f $own/context ]; then rm -f $own/scripts/\"$(cat $own/context)\"; fi
if [ -e $place ]; then mv $place $place.old; fi
mv $place.new $place
rm -rf $place.old
echo \"$mark\" >$own/context
mkdir -p $own/scripts
sync
: >$own/scripts/\"$mark\"";
/// How long unpacking may take.
const UNPACK_LIMIT: Duration = Duration::from_secs(1800);
/// A line for the log after so many bytes.
const SAID_EVERY: u64 = 64 << 20;

/// Sends what `stream` writes, unless the guest has it. Returns without a mark set when the stream fails.
pub fn send(
    inside: &Guest<'_>,
    context: &Context,
    stream: impl FnOnce(&mut dyn Write) -> Result<(), Problem>,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), Problem> {
    if script::marks(inside)?.contains(&context.digest) {
        return Ok(());
    }
    inside.must(&["mkdir", "-p", "/var/lib/testbedos-guest", "/etc/nocloud"])?;
    let agent = Agent::new(inside.hypervisor, inside.domain, 20);
    let problem = |fault: AgentFault| fault.problem(inside.guest);
    let handle = agent.open(STREAM, "w").map_err(problem)?;
    let failed = RefCell::new(None);
    let to = ToGuest { agent, handle, inside, failed: &failed, sent: 0, whole: context.sum.bytes, say };
    let mut to = BufWriter::with_capacity(CHUNK, to);
    let sent = stream(&mut to).and_then(|()| to.flush().map_err(|error| Problem::io("cannot send the context", &error)));
    drop(to);
    let closed = agent.close(handle);
    // What the guest said is the reason; what the stream made of it is not.
    if let Some(reason) = failed.into_inner() {
        return Err(reason);
    }
    sent?;
    closed.map_err(problem)?;
    let ended = inside.run(&["sh", "-c", UNPACK, "sh", STREAM, &context.digest], UNPACK_LIMIT)?;
    if ended.status == 0 {
        return Ok(());
    }
    let message = format!("guest `{}` cannot unpack its context: status {}", inside.guest, ended.status);
    Err(Problem::new(Code::ScriptFailed, message)
        .cause(clean(String::from_utf8_lossy(&ended.stderr).trim()).chars().take(300).collect::<String>())
        .hint("the guest needs `tar`, and room for the context twice"))
}

struct ToGuest<'a> {
    agent: Agent<'a>,
    handle: i64,
    inside: &'a Guest<'a>,
    failed: &'a RefCell<Option<Problem>>,
    sent: u64,
    whole: u64,
    say: &'a (dyn Fn(&str) + Send + Sync),
}

impl Write for ToGuest<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let piece = &piece[..piece.len().min(CHUNK)];
        let written = self
            .inside
            .cancel
            .check()
            .and_then(|()| self.agent.write(self.handle, piece).map_err(|fault| fault.problem(self.inside.guest)));
        if let Err(problem) = written {
            let said = problem.message.clone();
            *self.failed.borrow_mut() = Some(problem);
            return Err(io::Error::other(said));
        }
        let before = self.sent / SAID_EVERY;
        self.sent += piece.len() as u64;
        if self.sent / SAID_EVERY > before {
            (self.say)(&format!("context: {} of {} MiB", self.sent >> 20, self.whole.div_ceil(1 << 20)));
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
