//! `testbed graph`

use std::{fs, path::Path};

use kvm_compose::{
    error::{Code, Problem},
    picture::{self, Format},
};
use serde::Serialize;

use crate::{
    args::{Drawing, Graph},
    exit::{Exit, Outcome},
    output::problem::print_warnings,
    session::{Session, no_file},
};

#[derive(Serialize)]
struct Picture {
    format: &'static str,
    picture: String,
}

pub fn run(session: &Session, args: &Graph) -> Outcome {
    let format = match (args.format, &args.to) {
        (Some(format), _) => format,
        (None, Some(path)) => by_ending(path)?,
        (None, None) => Drawing::Svg,
    };
    let project = session.project()?.ok_or_else(no_file)?;
    let (_, loaded) = project.load(&session.name_of(&project)?)?;
    print_warnings(&session.out, &loaded.warnings);
    let (language, word) = match format {
        Drawing::Svg => (Format::Svg, "svg"),
        Drawing::Mermaid => (Format::Mermaid, "mermaid"),
        Drawing::Dot => (Format::Dot, "dot"),
        Drawing::D2 => (Format::D2, "d2"),
    };
    let picture = picture::document(&loaded.topology, language);
    match &args.to {
        Some(path) => fs::write(path, picture)
            .map_err(|error| Problem::new(Code::BadRequest, format!("`{}` cannot be written", path.display())).cause(error))?,
        None => session.out.result(&Picture { format: word, picture }, |made| made.picture.clone()),
    }
    Ok(Exit::SUCCESS)
}

/// The language that a file's name stands for.
fn by_ending(path: &Path) -> Result<Drawing, Problem> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => Ok(Drawing::Svg),
        Some("mmd" | "mermaid") => Ok(Drawing::Mermaid),
        Some("dot" | "gv") => Ok(Drawing::Dot),
        Some("d2") => Ok(Drawing::D2),
        _ => Err(Problem::new(Code::BadRequest, format!("`{}` does not say in which language to draw", path.display()))
            .hint("end its name in .svg, .mmd, .dot, .gv or .d2, or name the language with `--format`")),
    }
}
