//! `testbed schema`

use crate::{
    args::Format,
    exit::{Exit, Outcome},
    output::Output,
};

pub fn run(out: &Output) -> Outcome {
    // A schema is JSON in every format.
    let format = if out.format == Format::Ndjson { Format::Ndjson } else { Format::Json };
    Output::new(format).result(&kvm_compose::spec::schema(), |_| String::new());
    Ok(Exit::SUCCESS)
}
