//! Why a guest cannot reach another: facts → one sentence with the culprit.
//!
//! Pure: [`inside`] and [`trace`] read what programs printed, [`verdict`] decides. Who gathers the facts is not known here.

mod ends;
mod evidence;
pub mod facts;
pub mod inside;
mod network;
mod outside;
pub mod trace;
pub mod verdict;

pub use evidence::evidence;
pub use facts::{Binding, Drift, End, Facts, Foreign, ForeignKind, Leads, Nic, Outside, Probed, Target, Translated};
pub use verdict::{Verdict, diagnose};
