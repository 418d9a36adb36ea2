//! Finds the shared libraries of a program, as the dynamic loader would (ld.so(8)), without running it.
//!
//! Knows the ELF format and the loader's standard folders below some roots.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use goblin::elf::Elf;

use crate::error::{Code, Problem};

/// Folders that the loaders of Debian, Ubuntu, Fedora and others search.
const FOLDERS: &[&str] = &["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib"];

/// Programs' libraries: path in the guest → content.
#[derive(Debug)]
pub struct Libraries {
    roots: Vec<PathBuf>,
    found: BTreeMap<String, Vec<u8>>,
    names: BTreeSet<String>,
}

impl Libraries {
    /// Libraries are looked for below each root in turn.
    pub fn new<'a>(roots: impl IntoIterator<Item = &'a Path>) -> Self {
        Libraries { roots: roots.into_iter().map(Path::to_owned).collect(), found: BTreeMap::new(), names: BTreeSet::new() }
    }

    /// Adds all that a program needs, its loader included.
    pub fn add_needs_of(&mut self, program: &str, content: &[u8]) -> Result<(), Problem> {
        let elf = Elf::parse(content).map_err(|error| {
            Problem::new(Code::ImageMissing, format!("{program} is not a program"))
                .cause(error)
                .hint("install its package again with `./setup.sh`")
        })?;
        if let Some(loader) = elf.interpreter.map(|path| path.trim_start_matches('/')) {
            let paths = self.roots.iter().map(|root| root.join(loader));
            let found = paths.clone().find(|path| path.is_file()).or_else(|| paths.clone().next()).unwrap_or_default();
            let content = std::fs::read(&found)
                .map_err(|error| Problem::io(format!("reading the loader of {program}, {}", found.display()), &error))?;
            self.names.extend(found.file_name().map(|name| name.to_string_lossy().into_owned()));
            self.found.insert(loader.to_owned(), content);
        }
        for name in &elf.libraries {
            if !self.add(name)? {
                return Err(Problem::new(Code::ImageMissing, format!("{program} needs the library {name}, which is not there"))
                    .hint("install its package again with `./setup.sh`"));
            }
        }
        Ok(())
    }

    /// Adds a library by its name, and what it needs. False when there is none.
    pub fn add(&mut self, name: &str) -> Result<bool, Problem> {
        if self.names.contains(name) {
            return Ok(true);
        }
        if name.contains('/') {
            return Ok(false);
        }
        let paths: Vec<_> =
            self.roots.iter().flat_map(|root| FOLDERS.iter().map(move |folder| (*folder, root.join(folder).join(name)))).collect();
        for (folder, path) in paths {
            let content = match std::fs::read(&path) {
                Ok(content) => content,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Problem::io(format!("reading {}", path.display()), &error)),
            };
            // Another architecture's library of the same name is passed over, as the loader does.
            if !Elf::parse(&content).is_ok_and(|elf| elf.is_64 && elf.header.e_machine == goblin::elf::header::EM_X86_64) {
                continue;
            }
            self.names.insert(name.to_owned());
            self.add_needs_of(name, &content)?;
            self.found.insert(format!("{folder}/{name}"), content);
            return Ok(true);
        }
        Ok(false)
    }

    /// What was found.
    pub fn found(self) -> BTreeMap<String, Vec<u8>> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_libraries_of_this_test_are_found() {
        let program = std::env::current_exe().expect("a path");
        let mut libraries = Libraries::new([Path::new("/")]);
        libraries.add_needs_of("this test", &std::fs::read(program).expect("a program")).expect("its libraries");
        let found = libraries.found();
        assert!(found.keys().any(|path| path.ends_with("/libc.so.6")), "{:?}", found.keys());
        assert!(found.keys().any(|path| path.contains("ld-linux")), "{:?}", found.keys());
    }

    #[test]
    fn micro_libraries_missing_ones_are_told() {
        let program = std::fs::read(std::env::current_exe().expect("a path")).expect("a program");
        let root = tempfile::tempdir().expect("a temporary folder");
        assert!(Libraries::new([root.path()]).add_needs_of("this test", &program).is_err());
        assert!(Libraries::new([root.path()]).add_needs_of("text", b"#!/bin/sh").is_err_and(|problem| problem.hint.is_some()));
        assert_eq!(Libraries::new([Path::new("/")]).add("libnone.so.77"), Ok(false));
        assert_eq!(Libraries::new([Path::new("/")]).add("../etc/passwd"), Ok(false));
    }
}
