//! What handlers take: names checked at the door, and JSON bodies whose names are checked before anything else.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request},
    http::{header, request::Parts},
};
use futures_util::StreamExt as _;
use kvm_compose::{
    api::{ActionRequest, CreateDeployment, CreateSnapshot, Draft, ImageRequest},
    backend::images::disks,
    error::{Code, Problem},
    names::{DeploymentName, GuestName, HostName, SnapshotName},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    config::host::HostConfig,
    error::{Failure, bad_request},
    operations::projects::LARGEST_COMPOSITION,
};

/// The `{name}` of the path.
pub struct Name(pub DeploymentName);

/// The `{host}` of the path.
pub struct Host(pub HostName);

/// The `{image}` of the path.
pub struct Image(pub String);

/// The `{guest}` of the path.
pub struct Guest(pub GuestName);

/// The `{snapshot}` of the path.
pub struct Snapshot(pub SnapshotName);

/// The `{uuid}` of the path.
pub struct ActionId(pub Uuid);

/// A path's parameter, decoded. What does not decode is as bad a name as any.
async fn parameter<S: Send + Sync>(parts: &mut Parts, state: &S, key: &str) -> Result<String, Failure> {
    let found = RawPathParams::from_request_parts(parts, state).await;
    let found = found.map_err(|_| Problem::new(Code::InvalidName, "the path holds a name that is not UTF-8 text"))?;
    let value = found.iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_string());
    Ok(value.unwrap_or_default())
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Name(DeploymentName::new(&parameter(parts, state, "name").await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Host {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Host(HostName::new(&parameter(parts, state, "host").await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Image {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let name = parameter(parts, state, "image").await?;
        disks::check_name(&name)?;
        Ok(Image(name))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Guest {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Guest(GuestName::new(&parameter(parts, state, "guest").await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Snapshot {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Snapshot(SnapshotName::new(&parameter(parts, state, "snapshot").await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ActionId {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let text = parameter(parts, state, "uuid").await?;
        // Only the usual form: others (braces, URNs) would be second names of one thing.
        let parsed = Uuid::try_parse(&text).ok().filter(|uuid| uuid.to_string() == text.to_ascii_lowercase());
        let refused = || {
            Problem::new(Code::InvalidName, format!("`{}` is not an action's uuid", kvm_compose::names::printable(&text)))
                .hint("the uuids of a deployment's actions are the keys of GET /api/deployments/NAME/logs")
        };
        Ok(ActionId(parsed.ok_or_else(refused)?))
    }
}

/// The query as pairs; a key that a handler does not ask for is ignored, as in most APIs.
pub struct Words(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Words {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let parsed = Query::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        parsed.map(|Query(words)| Words(words)).map_err(|error| bad_request(error.body_text()))
    }
}

impl Words {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// True for `?key`, `?key=1` and `?key=true`.
    pub fn flag(&self, key: &str) -> Result<bool, Failure> {
        match self.get(key) {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(_) => Err(bad_request(format!("`{key}` is a flag: leave its value out, or use `true` or `false`"))),
        }
    }

    /// A number, 0 when it is left out.
    pub fn number(&self, key: &str) -> Result<u64, Failure> {
        let parsed = self.get(key).map_or(Ok(0), str::parse);
        parsed.map_err(|_| bad_request(format!("`{key}` must be a number of bytes")))
    }

    /// A deployment's name.
    pub fn deployment(&self, key: &str) -> Result<Option<DeploymentName>, Failure> {
        Ok(self.get(key).map(DeploymentName::new).transpose()?)
    }
}

/// A body that names things. Names are checked first, so that a bad one is refused as such and not as malformed JSON.
pub trait Names {
    /// A larger body is refused.
    const LARGEST: usize = LARGEST;

    /// Checks every name in the document.
    fn check_names(_document: &Value) -> Result<(), Problem> {
        Ok(())
    }
}

fn check<T>(value: &Value, new: fn(&str) -> Result<T, Problem>) -> Result<(), Problem> {
    value.as_str().map_or(Ok(()), |text| new(text).map(|_| ()))
}

impl Names for CreateDeployment {
    fn check_names(document: &Value) -> Result<(), Problem> {
        check(&document["name"], DeploymentName::new)
    }
}

impl Names for HostConfig {
    fn check_names(document: &Value) -> Result<(), Problem> {
        check(&document["hostname"], HostName::new)
    }
}

impl Names for ActionRequest {
    const LARGEST: usize = LARGEST_DRAFT;

    fn check_names(document: &Value) -> Result<(), Problem> {
        check(&document["guest"], GuestName::new)?;
        document["guests"].as_array().into_iter().flatten().try_for_each(|guest| check(guest, GuestName::new))
    }
}

impl Names for CreateSnapshot {
    fn check_names(document: &Value) -> Result<(), Problem> {
        check(&document["name"], SnapshotName::new)?;
        document["guests"].as_array().into_iter().flatten().try_for_each(|guest| check(guest, GuestName::new))
    }
}

impl Names for ImageRequest {}

impl Names for Draft {
    const LARGEST: usize = LARGEST_DRAFT;
}

/// A JSON body.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Names> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Failure> {
        let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec()).unwrap_or_default();
        if !kind.starts_with(b"application/json") {
            return Err(bad_request("the body must be JSON, sent with `Content-Type: application/json`"));
        }
        let body = body_within(request, T::LARGEST).await?;
        let malformed =
            |error: serde_json::Error| Failure(Problem::new(Code::BadRequest, "the body is not what this path takes").cause(error));
        let document: Value = serde_json::from_slice(&body).map_err(malformed)?;
        T::check_names(&document)?;
        Ok(Json(serde_json::from_value(document).map_err(malformed)?))
    }
}

/// JSON bodies and testbed files may be this large (an action's body twice as large); project archives have a limit of their own.
const LARGEST: usize = 2 * 1024 * 1024;

/// A draft is a testbed file, and all that goes with it, within JSON, where a character may become two.
const LARGEST_DRAFT: usize = 2 * (LARGEST + LARGEST_COMPOSITION as usize) + 64 * 1024;

/// What is too large is read on to this, so that a client that sends all of it before it listens hears why.
const DRAINED: usize = 32 * 1024 * 1024;

/// How long a whole body may take.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// A whole body within the limit of a testbed file.
pub async fn body(request: Request) -> Result<Vec<u8>, Failure> {
    body_within(request, LARGEST).await
}

async fn body_within(request: Request, largest: usize) -> Result<Vec<u8>, Failure> {
    let mut stream = request.into_body().into_data_stream();
    let reading = async {
        let (mut body, mut size) = (Vec::new(), 0);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| Problem::new(Code::BadRequest, "the body could not be read").cause(error))?;
            size += chunk.len();
            if size > DRAINED {
                break;
            }
            if size <= largest {
                body.extend_from_slice(&chunk);
            }
        }
        Ok::<_, Failure>((size <= largest).then_some(body))
    };
    let read = timeout(BODY_LIMIT, reading).await.map_err(|_| bad_request("the body did not arrive in time"))?;
    read?.ok_or_else(|| Failure(Problem::new(Code::TooLarge, format!("the body is larger than {largest} bytes"))))
}
