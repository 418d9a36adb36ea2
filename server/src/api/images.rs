//! Base images: list them, have them made, downloaded or taken in, remove them.

use std::time::Duration;

use axum::{
    body::BodyDataStream,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use kvm_compose::{
    api::{ActionAccepted, CatalogueEntry, ImageInfo, ImageRequest, LogIndex, RemovedImages, action::LogRecord},
    backend::images::disks::{self, Import},
    error::{Code, Problem},
    names::printable,
};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::{
    extract::{ActionId, Image, Json, Words},
    logs,
};
use crate::{
    app::{App, blocking},
    error::{Answer, Failure, bad_request},
    operations::index::images_owner,
};

/// What is refused is read on to this.
const DRAINED: usize = 32 << 20;

/// How long nothing may come of an image that is handed over.
const SILENCE: Duration = Duration::from_secs(60);

/// GET `/api/images`.
pub async fn list(State(app): State<App>) -> Answer<axum::Json<Vec<ImageInfo>>> {
    Ok(axum::Json(app.observe(|operations| operations.driver().images()).await?))
}

/// GET `/api/images/catalogue`.
pub async fn catalogue(State(app): State<App>) -> Answer<axum::Json<Vec<CatalogueEntry>>> {
    Ok(axum::Json(app.observe(|operations| operations.driver().catalogue()).await?))
}

/// POST `/api/images`.
pub async fn make(State(app): State<App>, Json(request): Json<ImageRequest>) -> Answer<Response> {
    let operations = app.operations.clone();
    let uuid = match request {
        ImageRequest::Build(name) if name == "micro" => blocking(move || operations.start_build()).await?,
        ImageRequest::Build(name) => {
            let message = format!("`{}` is not an image that this version can make", printable(&name));
            return Err(Problem::new(Code::Unsupported, message).hint("use `micro`").into());
        }
        ImageRequest::Pull(name) => blocking(move || operations.start_pull(&name)).await?,
    };
    Ok(accepted(uuid))
}

/// POST `/api/images/import`: the body is the image.
pub async fn import(State(app): State<App>, words: Words, request: Request) -> Answer<Response> {
    let promised = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let mut body = request.into_body().into_data_stream();
    let taken = take(&app, &words, promised, &mut body).await;
    if taken.is_err() {
        drain(&mut body).await;
    }
    let import = taken?;
    let operations = app.operations.clone();
    Ok(accepted(blocking(move || operations.start_import(import)).await?))
}

async fn take(app: &App, words: &Words, promised: Option<u64>, body: &mut BodyDataStream) -> Result<Import, Failure> {
    let name = words.get("name").ok_or_else(|| bad_request("`name` is missing: the name that the image is to have"))?.to_string();
    disks::check_name(&name)?;
    // What messages call it; no path on this machine.
    let file = printable(words.get("file").unwrap_or(&name));
    let largest = app.largest_image;
    let too_large = || Failure(disks::ova::too_large(largest));
    if promised.is_some_and(|length| length > largest) {
        return Err(too_large());
    }
    let driver = app.operations.driver().clone();
    let spool = blocking(move || driver.spool_image()).await?;
    let failed = |error: std::io::Error| Failure(Problem::io("writing the image that is handed over", &error));
    let mut to = tokio::fs::File::from_std(spool.file().try_clone().map_err(failed)?);
    let mut size = 0u64;
    while let Some(chunk) = timeout(SILENCE, body.next()).await.map_err(|_| bad_request("the image stopped coming"))? {
        let chunk = chunk.map_err(|error| Failure(Problem::new(Code::BadRequest, "the image could not be read").cause(error)))?;
        size += chunk.len() as u64;
        if size > largest {
            return Err(too_large());
        }
        to.write_all(&chunk).await.map_err(failed)?;
    }
    to.flush().await.map_err(failed)?;
    Ok(Import { spool, file, name })
}

/// Reads on for a while, so that a client that sends all of it before it listens hears why it is refused.
async fn drain(body: &mut BodyDataStream) {
    let mut drained = 0;
    while let Ok(Some(Ok(chunk))) = timeout(SILENCE, body.next()).await {
        drained += chunk.len();
        if drained > DRAINED {
            return;
        }
    }
}

/// DELETE `/api/images/{image}`.
pub async fn remove(State(app): State<App>, Image(name): Image) -> Answer<axum::Json<RemovedImages>> {
    Ok(axum::Json(app.observe(move |operations| operations.remove_image(&name)).await?))
}

/// POST `/api/images/prune`.
pub async fn prune(State(app): State<App>) -> Answer<axum::Json<RemovedImages>> {
    Ok(axum::Json(app.observe(|operations| operations.prune_images()).await?))
}

fn accepted(uuid: uuid::Uuid) -> Response {
    (StatusCode::ACCEPTED, axum::Json(ActionAccepted { uuid })).into_response()
}

/// DELETE `/api/images/action/{uuid}`.
pub async fn cancel(State(app): State<App>, ActionId(uuid): ActionId) -> Answer<Response> {
    app.operations.cancel_image(uuid)?;
    Ok(accepted(uuid))
}

/// GET `/api/images/logs`.
pub async fn index(State(app): State<App>) -> axum::Json<LogIndex> {
    axum::Json(app.operations.image_index())
}

/// GET `/api/images/logs/{uuid}`, as for deployments.
pub async fn entry(State(app): State<App>, ActionId(uuid): ActionId, words: Words, headers: HeaderMap) -> Answer<Response> {
    let entry = app.operations.image_entry(uuid)?;
    logs::answer(LogRecord { uuid, deployment: images_owner()?, entry }, &words, &headers).await
}
