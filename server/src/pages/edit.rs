//! GET `/gui/deployments/{name}/edit`: the testbed file.

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use kvm_compose::{
    api::Composition,
    error::{Code, Problem},
};
use serde::Serialize;

use super::{Chrome, Page, respond};
use crate::{api::extract::Name, app::App, auth::Access, error::Answer};

/// The editor.
#[derive(Template, Serialize)]
#[template(path = "edit.html")]
pub struct Edit {
    chrome: Chrome,
    name: String,
    project: String,
    /// What the editor begins with.
    yaml: String,
    /// True when there is no file yet.
    missing: bool,
    /// True when something was handed over with it.
    composed: bool,
    /// Files, variables and keys of `--set`. What the variables hold is nobody's to see.
    parts: Vec<String>,
}

impl Page for Edit {
    const FILE: &'static str = "edit.html";
}

impl Edit {
    /// The editor over a file, if there is one.
    pub fn new(chrome: Chrome, name: &str, project: &str, yaml: Option<String>, composition: &Composition) -> Edit {
        let missing = yaml.is_none();
        let files = composition.files.keys().cloned();
        let variables = composition.variables.keys().map(|name| format!("${{{name}}}"));
        let set = composition.set.iter().map(|option| format!("--set {}", option.split('=').next().unwrap_or_default()));
        Edit {
            chrome,
            name: name.to_string(),
            project: project.to_string(),
            yaml: yaml.unwrap_or_default(),
            missing,
            composed: !composition.is_empty(),
            parts: files.chain(variables).chain(set).collect(),
        }
    }
}

/// GET `/gui/deployments/{name}/edit`.
pub async fn edit(State(app): State<App>, Name(name): Name, Extension(access): Extension<Access>) -> Answer<Response> {
    let of = name.clone();
    let read = app.store(move |operations| {
        let folder = operations.project_folder(&of)?;
        let yaml = match operations.yaml(&of) {
            // An editor would spoil what it cannot show.
            Ok(content) => Some(String::from_utf8(content).map_err(|error| {
                Problem::new(Code::InvalidFile, "the testbed file is not UTF-8 text, so it cannot be edited here").cause(error.utf8_error())
            })?),
            Err(problem) if problem.code == Code::NotFound => None,
            Err(problem) => return Err(problem),
        };
        Ok((folder.display().to_string(), yaml, operations.composition(&of)?))
    });
    let (folder, yaml, composition) = read.await?;
    let chrome = Chrome::new("deployments", matches!(access, Access::Session(_)));
    Ok(respond(StatusCode::OK, &Edit::new(chrome, name.as_str(), &folder, yaml, &composition))?)
}
