//! The serial console of a guest on a member, reached through the member's link.
//!
//! Must not know who looks.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use kvm_compose::{
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName},
    orchestrate::host::Cancel,
};
use parking_lot::Mutex;
use uuid::Uuid;

use super::driver::Console;
use crate::cluster::{
    Cluster,
    calls::{Patience, Said},
    wire::Call,
};

/// How long the member may take to open it.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// What the thread that waits for the member passes on.
type Heard = Result<Vec<u8>, Problem>;

/// A console on another host.
pub struct FarConsole {
    cluster: Arc<Cluster>,
    host: HostName,
    id: Uuid,
    cancel: Cancel,
    /// What the guest said and nobody has read; the end of the channel is the console's.
    heard: Mutex<(mpsc::Receiver<Heard>, Vec<u8>)>,
}

impl FarConsole {
    /// Opens it; beside it the end of what the guest said before.
    pub fn open(
        cluster: &Arc<Cluster>,
        host: &HostName,
        deployment: &DeploymentName,
        guest: &GuestName,
    ) -> Result<(FarConsole, Vec<u8>), Problem> {
        let (tell, told) = mpsc::channel::<Heard>();
        let (id, cancel) = (Uuid::now_v7(), Cancel::new());
        let call = Call::Console { deployment: deployment.clone(), guest: guest.clone() };
        let asked = (cluster.clone(), host.clone(), cancel.clone());
        let asking = move || {
            let (cluster, host, cancel) = asked;
            let hear = |said: Said<'_>| {
                if let Said::Output(_, bytes) = said {
                    // Nobody reads any more: the console is about to be closed.
                    let _closed = tell.send(Ok(bytes.to_vec()));
                }
            };
            if let Err(problem) = cluster.call_as::<()>(id, &host, &call, Patience::UntilLost, &cancel, &hear) {
                let _closed = tell.send(Err(problem));
            }
        };
        let spawned = std::thread::Builder::new().name("console".to_string()).spawn(asking);
        spawned.map_err(|error| Problem::io("cannot start a console's thread", &error))?;
        let late = || Problem::new(Code::Timeout, format!("host `{host}` did not open the console within {} s", OPEN_LIMIT.as_secs()));
        let past = match told.recv_timeout(OPEN_LIMIT) {
            Ok(past) => past?,
            Err(_) => {
                cancel.cancel();
                return Err(late());
            }
        };
        let console = FarConsole { cluster: cluster.clone(), host: host.clone(), id, cancel, heard: Mutex::new((told, Vec::new())) };
        Ok((console, past))
    }
}

impl Console for FarConsole {
    fn read(&self, buffer: &mut [u8]) -> usize {
        let mut heard = self.heard.lock();
        while heard.1.is_empty() {
            match heard.0.recv() {
                Ok(Ok(bytes)) => heard.1 = bytes,
                Ok(Err(problem)) => {
                    tracing::debug!(host = %self.host, %problem, "a console has ended");
                    return 0;
                }
                Err(_) => return 0,
            }
        }
        let count = heard.1.len().min(buffer.len());
        buffer[..count].copy_from_slice(&heard.1[..count]);
        heard.1.drain(..count);
        count
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Problem> {
        self.cluster.type_in(&self.host, self.id, bytes)
    }

    fn close(&self) {
        self.cancel.cancel();
    }
}

impl Drop for FarConsole {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
