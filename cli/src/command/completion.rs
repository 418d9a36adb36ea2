//! `testbed completion`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    args::{Args, Format},
    exit::{Exit, Outcome},
    output::Output,
};

pub fn run(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "testbed", &mut script);
    Output::new(Format::Text).bytes(&script);
    Ok(Exit::SUCCESS)
}
