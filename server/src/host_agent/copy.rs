//! An archive of a guest's files for a master, a few pieces ahead of what it has read.
//!
//! Must not know sockets.

use std::{sync::mpsc, time::Duration};

use kvm_compose::{
    api::copy::GuestPath,
    backend::local::LocalHost,
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
    orchestrate::host::Cancel,
};

/// Pieces on their way at once.
const AHEAD: usize = 16;
/// How long the master may take to read one.
const UNREAD_LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether the master still wants it.
const LOOK: Duration = Duration::from_millis(200);

/// Sends the archive as output of the call; `read` gets a word for each piece that was read.
pub fn serve(
    host: &LocalHost,
    (deployment, guest, path): (&DeploymentName, &GuestName, &GuestPath),
    cancel: &Cancel,
    read: &mpsc::Receiver<Vec<u8>>,
    say: &dyn Fn(&[u8]),
) -> Result<(), Problem> {
    let (mut ahead, mut late) = (0usize, false);
    host.get_archive(deployment, guest, path, cancel, &mut |piece| {
        say(piece);
        ahead += 1;
        ahead -= read.try_iter().count().min(ahead);
        let mut waited = Duration::ZERO;
        while ahead >= AHEAD {
            match read.recv_timeout(LOOK) {
                Ok(_) => ahead -= 1,
                Err(_) if cancel.is_cancelled() => return false,
                Err(_) => waited += LOOK,
            }
            if waited >= UNREAD_LIMIT {
                late = true;
                return false;
            }
        }
        true
    })?;
    match late {
        true => Err(Problem::new(Code::Timeout, format!("the master read nothing for {} s", UNREAD_LIMIT.as_secs()))),
        false => cancel.check(),
    }
}
