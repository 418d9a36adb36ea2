//! Who may come in, and through which door.
//!
//! Through the Unix socket comes whoever its permissions let through; over TCP one must show the token. `Host` and
//! `Origin` are checked on every request and websocket, against DNS rebinding and foreign pages.

pub mod guard;

pub use guard::Guard;

/// The door through which a connection came; an extension of each of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket.
    Unix,
    /// TCP on a loopback address.
    Tcp,
}
