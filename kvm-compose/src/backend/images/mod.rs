//! Base images that the server makes itself.
//!
//! Must not know deployments or libvirt.

use std::path::Path;

use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::site::MicroImage,
};

/// The current micro image, or nothing when none was built: `micro/current.json` names the digest, and the folder of
/// that name holds the files.
pub fn find_micro(images_dir: &Path) -> Result<Option<MicroImage>, Problem> {
    #[derive(serde::Deserialize)]
    struct Current {
        digest: String,
    }
    let index = images_dir.join("micro/current.json");
    let text = match std::fs::read(&index) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::io(format!("cannot read `{}`", index.display()), &error)),
    };
    let current: Current = serde_json::from_slice(&text)
        .map_err(|error| Problem::new(Code::Storage, format!("`{}` is not an image index", index.display())).cause(error))?;
    if current.digest.is_empty() || !current.digest.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Problem::new(Code::Storage, format!("`{}` names no digest", index.display())));
    }
    let folder = images_dir.join("micro").join(&current.digest);
    let image = MicroImage { kernel: folder.join("vmlinux"), initramfs: folder.join("initramfs"), digest: current.digest };
    Ok((image.kernel.is_file() && image.initramfs.is_file()).then_some(image))
}

/// Where the parts of the micro image come from.
#[derive(Debug, Clone)]
pub struct MicroSources {}

impl MicroSources {
    /// Looks for the parts on this machine.
    pub fn find() -> Result<Self, Problem> {
        Err(Problem::new(Code::Unsupported, "this build cannot make the micro image"))
    }
}

/// Makes the micro image.
pub fn build_micro(images_dir: &Path, _sources: &MicroSources, cancel: &Cancel, _say: &dyn Fn(&str)) -> Result<MicroImage, Problem> {
    cancel.check()?;
    Err(Problem::new(Code::Unsupported, format!("this build cannot make an image in `{}`", images_dir.display())))
}
