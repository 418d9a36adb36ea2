//! `testbed export` and `testbed import`: a testbed as one file.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kvm_compose::{
    api::{ExportManifest, export::MANIFEST},
    error::{Code, Problem},
    names::{DeploymentName, printable},
};

use crate::{
    args::Format,
    exit::{Exit, Outcome},
    session::Session,
};

/// How often the screen says how much there is.
const SAID: Duration = Duration::from_millis(500);
/// The description of a hundred thousand files is shorter.
const LARGEST_DESCRIPTION: u64 = 64 << 20;

/// Arguments of `testbed export`.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// Write into this file; `-` is standard output [default: NAME.testbed.tar]
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

/// Arguments of `testbed import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// What `testbed export` wrote, or a project as a tar archive
    #[arg(value_name = "FILE")]
    pub archive: PathBuf,
}

pub async fn export(session: &Session, args: Export) -> Outcome {
    let name = session.deployment()?;
    let path = args.write.unwrap_or_else(|| PathBuf::from(format!("{name}.testbed.tar")));
    let to_screen = path == Path::new("-");
    if to_screen && io::stdout().is_terminal() {
        return Err(
            Problem::new(Code::BadRequest, "an archive is no text for a terminal").hint("write it into a file: `-w lab.testbed.tar`")
        );
    }
    let client = session.client()?;
    let mut response = client.export(&name).await?;
    let mut out = if to_screen { Into::Stdout } else { Into::file(&path)? };
    let (mut bytes, mut said) = (0u64, Instant::now());
    let aloud = io::stderr().is_terminal() && !session.global.quiet && !to_screen;
    let copied: Result<(), Problem> = loop {
        tokio::select! {
            piece = response.chunk() => match piece {
                Ok(Some(piece)) => {
                    if let Err(problem) = out.write(&piece) {
                        break Err(problem);
                    }
                    bytes += piece.len() as u64;
                    if aloud && said.elapsed() >= SAID {
                        said = Instant::now();
                        eprint!("\r{} MiB", bytes >> 20);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(Problem::new(Code::Unavailable, format!("the export of `{name}` ended early"))
                    .cause(error)
                    .hint("a file of the project changed meanwhile, or the server ended: its log says more; try again")),
            },
            _ = tokio::signal::ctrl_c() => {
                out.give_up();
                return Ok(Exit::CANCELLED);
            }
        }
    };
    if aloud {
        eprint!("\r\x1b[K");
    }
    if let Err(problem) = copied.and_then(|()| out.finish()) {
        out.give_up();
        return Err(problem);
    }
    if !to_screen {
        let shown = path.display().to_string();
        // What is not in it, nobody should find out on the other machine.
        let manifest = description(&path)?;
        if let Some(manifest) = &manifest {
            tell(session, manifest);
        }
        session.out.result(&serde_json::json!({"file": shown, "bytes": bytes, "export": manifest}), |_| {
            let files = manifest.as_ref().map_or(0, |manifest| manifest.files.len());
            let s = if files == 1 { "" } else { "s" };
            format!("`{name}` is in `{}`: {files} file{s}, {bytes} bytes", printable(&shown))
        });
    }
    Ok(Exit::SUCCESS)
}

pub async fn import(session: &Session, args: Import) -> Outcome {
    let shown = printable(&args.archive.to_string_lossy());
    let unreadable = |error: io::Error| Problem::io(format_args!("cannot read `{shown}`"), &error);
    let manifest = description(&args.archive)?;
    let name = match (&session.global.project_name, &manifest) {
        (Some(name), _) => DeploymentName::new(name)?,
        (None, Some(manifest)) => manifest.name.clone(),
        (None, None) => {
            return Err(Problem::new(Code::BadRequest, format!("`{shown}` is no export, so it has no name"))
                .hint("a project as a tar archive is given one with `-p NAME`"));
        }
    };
    let file = tokio::fs::File::open(&args.archive).await.map_err(unreadable)?;
    let length = file.metadata().await.map_err(unreadable)?.len();
    let body = reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::with_capacity(file, 128 << 10));
    let created = session.client()?.import(&name, length, body).await?;
    if let Some(manifest) = &manifest {
        tell(session, manifest);
    }
    session.out.result(&created, |created| format!("`{}` is created; bring it up with `testbed -p {} up`", created.name, created.name));
    Ok(Exit::SUCCESS)
}

/// What a testbed needs that is in no archive.
fn tell(session: &Session, manifest: &ExportManifest) {
    if session.global.quiet && session.global.output == Format::Text {
        return;
    }
    for path in &manifest.elsewhere {
        session.out.warning(&format!("`{}` lies outside the project's folder and is not in the archive", printable(path)));
    }
}

/// What an archive says of itself, when it is an export.
fn description(archive: &Path) -> Result<Option<ExportManifest>, Problem> {
    let shown = printable(&archive.to_string_lossy());
    let unreadable = |error: io::Error| Problem::io(format_args!("cannot read `{shown}`"), &error);
    let file = File::open(archive).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(Problem::new(Code::BadRequest, format!("`{shown}` is no regular file")));
    }
    let mut archive = tar::Archive::new(io::BufReader::new(file));
    let no_archive = |error: io::Error| {
        Problem::new(Code::BadRequest, format!("`{shown}` is no tar archive")).cause(error).hint("what `testbed export` writes is one")
    };
    let Some(first) = archive.entries().map_err(no_archive)?.next() else { return Ok(None) };
    let first = first.map_err(no_archive)?;
    if first.path().map_err(no_archive)? != Path::new(MANIFEST) {
        return Ok(None);
    }
    let mut text = Vec::new();
    first.take(LARGEST_DESCRIPTION).read_to_end(&mut text).map_err(unreadable)?;
    let manifest = serde_json::from_slice(&text).map_err(|error| {
        Problem::new(Code::BadRequest, format!("what `{shown}` says of itself cannot be read"))
            .cause(error)
            .hint("was it made by a newer version?")
    });
    manifest.map(Some)
}

/// Where the archive goes: a file gets its name when all of it is there.
enum Into {
    File { file: File, part: PathBuf, path: PathBuf },
    Stdout,
}

impl Into {
    fn file(path: &Path) -> Result<Into, Problem> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part)
            .map_err(|error| Problem::io(format_args!("cannot write `{}`", printable(&part.to_string_lossy())), &error))?;
        Ok(Into::File { file, part, path: path.to_path_buf() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let written = match self {
            Into::File { file, .. } => file.write_all(bytes),
            Into::Stdout => io::stdout().lock().write_all(bytes),
        };
        written.map_err(|error| Problem::io("cannot write the archive", &error))
    }

    fn finish(&mut self) -> Result<(), Problem> {
        let done = match self {
            Into::File { file, part, path } => file.sync_all().and_then(|()| std::fs::rename(part, path)),
            Into::Stdout => io::stdout().lock().flush(),
        };
        done.map_err(|error| Problem::io("cannot write the archive", &error))
    }

    fn give_up(&self) {
        if let Into::File { part, .. } = self {
            std::fs::remove_file(part).unwrap_or_default();
        }
    }
}
