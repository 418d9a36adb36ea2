//! Base images on this machine: the built-in micro image is built here, disk images are downloaded and taken in.

pub mod disks;
pub mod golden;
pub mod micro;

use std::path::Path;

pub use micro::{MicroSources, build_micro};

use crate::{
    api::{ImageInfo, ImageSource},
    error::Problem,
    plan::site::MicroImage,
};

/// The current micro image, if one is there and whole.
pub fn find_micro(images_dir: &Path) -> Result<Option<MicroImage>, Problem> {
    micro::store::Store::new(images_dir).find()
}

/// Every micro image, the newest first. Micro images that are kept for guests that still run on them are named `micro@<digest>`.
pub fn list_micro(images_dir: &Path) -> Result<Vec<ImageInfo>, Problem> {
    let store = micro::store::Store::new(images_dir);
    let current = store.find()?.map(|image| image.digest);
    let info = |(description, image): (micro::store::Description, MicroImage)| ImageInfo {
        name: if current.as_ref() == Some(&image.digest) { "micro".into() } else { format!("micro@{}", &image.digest[..16]) },
        files: [&image.kernel, &image.initramfs].iter().map(|path| path.display().to_string()).collect(),
        digest: image.digest,
        size_bytes: description.kernel_bytes + description.initramfs_bytes,
        created: description.created,
        source: ImageSource::Built,
        virtual_bytes: None,
        user: None,
        used_by: Vec::new(),
    };
    Ok(store.list()?.into_iter().map(info).collect())
}
