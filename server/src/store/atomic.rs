//! Files that are either the old or the new: temporary file, fsync, rename, fsync of the folder.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use kvm_compose::error::Problem;

/// What the names of temporary files start with.
const PREFIX: &str = ".tmp-";

/// Replaces a file by new content, readable by us alone. After an error the old content is still there.
pub fn write(path: &Path, content: &[u8]) -> Result<(), Problem> {
    write_with_mode(path, content, 0o600)
}

/// Replaces a file by new content with the given permissions.
pub fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::io(format_args!("cannot write {}", path.display()), &error);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder).map_err(failed)?;
    temporary.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    temporary.write_all(content).map_err(failed)?;
    // A failed fsync may have dropped the pages, so the new file is given up as a whole and never synced again.
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    sync_folder(folder).map_err(failed)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Removes temporary files that a killed server left behind; says how many.
pub fn sweep(folder: &Path) -> Result<usize, Problem> {
    let failed = |error: std::io::Error| Problem::io(format_args!("cannot read the folder {}", folder.display()), &error);
    let mut count = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_file = entry.file_type().map_err(failed)?.is_file();
        if is_file && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(entry.path()).map_err(failed)?;
            count += 1;
        }
    }
    Ok(count)
}
