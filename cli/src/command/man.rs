//! `testbed man`

use std::path::Path;

use clap::CommandFactory;
use kvm_compose::error::Problem;

use crate::{
    args::{Args, Format},
    exit::{Exit, Outcome},
    output::Output,
};

pub fn run(folder: Option<&Path>) -> Outcome {
    let command = Args::command();
    if let Some(folder) = folder {
        let failed = |error: std::io::Error| Problem::io(format!("the manual pages cannot be written to `{}`", folder.display()), &error);
        clap_mangen::generate_to(command, folder).map_err(failed)?;
        return Ok(Exit::SUCCESS);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(|error| Problem::internal("the manual page cannot be made").cause(error))?;
    Output::new(Format::Text).bytes(&page);
    Ok(Exit::SUCCESS)
}
