//! Connections and what happens to every request, whatever it asks.

pub mod first_line;
pub mod listen;
pub mod serve;
pub mod trace;
