//! GET `/gui/images`: base images, and the making of one.

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use chrono::Utc;
use kvm_compose::api::{ActionState, ImageInfo, LogIndex};
use serde::Serialize;

use super::{Chrome, Page, respond, words};
use crate::{api::images, app::App, auth::Access, error::Answer};

/// The images.
#[derive(Template, Serialize)]
#[template(path = "images.html")]
pub struct Images {
    chrome: Chrome,
    images: Vec<Image>,
    /// The last making; its uuid is empty when there was none.
    build: Build,
}

impl Page for Images {
    const FILE: &'static str = "images.html";
}

#[derive(Serialize)]
struct Image {
    name: String,
    digest: String,
    size: String,
    created: String,
    created_shown: String,
    files: Vec<String>,
}

#[derive(Default, Serialize)]
struct Build {
    uuid: String,
    running: bool,
    mark: words::Mark,
    started: String,
    started_shown: String,
    took: String,
    code: String,
    message: String,
}

impl Images {
    /// The page over what the API answers.
    pub fn new(chrome: Chrome, images: Vec<ImageInfo>, index: &LogIndex) -> Images {
        let images = images.into_iter().map(|image| Image {
            name: image.name,
            digest: image.digest.chars().take(16).collect(),
            size: words::bytes(image.size_bytes),
            created: words::exact(image.created),
            created_shown: words::shown(image.created),
            files: image.files,
        });
        let last = index.0.iter().max_by_key(|(_, entry)| entry.started);
        let build = last.map(|(uuid, entry)| Build {
            uuid: uuid.to_string(),
            running: entry.state == ActionState::Running,
            mark: words::action(entry.state),
            started: words::exact(entry.started),
            started_shown: words::shown(entry.started),
            took: words::span(entry.started, entry.ended.unwrap_or_else(Utc::now)),
            code: words::error_code(entry.error_code),
            message: entry.problem.as_ref().map(|problem| problem.message.clone()).unwrap_or_default(),
        });
        Images { images: images.collect(), build: build.unwrap_or_default(), chrome }
    }
}

/// GET `/gui/images`.
pub async fn images(State(app): State<App>, Extension(access): Extension<Access>) -> Answer<Response> {
    let axum::Json(all) = images::list(State(app.clone())).await?;
    let axum::Json(index) = images::index(State(app)).await;
    Ok(respond(StatusCode::OK, &Images::new(Chrome::new("images", matches!(access, Access::Session(_))), all, &index))?)
}
