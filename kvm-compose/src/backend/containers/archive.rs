//! Archives into containers and out of them, through Docker's own API.
//!
//! Must not know who copies.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::mpsc,
    time::Duration,
};

use bollard::{
    body_stream,
    errors::Error,
    query_parameters::{
        ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptions, DownloadFromContainerOptionsBuilder,
        UploadToContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt as _, stream};

use super::{Engine, LIMIT, cancelled, found};
use crate::{
    api::copy::{GuestPath, PathKind, PathSeen},
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long copying may take.
const COPY_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Read at once.
const CHUNK: usize = 256 << 10;
/// Pieces that may wait for who writes.
const WAITING: usize = 4;
/// Go's bits of a mode for a folder and for a link (io/fs, `FileMode`), as Docker passes them on.
const FOLDER: u32 = 1 << 31;
const LINK: u32 = 1 << 27;

impl Engine {
    /// What is at a path in a container.
    pub fn look_at_path(&self, container: &str, path: &GuestPath) -> Result<PathSeen, Problem> {
        let mode = |path: &str| -> Result<Option<(u32, u64)>, Problem> {
            let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
            let doing = format!("Docker does not say what is at `{path}`");
            let answer =
                self.ask(&doing, LIMIT, async |docker| found(docker.get_container_archive_info(container, Some(options)).await))?;
            Ok(answer.map(|seen| (seen.file_mode, u64::try_from(seen.size).unwrap_or_default())))
        };
        // With a slash at its end a link to a folder is followed.
        let followed = |path: &str| -> Result<Option<(u32, u64)>, Problem> {
            match mode(path)? {
                Some((bits, size)) if bits & LINK != 0 => Ok(Some(mode(&format!("{path}/")).ok().flatten().unwrap_or((bits, size)))),
                other => Ok(other),
            }
        };
        let seen = followed(path.as_str())?;
        let is_folder = |seen: &Option<(u32, u64)>| seen.is_some_and(|(bits, _)| bits & FOLDER != 0);
        let has_parent = is_folder(&followed(path.split().0)?);
        let kind = match (&seen, is_folder(&seen)) {
            (None, _) => PathKind::None,
            (_, true) => PathKind::Folder,
            (_, false) => PathKind::File,
        };
        Ok(PathSeen { kind, has_parent, bytes: seen.map_or(0, |(_, size)| size), holes: false })
    }

    /// Unpacks an archive into a folder of a container. `scratch` is an empty file, which is filled.
    pub fn put_archive(
        &self,
        container: &str,
        folder: &GuestPath,
        archive: &File,
        mut scratch: File,
        cancel: &Cancel,
    ) -> Result<(), Problem> {
        // Docker refuses links that lead out of the folder that it unpacks in: out of the root none does.
        moved(archive, folder, &mut scratch)?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let doing = format!("Docker cannot put the files into `{folder}`");
        let pieces = stream::unfold(scratch, |mut archive| async move {
            let mut piece = vec![0; CHUNK];
            // What cannot be read is an archive that ends too early, which Docker refuses.
            let count = archive.read(&mut piece).unwrap_or(0);
            piece.truncate(count);
            (count > 0).then_some((piece.into(), archive))
        });
        self.converse(COPY_LIMIT, async |docker| {
            let putting = docker.upload_to_container(container, Some(options), body_stream(pieces));
            tokio::select! {
                put = putting => put.map_err(|error| self.refused(&doing, error)),
                () = cancelled(cancel) => cancel.check(),
            }
        })
    }

    /// Packs a path of a container; the archive goes to `write` piece by piece until it says that nobody reads.
    pub fn get_archive(
        &self,
        container: &str,
        path: &GuestPath,
        cancel: &Cancel,
        write: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Problem> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path.as_str()).build();
        let doing = format!("Docker cannot hand `{path}` over");
        // Whoever writes may block, which nobody may in a conversation.
        std::thread::scope(|scope| {
            let (send, pieces) = mpsc::sync_channel(WAITING);
            let getting = scope.spawn(|| self.hand_over(container, options, &doing, cancel, send));
            // Those that wait for room go on when nobody reads any more, and see that it is over.
            let _all = pieces.into_iter().all(|piece: Vec<u8>| write(&piece));
            getting.join().unwrap_or_else(|_| Err(Problem::internal("a conversation with Docker panicked")))
        })
    }

    fn hand_over(
        &self,
        container: &str,
        options: DownloadFromContainerOptions,
        doing: &str,
        cancel: &Cancel,
        send: mpsc::SyncSender<Vec<u8>>,
    ) -> Result<(), Problem> {
        self.converse(COPY_LIMIT, async |docker| {
            let mut pieces = Box::pin(docker.download_from_container(container, Some(options)));
            loop {
                let piece = tokio::select! {
                    piece = pieces.next() => piece,
                    () = cancelled(cancel) => return cancel.check(),
                };
                match piece {
                    Some(Ok(piece)) if send.send(piece.to_vec()).is_ok() => {}
                    Some(Ok(_)) | None => return Ok(()),
                    Some(Err(error)) => return Err(self.refused(doing, error)),
                }
            }
        })
    }

    fn refused(&self, doing: &str, error: Error) -> Problem {
        match &error {
            Error::DockerResponseServerError { status_code: 404, message } => Problem::new(Code::NotFound, doing).cause(message),
            _ => self.problem(doing, error),
        }
    }
}

/// The archive with all names from the root on.
fn moved(archive: &File, folder: &GuestPath, to: &mut File) -> Result<(), Problem> {
    let prefix = Path::new(folder.as_str().trim_start_matches('/'));
    let mut from = tar::Archive::new(archive);
    let mut builder = tar::Builder::new(&mut *to);
    let mut write = || -> std::io::Result<()> {
        for entry in from.entries()? {
            let mut entry = entry?;
            let (mut header, path) = (entry.header().clone(), prefix.join(entry.path()?));
            match (entry.header().entry_type(), entry.link_name()?) {
                (tar::EntryType::Link, Some(link)) => builder.append_link(&mut header, path, prefix.join(link))?,
                (tar::EntryType::Symlink, Some(link)) => builder.append_link(&mut header, path, link)?,
                _ => builder.append_data(&mut header, path, &mut entry)?,
            }
        }
        builder.finish()
    };
    write().map_err(|error| Problem::new(Code::BadRequest, "the archive cannot be read").cause(error))?;
    drop(builder);
    to.seek(SeekFrom::Start(0)).map(drop).map_err(|error| Problem::io("cannot read an archive on its way", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_at_the_root_and_links_say_what_they_said() {
        let mut builder = tar::Builder::new(tempfile::tempfile().expect("a file"));
        let mut add = |kind, name: &str, link: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            match link {
                "" => builder.append_data(&mut header, name, std::io::empty()).expect("appended"),
                link => builder.append_link(&mut header, name, link).expect("appended"),
            }
        };
        add(tar::EntryType::Directory, "site", "");
        add(tar::EntryType::Symlink, "site/a", "../../x");
        add(tar::EntryType::Link, "site/b", "site/a");
        let mut archive = builder.into_inner().expect("whole");
        archive.seek(SeekFrom::Start(0)).expect("sought");
        let mut to = tempfile::tempfile().expect("a file");
        moved(&archive, &GuestPath::new("/srv/into").expect("a path"), &mut to).expect("moved");
        let mut found = tar::Archive::new(to);
        let entries = found.entries().expect("entries").map(|entry| {
            let entry = entry.expect("an entry");
            let link = entry.link_name().expect("a name").map(|link| link.display().to_string()).unwrap_or_default();
            format!("{} {link}", entry.path().expect("a path").display())
        });
        assert_eq!(entries.collect::<Vec<_>>(), ["srv/into/site ", "srv/into/site/a ../../x", "srv/into/site/b srv/into/site/a"]);
    }
}
