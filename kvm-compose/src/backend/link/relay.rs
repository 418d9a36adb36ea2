//! The relay's process: found, started when it is needed, asked.
//!
//! It is started through itself (`testbedos-relay start`), which returns when it answers, so that it is nobody's child and
//! outlives the server. Must not know ports or devices.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use testbedos_relay::{
    client::{Client, unexpected},
    wire::{Link, LinkState, Probed, Reply, Request, Shape},
};

use crate::{
    backend::{Owner, files::process::Call},
    error::{Code, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
};

/// The program's name.
const PROGRAM: &str = "testbedos-relay";
/// Names the program where it is in none of the usual places.
const VARIABLE: &str = "TESTBEDOS_RELAY";
/// How long its start may take; its own limit is shorter.
const START_LIMIT: Duration = Duration::from_secs(15);
/// A relay that ends while it is asked is started anew, so often.
const TRIES: usize = 5;

fn problem(doing: &str, error: &io::Error) -> Problem {
    Problem::new(Code::Link, doing)
        .cause(error)
        .hint("`testbed up` starts the relay of a deployment's links again; `testbed doctor` says whether it can")
}

/// Where the program is.
pub fn program() -> Result<PathBuf, Problem> {
    let mut places: Vec<PathBuf> = std::env::var_os(VARIABLE).into_iter().map(PathBuf::from).collect();
    // Beside this program; tests stand one folder deeper.
    let own = std::env::current_exe().unwrap_or_default();
    places.extend(own.ancestors().skip(1).take(2).map(|folder| folder.join(PROGRAM)));
    places.extend(["/usr/local/bin", "/usr/bin"].map(|folder| Path::new(folder).join(PROGRAM)));
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        Problem::new(Code::Link, format!("the program `{PROGRAM}` is missing"))
            .hint(format!("install it beside the server (`./setup.sh` does), or name it with {VARIABLE}"))
    })
}

/// Has the link served with this shape, by a relay that is started if none runs.
pub fn add(folder: &Path, owner: &Owner, link: &Link, shape: Shape, cancel: &Cancel) -> Result<(), Problem> {
    let doing = format!("the relay cannot serve `{}`", link.label);
    let request = Request::Add { link: link.clone(), shape };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for _ in 0..TRIES {
        cancel.check()?;
        let connected = Client::connect(folder).map_err(|error| problem(&doing, &error))?;
        let Some(mut client) = connected else {
            start(folder, owner, cancel)?;
            continue;
        };
        match client.ask(&request) {
            Ok(Reply::Done) => return Ok(()),
            Ok(Reply::Refused { ending: true, why }) => last = io::Error::other(why),
            Ok(other) => return Err(problem(&doing, &unexpected(&other))),
            // It ended meanwhile.
            Err(error) => last = error,
        }
        cancel.wait(Duration::from_millis(50));
    }
    Err(problem(&doing, &last))
}

fn start(folder: &Path, owner: &Owner, cancel: &Cancel) -> Result<(), Problem> {
    let program = program()?.display().to_string();
    let (installation, deployment) = (owner.installation.to_string(), owner.deployment.to_string());
    let folder = folder.display().to_string();
    let argv = [&program, "start", "--installation", &installation, "--deployment", &deployment, "--folder", &folder];
    let finished = Call::new(argv, START_LIMIT).run(cancel)?;
    if finished.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&finished.stderr).trim().to_string();
    Err(Problem::new(Code::Link, "the relay does not start").cause(words).cause(format!("`{}`", finished.argv.join(" "))))
}

/// Has the link served no more. Without a relay nothing is.
pub fn remove(folder: &Path, device: &str) -> Result<(), Problem> {
    let doing = || format!("the relay does not give up `{device}`");
    let Some(mut client) = Client::connect(folder).map_err(|error| problem(&doing(), &error))? else { return Ok(()) };
    match client.ask(&Request::Remove { device: device.to_string() }) {
        Ok(Reply::Done | Reply::Refused { ending: true, .. }) => Ok(()),
        Ok(other) => Err(problem(&doing(), &unexpected(&other))),
        // It ended while it was asked, and all its links with it.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(()),
        Err(error) => Err(problem(&doing(), &error)),
    }
}

/// All links that the folder's relay serves; nothing when none runs.
pub fn links(folder: &Path) -> Result<Option<Vec<LinkState>>, Problem> {
    let doing = "the relay does not say which links it serves";
    let Some(mut client) = Client::connect(folder).map_err(|error| problem(doing, &error))? else { return Ok(None) };
    match client.links() {
        Ok(links) => Ok(Some(links)),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(None),
        Err(error) => Err(problem(doing, &error)),
    }
}

/// Measures a link with the relay's own frames.
pub fn probe(folder: &Path, device: &str) -> Result<Probed, Problem> {
    let doing = "the relay cannot measure a link";
    let connected = Client::connect(folder).map_err(|error| problem(doing, &error))?;
    let mut client = connected.ok_or_else(|| problem(doing, &io::Error::other("it does not run")))?;
    client.probe(device).map_err(|error| problem(doing, &error))
}

/// Relays of an installation that run on this host, with their deployments: for `doctor --orphans`.
pub fn running(installation: &str) -> Vec<(u32, DeploymentName)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let relay = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&str> = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
        Some((pid, deployment_of(&words, installation)?))
    };
    pids.filter_map(relay).collect()
}

fn deployment_of(words: &[&str], installation: &str) -> Option<DeploymentName> {
    let [program, "run", ..] = words else { return None };
    let value = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied();
    (Path::new(program).file_name()? == PROGRAM && value("--installation") == Some(installation)).then_some(())?;
    DeploymentName::new(value("--deployment")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_known_by_its_arguments() {
        let words = ["/usr/local/bin/testbedos-relay", "run", "--installation", "i", "--deployment", "lab", "--folder", "/x"];
        assert_eq!(deployment_of(&words, "i").map(String::from), Some("lab".to_string()));
        assert_eq!(deployment_of(&words, "other"), None);
        let mut starting = words;
        starting[1] = "start";
        assert_eq!(deployment_of(&starting, "i"), None);
        assert_eq!(deployment_of(&["sh", "run", "--installation", "i", "--deployment", "lab"], "i"), None);
    }
}
