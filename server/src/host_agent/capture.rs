//! Listening to ports for a master: each frame goes out as output of the call.
//!
//! The connection to the master carries all else, too, so a loud guest is not passed on whole: what goes beyond the rate is
//! counted as dropped. Must not know sockets or who listens.

use std::time::Instant;

use kvm_compose::{
    backend::local::LocalHost,
    capture::{Counts, packet},
    error::Problem,
    names::DeploymentName,
    orchestrate::host::Cancel,
};
use uuid::Uuid;

/// Bytes of frames a second that may go to the master.
const RATE: f64 = 20e6;
/// How much may come at once.
const BURST: f64 = 8e6;

/// Listens until the call is cancelled; says nothing once when it begins, then a packet block for each frame.
pub fn serve(
    host: &LocalHost,
    (deployment, ports, snap): (&DeploymentName, &[Uuid], usize),
    cancel: &Cancel,
    say: &dyn Fn(&[u8]),
) -> Result<Vec<Counts>, Problem> {
    let mut held_back = vec![0; ports.len()];
    let (mut room, mut last) = (BURST, Instant::now());
    let mut counts = host.capture(deployment, ports, snap, cancel, &mut || say(&[]), &mut |frame| {
        let now = Instant::now();
        room = (room + now.duration_since(last).as_secs_f64() * RATE).min(BURST);
        last = now;
        let block = packet(&frame);
        if room < block.len() as f64 {
            held_back.iter_mut().skip(frame.port).take(1).for_each(|count| *count += 1);
        } else {
            room -= block.len() as f64;
            say(&block);
        }
        true
    })?;
    for (counts, held_back) in counts.iter_mut().zip(held_back) {
        counts.captured -= held_back;
        counts.dropped += held_back;
    }
    Ok(counts)
}
