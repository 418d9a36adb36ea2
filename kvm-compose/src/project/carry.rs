//! What of a project's folder a testbed needs elsewhere: the files that it names, and those of the folders that it names.
//!
//! Reads names and kinds alone. What lies outside the folder is told, never followed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path},
};

use super::{Fault, File, Places, Use, diagnostic, named};
use crate::{
    diagnostic::Diagnostic,
    names::{GuestName, printable},
    topology::{FileRef, Topology},
};

/// More files are no project.
const MOST: usize = 100_000;
/// How deep folders may nest.
const DEEPEST: usize = 60;

/// What a testbed needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files, by their path from the project's folder.
    pub files: BTreeSet<String>,
    /// Files and folders that lie elsewhere, as the testbed writes them.
    pub elsewhere: BTreeSet<String>,
    /// Images of the catalogue.
    pub images: BTreeSet<String>,
}

/// What a testbed needs of its project's folder, or everything that is wrong with it: what is not there (E070), what is neither
/// a file nor a folder (E071), such as a link in a folder that is carried as a whole.
pub fn needs(topology: &Topology, project: &Path) -> Result<Needs, Vec<Diagnostic>> {
    let places = Places { project, allowed: Vec::new(), catalogue: None };
    let (mut needs, mut faults) = (Needs::default(), Vec::new());
    for (who, what, file) in named(topology) {
        if let Err(fault) = take(&places, who, what, file, &mut needs) {
            faults.push(fault);
        }
    }
    if faults.is_empty() { Ok(needs) } else { Err(faults) }
}

/// Opens one of [`Needs::files`] for reading. No link leads out of the folder.
pub fn open(project: &Path, path: &str) -> Result<File, String> {
    let opened = Places { project, allowed: Vec::new(), catalogue: None }.open(path);
    opened.map(|(file, _)| file).map_err(|Fault(_, message, _)| message)
}

fn take(places: &Places<'_>, who: &GuestName, what: Use, file: &FileRef, needs: &mut Needs) -> Result<(), Diagnostic> {
    if matches!(what, Use::Image) {
        needs.images.insert(file.path.clone());
        return Ok(());
    }
    let told = |fault| diagnostic(who, file, fault);
    let Some(path) = inside(places.project, &file.path) else {
        needs.elsewhere.insert(file.path.clone());
        return Ok(());
    };
    match places.find(&file.path, false) {
        Ok(found) if found.is_dir() => walk(places.project, &path, 0, needs).map_err(told),
        Ok(_) => {
            needs.files.insert(path);
            Ok(())
        }
        Err(Fault("E072", ..)) => {
            needs.elsewhere.insert(file.path.clone());
            Ok(())
        }
        Err(fault) => Err(told(fault)),
    }
}

/// A path as it is from the project's folder, when it lies below it by its own words.
fn inside(project: &Path, written: &str) -> Option<String> {
    let plain = match written.strip_prefix("${PWD}") {
        Some(rest) => rest.trim_start_matches('/'),
        None => written,
    };
    let plain = Path::new(plain);
    let mut parts: Vec<&str> = Vec::new();
    for part in plain.strip_prefix(project).unwrap_or(plain).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

fn walk(project: &Path, folder: &str, depth: usize, needs: &mut Needs) -> Result<(), Fault> {
    let shown = printable(folder);
    let unreadable = |error: std::io::Error| Fault("E074", format!("`{shown}` cannot be read: {error}"), None);
    if depth > DEEPEST {
        return Err(Fault("E074", format!("`{shown}` nests deeper than {DEEPEST} folders"), None));
    }
    for entry in fs::read_dir(project.join(folder)).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(Fault("E074", format!("`{shown}` holds a name that is not UTF-8"), None));
        };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            walk(project, &path, depth + 1, needs)?;
        } else if kind.is_file() {
            needs.files.insert(path);
        } else {
            let hint = "an export holds files and folders alone: put the file itself there, or take it out".to_string();
            return Err(Fault("E071", format!("`{}` is neither a file nor a folder", printable(&path)), Some(hint)));
        }
        if needs.files.len() > MOST {
            return Err(Fault("E074", format!("the testbed names more than {MOST} files"), None));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain_and_none_leads_out() {
        let project = Path::new("/p");
        for (written, plain) in [
            ("a.sh", Some("a.sh")),
            ("./x/../a.sh", Some("a.sh")),
            ("${PWD}/b/c", Some("b/c")),
            ("/p/d", Some("d")),
            ("/etc/passwd", None),
            ("../q", None),
            ("a/../../q", None),
            (".", Some("")),
        ] {
            assert_eq!(inside(project, written).as_deref(), plain, "{written}");
        }
    }

    #[test]
    fn folders_are_carried_whole_and_links_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let project = folder.path();
        fs::create_dir_all(project.join("site/css")).expect("made");
        for file in ["site/index.html", "site/css/a.css", "run.sh"] {
            fs::write(project.join(file), "x").expect("written");
        }
        let load = |text: &str| {
            let name = "lab".parse().expect("valid");
            crate::topology::load("kvm-compose.yaml", text, &name, &Default::default()).expect("valid").topology
        };
        let text = "machines: [{name: a, docker: {image: x, volumes: [{source: ./site, target: /srv}]}, network: [{switch: lan}]}, \
                    {name: b, micro: {run_script: run.sh}, network: [{switch: lan}]}]\nnetwork: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";
        let found = needs(&load(text), project).expect("all is there");
        assert_eq!(found.files.iter().map(String::as_str).collect::<Vec<_>>(), ["run.sh", "site/css/a.css", "site/index.html"]);
        let outside = needs(&load(&text.replace("run.sh", "/etc/hostname")), project).expect("told");
        assert_eq!(outside.elsewhere.into_iter().collect::<Vec<_>>(), ["/etc/hostname"]);
        std::os::unix::fs::symlink("/etc/passwd", project.join("site/link")).expect("linked");
        let faults = needs(&load(text), project).expect_err("a link");
        assert!(faults[0].code == "E071" && faults[0].message.contains("site/link"), "{faults:?}");
        assert!(open(project, "site/link").is_err());
        let faults = needs(&load(&text.replace("run.sh", "gone.sh")), project).expect_err("two faults");
        assert_eq!(faults.iter().map(|fault| fault.code.as_str()).collect::<Vec<_>>(), ["E071", "E070"]);
    }
}
