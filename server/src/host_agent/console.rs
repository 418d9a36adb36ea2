//! A guest's serial console for a master: what the guest says goes out as output of the call, what comes in is typed.
//!
//! Must not know sockets or who looks.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use kvm_compose::{
    backend::{hypervisor::console::LibvirtConsole, local::LocalHost},
    error::Problem,
    names::{DeploymentName, GuestName},
    orchestrate::host::Cancel,
};

/// Read at once.
const CHUNK: usize = 16 << 10;
/// How often a watcher looks whether the console has ended by itself.
const LOOK: Duration = Duration::from_secs(1);

/// Serves a console until the guest ends or the call is cancelled. `say` gets what the guest said before, then all that it
/// says; `typed` gives what is typed.
pub fn serve(
    host: &LocalHost,
    (deployment, guest): (&DeploymentName, &GuestName),
    cancel: &Cancel,
    typed: mpsc::Receiver<Vec<u8>>,
    say: &dyn Fn(&[u8]),
) -> Result<(), Problem> {
    let (console, past) = host.console(deployment, guest)?;
    let console = Arc::new(console);
    say(&past);
    let written = console.clone();
    // A guest that does not listen holds up only this thread; it ends with the console.
    let writer = std::thread::Builder::new().name("console".to_string()).spawn(move || type_in(&written, &typed));
    writer.map_err(|error| Problem::io("cannot start a console's thread", &error))?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !cancel.wait(LOOK) {}
            console.close();
        });
        let mut chunk = vec![0; CHUNK];
        loop {
            match console.read(&mut chunk) {
                0 => break,
                count => say(&chunk[..count]),
            }
        }
        // The watcher ends with the console.
        cancel.cancel();
    });
    Ok(())
}

fn type_in(console: &LibvirtConsole, typed: &mpsc::Receiver<Vec<u8>>) {
    while let Ok(bytes) = typed.recv() {
        if let Err(problem) = console.write(&bytes) {
            tracing::debug!(%problem, "a console takes nothing any more");
            return;
        }
    }
}
