//! What is to be done: [`lower()`] a topology to a blueprint, [`diff()`] it against the world, get steps.
//!
//! Pure: same input, same bytes out. Must not know how a step is carried out.

pub mod affected;
pub mod anywhere;
mod asked;
pub mod blueprint;
pub mod container;
pub mod describe;
mod diff;
mod diff_outside;
mod diff_rows;
pub mod golden;
pub mod lifecycle;
pub mod link;
mod link_diff;
pub mod link_report;
mod live;
mod lower;
pub mod observed;
pub mod outside;
pub mod place;
mod relations;
pub mod render;
pub mod restore;
pub mod site;
pub mod snapshot;
pub mod step;
mod things;
mod undo;

pub use asked::refused;
pub use diff::{Taints, diff};
pub use diff_rows::diff_rows;
pub use link_diff::with_links;
pub use lower::{Sums, lower, nothing, travelling};
pub use place::place;
