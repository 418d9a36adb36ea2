//! A file looked at before anything is done with it, and turned into a qcow2 image that stands alone.
//!
//! The header is read here first, and only then by QEMU's tool, which runs with limits: what was handed over is a stranger's.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path, time::Duration};

use serde::Deserialize;

use super::header::{self, Descriptor, Form, HEAD, refused};
use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
    process::Call,
};

/// A look takes milliseconds; a check reads all tables; a conversion reads and writes everything.
const LOOK: Duration = Duration::from_secs(60);
const CHECK: Duration = Duration::from_secs(900);
const CONVERSION: Duration = Duration::from_secs(4 * 3600);
/// Address space that QEMU's tool may take, in bytes.
const MEMORY: u64 = 8 << 30;
/// A larger disk is a mistake or an attack, in bytes.
const LARGEST_DISK: u64 = 64 << 40;

/// What `qemu-img info` says, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    format: String,
    backing_filename: Option<String>,
    format_specific: Option<Specific>,
}

#[derive(Debug, Deserialize)]
struct Specific {
    data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Data {
    data_file: Option<String>,
    #[serde(default)]
    extents: Vec<Extent>,
}

#[derive(Debug, Deserialize)]
struct Extent {
    filename: Option<String>,
}

/// What a file is. Refuses what is no disk, and what reaches for other files.
pub fn form_of(path: &Path) -> Result<Form, Problem> {
    let unreadable = |error: std::io::Error| Problem::io(format!("reading {}", path.display()), &error);
    let file = File::open(path).map_err(unreadable)?;
    let read = |offset: u64, length: usize| read_at(&file, offset, length).map_err(unreadable);
    let head = read(0, HEAD)?;
    let form = header::form(&head)?;
    if form == Form::Vmdk {
        // Where QEMU looks for the parent's name, whatever the header says.
        let mut places = vec![Descriptor { offset: 512, length: 20 * 512 }];
        places.extend(header::descriptor(&head)?);
        if header::has_footer(&head) {
            let end = file.metadata().map_err(unreadable)?.len();
            let footer = read(end.saturating_sub(1024), 512)?;
            if !footer.starts_with(b"KDMV") {
                return Err(refused("its end is missing").hint("copy or export it again"));
            }
            places.extend(header::descriptor(&footer)?);
        }
        for Descriptor { offset, length } in places {
            header::check_descriptor(&read(offset, length)?)?;
        }
    }
    Ok(form)
}

/// The size of the disk that a guest sees. `path` must have been found to be of this form; QEMU is asked whether it agrees.
pub fn virtual_bytes(path: &Path, form: Form, cancel: &Cancel) -> Result<u64, Problem> {
    let argv = ["qemu-img", "info", "--output=json", "-f", form.name(), "--", text(path)?];
    let told = run("looking at the image", &argv, LOOK, None, cancel)?;
    let info: Info =
        serde_json::from_slice(&told).map_err(|error| Problem::internal("qemu-img says what it did not say before").cause(error))?;
    let data = info.format_specific.map(|specific| specific.data);
    let far = |extent: &Extent| extent.filename.as_deref().is_some_and(|name| Path::new(name) != path);
    let elsewhere = data.is_some_and(|data| data.data_file.is_some() || data.extents.iter().any(far));
    if info.backing_filename.is_some() || elsewhere || info.format != form.name() {
        return Err(refused("it reaches for other files"));
    }
    if info.virtual_size == 0 || info.virtual_size > LARGEST_DISK {
        return Err(refused(format_args!("its disk has {} bytes", info.virtual_size)));
    }
    Ok(info.virtual_size)
}

/// Looks through all tables of a qcow2 image: a file that was cut off is told by them.
pub fn check(path: &Path, cancel: &Cancel) -> Result<(), Problem> {
    let call = Call::new(limited(&["qemu-img", "check", "-q", "-f", "qcow2", "--", text(path)?], None), CHECK);
    let finished = call.run(cancel)?;
    match finished.status.code() {
        // 3: space that nothing uses, which hurts nobody.
        Some(0 | 3) => Ok(()),
        _ => {
            let words = String::from_utf8_lossy(&finished.stderr).lines().take(3).collect::<Vec<_>>().join("; ");
            Err(refused("it is damaged, or was cut off").cause(words).hint("copy it again, or look at it with qemu-img check FILE"))
        }
    }
}

/// Writes the disk as a qcow2 image, `largest` bytes at most.
pub fn convert(from: &Path, form: Form, to: &Path, largest: u64, cancel: &Cancel) -> Result<(), Problem> {
    let argv = ["qemu-img", "convert", "-q", "-f", form.name(), "-O", "qcow2", "--", text(from)?, text(to)?];
    run("converting the image", &argv, CONVERSION, Some(largest), cancel).map(|_| ())
}

fn run(doing: &str, argv: &[&str], limit: Duration, largest: Option<u64>, cancel: &Cancel) -> Result<Vec<u8>, Problem> {
    let done = Call::new(limited(argv, largest), limit).succeed(doing, cancel);
    done.map(|finished| finished.stdout).map_err(|problem| match problem.code {
        Code::Storage => Problem { code: Code::ImageRefused, ..problem },
        _ => problem,
    })
}

/// QEMU's tool, with limits on its memory and on what it writes.
fn limited(argv: &[&str], largest: Option<u64>) -> Vec<String> {
    let mut all = vec!["prlimit".to_string(), format!("--as={MEMORY}"), "--core=0".to_string()];
    all.extend(largest.map(|bytes| format!("--fsize={bytes}")));
    all.extend(argv.iter().map(|word| word.to_string()));
    all
}

fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64))? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn text(path: &Path) -> Result<&str, Problem> {
    path.to_str().ok_or_else(|| Problem::internal(format!("the path `{}` is not UTF-8", path.display())))
}
