//! The surface that users have: argv in; standard output, standard error, exit status and requests out.

mod actions;
mod commands;
mod composition;
mod fake;
mod graph;
