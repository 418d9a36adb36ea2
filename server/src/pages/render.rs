//! From a page and its template to text.
//!
//! Release builds have the templates compiled in (askama). Compiling them takes longer than anybody wants to wait for an
//! edited line, so debug builds read the same files from disk at each request, with an engine that speaks the same
//! language (minijinja); a test holds the two against each other, page by page.

use askama::Template;
use kvm_compose::error::Problem;
use serde::Serialize;

/// A page: its data, its template, and the template's file.
pub trait Page: Template + Serialize {
    /// The file in `templates/`.
    const FILE: &'static str;
}

/// The page as HTML.
#[cfg(not(debug_assertions))]
pub fn text<P: Page>(page: &P) -> Result<String, Problem> {
    compiled(page)
}

/// The page as HTML.
#[cfg(debug_assertions)]
pub fn text<P: Page>(page: &P) -> Result<String, Problem> {
    development::text(page)
}

/// The page as HTML, from the template that was compiled in.
pub fn compiled<P: Page>(page: &P) -> Result<String, Problem> {
    page.render().map_err(|error| Problem::internal(format!("the page {} cannot be made", P::FILE)).cause(error))
}

/// Changes with every build.
#[cfg(not(debug_assertions))]
pub fn stamp() -> String {
    env!("CARGO_PKG_VERSION").to_string()
}

/// What stands in the place of a page whose template is wrong: in debug builds what is wrong, until it is mended.
#[cfg(not(debug_assertions))]
pub fn broken(_problem: &Problem) -> Option<String> {
    None
}

#[cfg(debug_assertions)]
pub use development::{broken, stamp};

#[cfg(debug_assertions)]
pub mod development {
    //! Templates from disk.

    use std::{
        hash::{DefaultHasher, Hash as _, Hasher as _},
        path::{Path, PathBuf},
    };

    use kvm_compose::error::Problem;
    use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, path_loader, value::Serde};

    use super::Page;

    /// Where the templates are: in the source tree that this was built from, unless TESTBEDOS_TEMPLATES says otherwise.
    fn folder() -> PathBuf {
        std::env::var_os("TESTBEDOS_TEMPLATES").map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../templates").into(), PathBuf::from)
    }

    /// The page as HTML, from the template as it is on disk now.
    pub fn text<P: Page>(page: &P) -> Result<String, Problem> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_loader(path_loader(folder()));
        environment.set_formatter(|out, state, value| {
            // Escaped as askama does it; minijinja's own way differs in a character.
            match state.auto_escape() {
                AutoEscape::Html if !value.is_safe() => {
                    let escaped = askama::filters::escape(value.to_string(), askama::filters::Html).map_err(|_| std::fmt::Error)?;
                    write!(out, "{escaped}")?;
                }
                _ => write!(out, "{value}")?,
            }
            Ok(())
        });
        let rendered = environment.get_template(P::FILE).and_then(|template| template.render(Value::from(Serde(page))));
        rendered.map_err(|error| Problem::internal(format!("the template {} is wrong", P::FILE)).cause(format!("{error:#}")))
    }

    /// What is wrong with a template, on a page that reloads itself when it is mended.
    pub fn broken(problem: &Problem) -> Option<String> {
        let what = std::iter::once(&problem.message).chain(&problem.causes).cloned().collect::<Vec<_>>().join("\n");
        let what = askama::filters::escape(what, askama::filters::Html).ok()?;
        let stamp = stamp();
        Some(format!(
            "<!doctype html><meta charset=\"utf-8\"><meta name=\"stamp\" content=\"{stamp}\"><title>a template is wrong</title>\
             <script type=\"module\" src=\"/assets/dev.js\"></script><pre>{what}</pre>"
        ))
    }

    /// Changes with every file below `templates/`, and with every start of the server.
    pub fn stamp() -> String {
        let mut hasher = DefaultHasher::new();
        std::process::id().hash(&mut hasher);
        look(&folder(), &mut hasher);
        format!("{:016x}", hasher.finish())
    }

    fn look(folder: &Path, hasher: &mut DefaultHasher) {
        let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                look(&entry.path(), hasher);
            } else {
                (entry.path(), found.len(), found.modified().ok()).hash(hasher);
            }
        }
    }
}
