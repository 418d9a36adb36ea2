//! A relay for Ethernet frames between a guest's TAP device and the integration bridge. It delays, drops, doubles,
//! reorders and slows frames down in each direction, as netem (tc-netem(8)) does where the kernel has it.
//!
//! ```text
//!   guest ── QEMU ── vnetN │ packet socket ─► line from_guest ─► TAP │ tblX ── br-int
//!                          │ packet socket ◄─ line to_guest   ◄─ TAP │
//! ```
//!
//! One process serves all links of a deployment on a host. It must not know libvirt, OVN or the testbed file: who asks for a
//! link has plugged `tblX` into the bridge in `vnetN`'s place. It outlives whoever started it, and ends with its last link.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`wire`] | what is asked and answered, as JSON |
//! | [`line`] | what becomes of a frame, and when (pure) |
//! | [`count`] | what was measured on passing frames (pure) |
//! | [`probe`] | frames of our own that measure a line (pure) |
//! | [`engine`] | the loop that reads, waits and writes |
//! | [`port`], [`raw`] | the two ends of a link, and their system calls |
//! | [`control`], [`client`] | the Unix socket, from both sides |

pub mod client;
pub mod control;
pub mod count;
pub mod engine;
pub mod line;
pub mod port;
pub mod probe;
pub mod raw;
pub mod wire;
