//! Images of containers: looked for, and got by Docker.
//!
//! Must not know containers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bollard::{errors::Error, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt as _;

use super::{Engine, LIMIT, cancelled, found};
use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long a download may be silent.
const SILENCE: Duration = Duration::from_secs(120);
/// How often it is said how far a download is.
const PROGRESS: Duration = Duration::from_secs(5);

impl Engine {
    /// The id of an image; nothing when it is not there.
    pub fn image(&self, name: &str) -> Result<Option<String>, Problem> {
        let doing = format!("Docker does not say which image `{name}` is");
        let answer = self.ask(&doing, LIMIT, async |docker| found(docker.inspect_image(name).await))?;
        Ok(answer.and_then(|image| image.id))
    }

    /// Has Docker get an image. Present already is success.
    pub fn pull(&self, image: &str, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<(), Problem> {
        if self.image(image)?.is_some() {
            return Ok(());
        }
        let missing = |cause: String| {
            Problem::new(Code::ImageMissing, format!("the image `{image}` is not on this host, and Docker cannot get it"))
                .cause(cause)
                .hint(format!("`docker pull {image}` says more; `docker load` and `docker import` bring one from a file"))
        };
        let options = CreateImageOptionsBuilder::default().from_image(&full_name(image)).build();
        say(&format!("{image}: Docker gets it"));
        self.converse(SILENCE, async |docker| {
            let mut stream = std::pin::pin!(docker.create_image(Some(options), None, None));
            let mut progress = Progress::default();
            loop {
                let next = tokio::select! {
                    next = tokio::time::timeout(SILENCE, stream.next()) => next,
                    () = cancelled(cancel) => return cancel.check(),
                };
                match next {
                    Ok(None) => return Ok(()),
                    Ok(Some(Ok(told))) => {
                        let bytes = told.progress_detail.and_then(|detail| Some((detail.current?, detail.total?)));
                        progress.told(image, told.id.as_deref().unwrap_or_default(), told.status.as_deref(), bytes, say);
                    }
                    Ok(Some(Err(Error::DockerResponseServerError { message, .. }))) => return Err(missing(message)),
                    Ok(Some(Err(Error::DockerStreamError { error }))) => return Err(missing(error)),
                    Ok(Some(Err(error))) => return Err(missing(error.to_string())),
                    Err(_) => return Err(missing(format!("nothing came for {} s", SILENCE.as_secs()))),
                }
            }
        })
    }
}

/// A name without a tag means the tag `latest`, as for `docker pull`; without it Docker would get all there are.
fn full_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_string() } else { format!("{image}:latest") }
}

/// How far a download is: what Docker says of each layer, without its many small steps.
#[derive(Default)]
struct Progress {
    layers: BTreeMap<String, (String, i64, i64)>,
    said: Option<Instant>,
}

impl Progress {
    fn told(&mut self, image: &str, layer: &str, status: Option<&str>, bytes: Option<(i64, i64)>, say: &dyn Fn(&str)) {
        let Some(status) = status else { return };
        if layer.is_empty() {
            say(&format!("{image}: {status}"));
            return;
        }
        let known = self.layers.entry(layer.to_string()).or_default();
        if known.0 != status {
            known.0 = status.to_string();
            if !matches!(status, "Waiting" | "Verifying Checksum" | "Extracting") {
                say(&format!("{image}: {layer}: {status}"));
            }
        }
        if let (Some((current, total)), "Downloading") = (bytes, status) {
            (known.1, known.2) = (current, total);
            if self.said.is_none_or(|said| said.elapsed() >= PROGRESS) {
                self.said = Some(Instant::now());
                let (have, all) = self.layers.values().fold((0, 0), |(have, all), (_, current, total)| (have + current, all + total));
                say(&format!("{image}: {} of {} MiB so far", have >> 20, all >> 20));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        for (written, full) in [
            ("nginx", "nginx:latest"),
            ("nginx:1", "nginx:1"),
            ("registry:5000/nginx", "registry:5000/nginx:latest"),
            ("a/b@sha256:0", "a/b@sha256:0"),
        ] {
            assert_eq!(full_name(written), full);
        }
    }
}
