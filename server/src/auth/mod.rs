//! Who may come in, and through which door.
//!
//! Through the Unix socket comes whoever its permissions let through; over TCP one must show the token, or the cookie of a
//! browser that has logged in. `Host` and `Origin` are checked on every request and websocket, against DNS rebinding and
//! foreign pages.

pub mod guard;
pub mod secret;
pub mod sessions;

pub use guard::Guard;

/// The door through which a connection came; an extension of each of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket.
    Unix,
    /// TCP on a loopback address.
    Tcp,
}

/// What a request showed; an extension of each request that the guard let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// It came through the Unix socket.
    Socket,
    /// The token.
    Token,
    /// The cookie of a session, with its secret.
    Session(String),
    /// Nothing: it may see what is open to everybody.
    Nothing,
}
