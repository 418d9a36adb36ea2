//! `testbed image`

use std::path::Path;

use futures_util::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget};
use kvm_compose::{
    api::{ActionAccepted, ImageInfo, ImageRequest, RemovedImages},
    error::{Code, Problem},
    names::{IMAGE_RULE, is_image, printable},
};
use tokio_util::io::ReaderStream;

use super::{conclude, ended, list};
use crate::{
    action::{self, Watch},
    args::{Format, Image},
    client::Owner,
    exit::{Exit, Outcome},
    output::table,
    session::Session,
};

pub async fn run(session: &Session, command: Image) -> Outcome {
    match command {
        Image::List { available: false } => list_all(session).await,
        Image::List { available: true } => list_available(session).await,
        Image::Build { name } => {
            let client = session.client()?;
            follow(session, &name, client.make_image(&ImageRequest::Build(name.clone()))).await
        }
        Image::Pull { name } => {
            let client = session.client()?;
            follow(session, &name, client.make_image(&ImageRequest::Pull(name.clone()))).await
        }
        Image::Import { path, name } => import(session, &path, name).await,
        Image::Rm { names } => remove(session, &names).await,
        Image::Prune => {
            let removed = session.client()?.prune_images().await?;
            tell(session, &removed);
            Ok(Exit::SUCCESS)
        }
    }
}

async fn list_all(session: &Session) -> Outcome {
    let images = session.client()?.images().await?;
    session.out.list(&images, |images| {
        if session.global.quiet {
            return images.iter().map(|image| format!("{}\n", image.name)).collect();
        }
        let rows = images.iter().map(|image| {
            let digest: String = image.digest.chars().take(12).collect();
            let size = table::bytes(image.size_bytes);
            vec![image.name.clone(), digest, size, disk(image), used(image), list::local(image.created)]
        });
        table::table(
            &["name", "digest", "size", "disk", "used by", "created"],
            rows.collect(),
            "no images; `testbed image build micro` makes the built-in one, `testbed image pull NAME` downloads one of the catalogue",
        )
    });
    Ok(Exit::SUCCESS)
}

fn disk(image: &ImageInfo) -> String {
    image.virtual_bytes.map_or_else(|| "-".to_string(), table::bytes)
}

fn used(image: &ImageInfo) -> String {
    let users: Vec<&str> = image.used_by.iter().map(|name| name.as_str()).collect();
    if users.is_empty() { "-".to_string() } else { users.join(", ") }
}

async fn list_available(session: &Session) -> Outcome {
    let entries = session.client()?.catalogue().await?;
    session.out.list(&entries, |entries| {
        if session.global.quiet {
            return entries.iter().map(|entry| format!("{}\n", entry.name)).collect();
        }
        let rows = entries.iter().map(|entry| {
            let there = if entry.present { "yes" } else { "no" };
            let or_none = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_string());
            vec![entry.name.clone(), there.to_string(), or_none(&entry.user, "-"), or_none(&entry.url, "built on the server")]
        });
        table::table(&["name", "there", "user", "from"], rows.collect(), "the catalogue is empty")
    });
    Ok(Exit::SUCCESS)
}

/// Follows an action on images to its end.
async fn follow(session: &Session, name: &str, request: impl Future<Output = Result<ActionAccepted, Problem>>) -> Outcome {
    let client = session.client()?;
    let watch = Watch { progress: session.progress(), limit: session.global.timeout, prints: false };
    let followed = action::run(session, &client, &Owner::Images, request, watch).await?;
    let Some(ended) = ended(followed)? else { return Ok(Exit::CANCELLED) };
    let exit = conclude(session, &ended)?;
    if exit == Exit::SUCCESS && session.global.output == Format::Text && !session.global.quiet {
        session.out.line(&format!("the image `{name}` is ready"));
    }
    Ok(exit)
}

async fn import(session: &Session, path: &Path, name: Option<String>) -> Outcome {
    let unreadable = |error: std::io::Error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { Code::NotFound } else { Code::BadRequest };
        Problem::new(code, format!("`{}` cannot be read", printable(&path.to_string_lossy()))).cause(error)
    };
    let name = name.map_or_else(|| name_of(path), Ok)?;
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let found = file.metadata().await.map_err(unreadable)?;
    if !found.is_file() {
        return Err(Problem::new(Code::BadRequest, format!("`{}` is not a regular file", printable(&path.to_string_lossy()))));
    }
    let bar = if session.draws() {
        ProgressBar::with_draw_target(Some(found.len()), ProgressDrawTarget::stderr_with_hz(5))
            .with_style(crate::progress::bytes_style())
            .with_prefix("handing over")
    } else {
        ProgressBar::hidden()
    };
    let client = session.client()?;
    let shown = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let drawn = bar.clone();
    let stream = ReaderStream::with_capacity(file, 1 << 18).inspect_ok(move |bytes| drawn.inc(bytes.len() as u64));
    let body = reqwest::Body::wrap_stream(stream);
    let handing_over = async {
        let accepted = client.import_image(&name, &shown, found.len(), body).await;
        bar.finish_and_clear();
        accepted
    };
    follow(session, &name, handing_over).await
}

/// The file's name without its ending, when that may be an image's name.
fn name_of(path: &Path) -> Result<String, Problem> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if is_image(&stem) {
        return Ok(stem);
    }
    Err(Problem::new(Code::InvalidName, format!("`{}` is not an image's name", printable(&stem)))
        .hint(format!("give one with `--name`: {IMAGE_RULE}")))
}

async fn remove(session: &Session, names: &[String]) -> Outcome {
    let client = session.client()?;
    let mut all = RemovedImages::default();
    for name in names {
        // What was removed before a refusal is told all the same.
        let removed = match client.remove_image(name).await {
            Ok(removed) => removed,
            Err(problem) => {
                if !all.removed.is_empty() {
                    tell(session, &all);
                }
                return Err(problem);
            }
        };
        all.removed.extend(removed.removed);
        all.freed_bytes += removed.freed_bytes;
    }
    tell(session, &all);
    Ok(Exit::SUCCESS)
}

fn tell(session: &Session, removed: &RemovedImages) {
    session.out.result(removed, |removed| {
        if session.global.quiet {
            return removed.removed.join("\n");
        }
        let freed = table::bytes(removed.freed_bytes);
        match removed.removed.as_slice() {
            [] if removed.freed_bytes == 0 => "nothing to remove".to_string(),
            [] => format!("{freed} are free again"),
            names => format!("removed {}; {freed} are free again", names.join(", ")),
        }
    });
}
