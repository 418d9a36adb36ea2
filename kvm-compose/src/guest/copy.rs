//! Archives (tar) packed and unpacked in a guest, over a disk that was lent to it, or through its agent when they are small.
//!
//! What is written to the agent reaches a guest at a tenth of a megabyte a second, what stands on a disk at fifty and more. Must
//! not know how a disk is lent.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use super::exec::{self, Command, Ended};
use crate::{
    api::copy::{GuestPath, PathKind, PathSeen},
    backend::hypervisor::Hypervisor,
    error::{Code, Problem},
    orchestrate::{event::clean, host::Cancel},
};

/// How long a look may take; counting a large folder takes a while.
const LOOK_LIMIT: Duration = Duration::from_secs(120);
/// How long packing and unpacking may take.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What the guest says when the disk does not come.
const NO_DISK: i32 = 120;

/// Says `KIND PARENT TAR KIB`.
const LOOK: &str = r#"p=$1 k=none d=no t=none s=0
if [ -d "$p" ]; then k=folder; elif [ -e "$p" ] || [ -L "$p" ]; then k=file; fi
q=${p%/*}; [ -d "${q:-/}" ] && d=yes
command -v tar >/dev/null 2>&1 && t=plain
case $(tar --version 2>/dev/null) in *GNU*) t=gnu ;; esac
if [ "$2" = size ] && [ $k != none ]; then s=$(du -sk -- "$p" 2>/dev/null | tail -n 1); s=${s%%[!0-9]*}; fi
echo "$k $d $t ${s:-0}""#;

/// Finds the disk that has this serial number (virtio-blk shows it in sysfs) and calls it `$b`.
const FIND: &str = r#"i=$1 n=0 b=
while [ -z "$b" ]; do
for s in /sys/block/*/serial; do
[ -r "$s" ] && [ "$(cat "$s")" = "$i" ] && b=${s%/serial} && b=/dev/${b##*/} && break
done
[ -n "$b" ] && [ -b "$b" ] && break
b= n=$((n+1))
[ $n -gt 150 ] && { echo "the disk with the files did not come" >&2; exit 120; }
sleep 0.1
done
"#;

/// A guest to copy from or to.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    /// Who passes commands on.
    pub hypervisor: &'a dyn Hypervisor,
    /// Its name, for messages.
    pub guest: &'a str,
    /// Its domain.
    pub domain: Uuid,
    /// Asks to stop.
    pub cancel: &'a Cancel,
}

impl Guest<'_> {
    /// What is at a path; with `size` also how much.
    pub fn look(&self, path: &GuestPath, size: bool) -> Result<PathSeen, Problem> {
        let ended = self.sh(LOOK, &[path.as_str(), if size { "size" } else { "" }], b"", LOOK_LIMIT)?;
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        let words: Vec<&str> = said.split_whitespace().collect();
        let [kind, parent, tar, kib] = words.as_slice() else {
            let problem = Problem::new(Code::CommandFailed, format!("guest `{}` does not say what is at `{path}`", self.guest));
            return Err(problem.cause(last_words(&ended)));
        };
        if *tar == "none" {
            return Err(Problem::new(Code::Unsupported, format!("guest `{}` has no `tar`, which copying needs", self.guest))
                .hint("install it in the guest's image"));
        }
        let kind = match *kind {
            "folder" => PathKind::Folder,
            "file" => PathKind::File,
            _ => PathKind::None,
        };
        let bytes = kib.parse::<u64>().unwrap_or_default().saturating_mul(1024);
        Ok(PathSeen { kind, has_parent: *parent == "yes", bytes, holes: *tar == "gnu" })
    }

    /// Unpacks a small archive into a folder.
    pub fn unpack(&self, folder: &GuestPath, archive: &[u8]) -> Result<(), Problem> {
        let ended = self.sh(r#"exec tar -C "$1" -xpof -"#, &[folder.as_str()], archive, LIMIT)?;
        self.unpacked(folder, &ended)
    }

    /// Unpacks the archive on the disk with this serial number into a folder.
    pub fn unpack_disk(&self, folder: &GuestPath, serial: &str) -> Result<(), Problem> {
        let script = format!("{FIND}exec tar -C \"$2\" -xpof \"$b\"");
        let ended = self.sh(&script, &[serial, folder.as_str()], b"", LIMIT)?;
        self.unpacked(folder, &ended)
    }

    /// Packs a path; nothing when the archive is longer than an agent's answer is kept.
    pub fn pack(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, Problem> {
        let (folder, name) = packed(path);
        let ended = self.sh(r#"cd "$1" && exec tar -cf - -- "$2""#, &[folder, name], b"", LIMIT)?;
        if ended.truncated {
            return Ok(None);
        }
        self.packed(path, &ended)?;
        Ok(Some(ended.stdout))
    }

    /// Packs a path onto the disk with this serial number.
    pub fn pack_disk(&self, path: &GuestPath, serial: &str, holes: bool) -> Result<(), Problem> {
        let (folder, name) = packed(path);
        let flags = if holes { "-cSf" } else { "-cf" };
        let script = format!("{FIND}cd \"$2\" || exit\ntar {flags} \"$b\" -- \"$3\"\nr=$?\nsync\nexit $r");
        let ended = self.sh(&script, &[serial, folder, name], b"", LIMIT)?;
        // GNU tar says with 1 that a file changed while it was read.
        if holes && ended.status == 1 {
            return Ok(());
        }
        self.packed(path, &ended)
    }

    fn sh(&self, script: &str, arguments: &[&str], stdin: &[u8], limit: Duration) -> Result<Ended, Problem> {
        let argv: Vec<String> = ["sh", "-c", script, "sh"].iter().chain(arguments).map(|word| (*word).to_string()).collect();
        let environment = BTreeMap::new();
        let command = Command { guest: self.guest, domain: self.domain, argv: &argv, environment: &environment, stdin, limit };
        exec::run(self.hypervisor, &command, self.cancel, &|_, _| {})
    }

    fn unpacked(&self, folder: &GuestPath, ended: &Ended) -> Result<(), Problem> {
        self.done(ended, format!("guest `{}` cannot take the files into `{folder}`", self.guest))
    }

    fn packed(&self, path: &GuestPath, ended: &Ended) -> Result<(), Problem> {
        self.done(ended, format!("guest `{}` cannot hand `{path}` over", self.guest))
    }

    fn done(&self, ended: &Ended, message: String) -> Result<(), Problem> {
        if ended.status == 0 {
            return Ok(());
        }
        let words = last_words(ended);
        let problem = Problem::new(Code::CommandFailed, message).cause(&words);
        Err(match ended.status {
            NO_DISK => problem.hint("its kernel must answer to PCI hot-plug and have a driver for virtio disks"),
            _ if words.contains("No space left") => problem.hint("free some space in the guest, or give it a larger disk"),
            // Where nothing can be written, what went wrong cannot be either.
            _ if ended.stderr.is_empty() => problem.hint(format!("is there room? `testbed exec {} -- df` says it", self.guest)),
            _ => problem,
        })
    }
}

/// Where it is packed from, and under which name: of the root all that is in it.
fn packed(path: &GuestPath) -> (&str, &str) {
    match path.split() {
        (folder, "") => (folder, "."),
        parts => parts,
    }
}

fn last_words(ended: &Ended) -> String {
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let last = said.lines().rev().map(clean).find(|line| !line.trim().is_empty());
    // The first complaint tells the cause, the last one that it failed.
    let first = said.lines().map(clean).find(|line| line.contains("No space left"));
    first.or(last).unwrap_or_else(|| format!("it ended with status {}", ended.status)).chars().take(300).collect()
}
