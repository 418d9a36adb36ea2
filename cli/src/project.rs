//! The testbed file and the folder it lies in.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kvm_compose::{
    catalogue::Catalogue,
    diagnostic::problem_of,
    error::{Code, Problem},
    gather::{From, gather},
    names::DeploymentName,
    orchestrate::host::Cancel,
    project, rules,
    spec::Sources,
    topology::{self, Leases, Loaded},
};

/// Names of testbed files, the first found is used.
const FILES: [&str; 2] = ["kvm-compose.yaml", "kvm-compose.yml"];
/// A testbed file of 20 000 guests has 1.3 MB; what is much larger is something else.
const LARGEST: u64 = 16 << 20;

/// A testbed file that is there.
#[derive(Debug, Clone)]
pub struct Project {
    /// The file as messages name it.
    pub file: PathBuf,
    /// The folder it lies in: absolute, without symbolic links.
    pub folder: PathBuf,
    /// What `--set` lays over it.
    set: Vec<String>,
}

impl Project {
    /// The file that is named, or else the one in the current folder or the nearest parent that has one.
    pub fn find(named: Option<&Path>, set: &[String]) -> Result<Option<Project>, Problem> {
        if let Some(file) = named {
            return Project::at(file.to_path_buf(), set).map(Some);
        }
        let here = std::env::current_dir().map_err(|error| Problem::io("the current folder cannot be found", &error))?;
        let found =
            here.ancestors().flat_map(|folder| FILES.iter().map(move |file| (folder, folder.join(file)))).find(|(_, f)| f.is_file());
        match found {
            // A file right here is named as people name it.
            Some((folder, file)) if folder == here => Project::at(file.file_name().map_or(file.clone(), PathBuf::from), set).map(Some),
            Some((_, file)) => Project::at(file, set).map(Some),
            None => Ok(None),
        }
    }

    fn at(file: PathBuf, set: &[String]) -> Result<Project, Problem> {
        let unusable = |code, error: &dyn std::fmt::Display| {
            Problem::new(code, format!("the testbed file `{}` cannot be used", file.display())).cause(error)
        };
        let missing = |error: std::io::Error| {
            unusable(if error.kind() == std::io::ErrorKind::NotFound { Code::NotFound } else { Code::BadRequest }, &error)
        };
        let metadata = fs::metadata(&file).map_err(missing)?;
        if !metadata.is_file() {
            return Err(unusable(Code::BadRequest, &"it is not a regular file"));
        }
        // The folder is the one the path names, also when the file itself is a link to elsewhere.
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = fs::canonicalize(parent).map_err(missing)?;
        Ok(Project { file, folder, set: set.to_vec() })
    }

    /// The default name of its deployment.
    pub fn name(&self) -> Result<DeploymentName, Problem> {
        DeploymentName::from_folder(&self.folder.file_name().unwrap_or_default().to_string_lossy())
    }

    /// The folder as the server is told.
    pub fn location(&self) -> Result<String, Problem> {
        let text = self.folder.to_str().map(String::from);
        text.ok_or_else(|| Problem::new(Code::BadRequest, format!("the folder `{}` has a name that is not UTF-8", self.folder.display())))
    }

    /// The file as messages name it, on the server too.
    pub fn shown(&self) -> String {
        self.file.display().to_string()
    }

    /// The file's bytes.
    pub fn read(&self) -> Result<String, Problem> {
        let unusable = |why: &dyn std::fmt::Display| {
            Problem::new(Code::InvalidFile, format!("the testbed file `{}` cannot be read", self.file.display())).cause(why)
        };
        let length = fs::metadata(&self.file).map_err(|error| unusable(&error))?.len();
        if length > LARGEST {
            return Err(unusable(&format!("it has {length} bytes, the most is {LARGEST}")));
        }
        let bytes = fs::read(&self.file).map_err(|error| unusable(&error))?;
        String::from_utf8(bytes).map_err(|error| unusable(&format!("it is not UTF-8 at byte {}", error.utf8_error().valid_up_to())))
    }

    /// Reads and resolves the testbed as the deployment `name`; beside it everything that it was read from.
    pub fn load(&self, name: &DeploymentName) -> Result<(Sources, Loaded), Problem> {
        let mut sources = Sources::alone(&self.shown(), &self.read()?);
        sources.composition.set.clone_from(&self.set);
        let environment = |name: &str| std::env::var(name).ok();
        let sources = gather(sources, &From { folder: &self.folder, environment: &environment });
        let loaded = topology::load_all(&sources, name, &Leases::new());
        let loaded = loaded.map_err(|problem| self.with_named_files(problem, &sources, name))?;
        Ok((sources, loaded))
    }

    /// Faults of the files that a faulty testbed file names, as far as it could be understood: all at once.
    fn with_named_files(&self, problem: Problem, sources: &Sources, name: &DeploymentName) -> Problem {
        let understood = topology::understood(sources, name);
        let problem = rules::with_judged(problem, sources, name, &Cancel::new());
        let mut all = problem.diagnostics.clone();
        // A faulty catalogue is told when it is used: by `validate` of a file without faults.
        let catalogue = catalogue().ok();
        let named = understood.iter().zip(&catalogue);
        all.extend(named.flat_map(|(topology, catalogue)| project::check(topology, &self.folder, catalogue)));
        let main = self.shown();
        all.sort_by_key(|fault| (fault.at.file != main, fault.at.file.clone(), fault.at.line, fault.at.column));
        problem_of(&main, all).unwrap_or(problem)
    }
}

/// The image catalogue as this user sees it: the built-in one, the machine's, the user's own.
pub fn catalogue() -> Result<Catalogue, Problem> {
    let own = std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let own = own.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let mut files = vec![Path::new(project::MACHINE_CONFIG).join(project::CATALOGUE_FILE)];
    files.extend(own.map(|folder| folder.join("testbedos").join(project::CATALOGUE_FILE)));
    project::catalogue(&files)
}
