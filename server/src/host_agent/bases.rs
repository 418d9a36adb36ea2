//! Base files from the master, by digest: each comes once, goes on where it broke off, and has its name only when whole.
//!
//! Must not know what a file is for.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use futures_util::StreamExt as _;
use kvm_compose::{
    backend::{files::sums::hexadecimal, local::BaseSource},
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::blueprint::Sum,
};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{Membership, dial, tls};
use crate::{cluster::pki::KeyFiles, data::make_folder};

/// How long a transfer may stand still.
const STALLED: Duration = Duration::from_secs(15);
/// How long a master that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// A line for the log after so many bytes.
const SAID_EVERY: u64 = 256 << 20;

/// The master as a source of base files.
pub struct FromMaster {
    master: String,
    files: KeyFiles,
    runtime: tokio::runtime::Handle,
    /// One transfer at a time for each file.
    turns: Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>,
}

impl FromMaster {
    /// The master of a membership. Must be made within the runtime.
    pub fn new(membership: &Membership, files: &KeyFiles) -> Self {
        let runtime = tokio::runtime::Handle::current();
        FromMaster { master: membership.master.clone(), files: files.clone(), runtime, turns: Mutex::default() }
    }

    /// Appends what is missing to the part; returns how long it is then.
    async fn append(&self, sum: &Sum, part: &Path, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<u64, Problem> {
        let failed = |error: std::io::Error| Problem::io(format_args!("cannot write {}", part.display()), &error);
        let mut file = File::options().append(true).create(true).mode(0o600).open(part).map_err(failed)?;
        let mut length = file.metadata().map_err(failed)?.len();
        if length > sum.bytes {
            file.set_len(0).map_err(failed)?;
            length = 0;
        }
        let mut request = dial::request("GET", &format!("/api/cluster/bases/{}", sum.sha256), Body::empty())?;
        let range = format!("bytes={length}-").parse().map_err(|_| Problem::internal("a range cannot be written"))?;
        request.headers_mut().insert("range", range);
        let (answer, _) = dial::ask(&self.master, tls::member(&self.files)?, request).await?;
        if !answer.status().is_success() {
            return Err(Problem::new(
                Code::ImageMissing,
                format!("the master does not give the base file {} ({})", sum.sha256, answer.status()),
            ));
        }
        let mut stream = Body::new(answer.into_body()).into_data_stream();
        let mut said = length;
        while length < sum.bytes {
            cancel.check()?;
            let chunk = timeout(STALLED, stream.next()).await;
            let chunk = chunk.map_err(|_| dial::unreachable(&self.master, format!("nothing came for {} s", STALLED.as_secs())))?;
            let Some(chunk) = chunk else { break };
            let chunk = chunk.map_err(|error| dial::unreachable(&self.master, error))?;
            file.write_all(&chunk).map_err(failed)?;
            length += chunk.len() as u64;
            if length - said >= SAID_EVERY {
                say(&format!("base file {}…: {} of {} MiB", &sum.sha256[..12], length >> 20, sum.bytes >> 20));
                said = length;
            }
        }
        file.sync_all().map_err(failed)?;
        Ok(length)
    }

    fn transfer(&self, sum: &Sum, part: &Path, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<(), Problem> {
        let mut last_word = Instant::now();
        let mut length = fs::metadata(part).map_or(0, |found| found.len());
        loop {
            cancel.check()?;
            match self.runtime.block_on(self.append(sum, part, cancel, say)) {
                Ok(now) if now >= sum.bytes => return Ok(()),
                Ok(now) if now > length => (length, last_word) = (now, Instant::now()),
                Err(problem) if problem.code != Code::Unavailable => return Err(problem),
                Err(problem) if last_word.elapsed() >= PATIENCE => return Err(problem),
                Ok(_) if last_word.elapsed() >= PATIENCE => return Err(dial::unreachable(&self.master, "the base file breaks off")),
                Ok(_) | Err(_) => {}
            }
            cancel.wait(PAUSE);
        }
    }
}

impl BaseSource for FromMaster {
    fn fetch(&self, sum: &Sum, to: &Path, cancel: &Cancel, say: &dyn Fn(&str)) -> Result<(), Problem> {
        let turn = self.turns.lock().entry(to.to_path_buf()).or_default().clone();
        let _turn = turn.lock();
        if fs::metadata(to).is_ok_and(|found| found.len() == sum.bytes) {
            return Ok(());
        }
        let folder = to.parent().ok_or_else(|| Problem::internal("a base file without a folder"))?;
        // QEMU runs as another user and must reach it.
        make_folder(folder, 0o755)?;
        let part = to.with_extension("part");
        self.transfer(sum, &part, cancel, say)?;
        let failed = |error: std::io::Error| Problem::io(format_args!("cannot keep {}", to.display()), &error);
        if digest(&part).map_err(failed)? != sum.sha256 {
            fs::remove_file(&part).map_err(failed)?;
            return Err(
                Problem::new(Code::ImageMissing, format!("the base file {} came damaged and was removed", sum.sha256)).hint("try again")
            );
        }
        fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).map_err(failed)?;
        fs::rename(&part, to).map_err(failed)?;
        crate::store::atomic::sync_folder(folder).map_err(failed)
    }
}

fn digest(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut chunk) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}
