//! What every command works with: the flags, the server, the project.

use std::{fs, io::IsTerminal};

use kvm_compose::{
    error::{Code, Problem},
    names::{DeploymentName, GuestName},
};

use crate::{
    args::{Format, Global},
    client::Client,
    host::Host,
    output::Output,
    progress::{Progress, Talk, Terminal},
    project::Project,
};

/// What every command works with.
pub struct Session {
    pub global: Global,
    pub out: Output,
    pub host: Host,
    token: Option<String>,
}

impl Session {
    /// Checks the flags that can be wrong; asks nobody.
    pub fn new(global: &Global) -> Result<Session, Problem> {
        let host = Host::parse(&global.host)?;
        let token = match &global.token_file {
            Some(path) => Some(fs::read_to_string(path).map(|text| text.trim().to_string()).map_err(|error| {
                Problem::new(Code::BadRequest, format!("the token file `{}` cannot be read", path.display())).cause(error)
            })?),
            None => std::env::var("TESTBED_TOKEN").ok().filter(|token| !token.is_empty()),
        };
        Ok(Session { out: Output::new(global.output).quiet(global.quiet), global: global.clone(), host, token })
    }

    /// A client of the server; connects when it is used.
    pub fn client(&self) -> Result<Client, Problem> {
        Client::new(&self.host, self.token.clone(), self.global.timeout)
    }

    /// The project, when there is a testbed file.
    pub fn project(&self) -> Result<Option<Project>, Problem> {
        Project::find(self.global.file.as_deref(), &self.global.set)
    }

    /// The deployment that is meant: `--project-name`, or else the testbed file's folder.
    pub fn deployment(&self) -> Result<DeploymentName, Problem> {
        match &self.global.project_name {
            Some(name) => DeploymentName::new(name),
            None => self.project()?.ok_or_else(no_file)?.name(),
        }
    }

    /// The deployment that is meant, as the server has it: there is no testbed file to lay a value over.
    pub fn deployment_without_file(&self) -> Result<DeploymentName, Problem> {
        match self.global.set.first() {
            Some(option) => Err(Problem::new(Code::BadRequest, format!("`--set {option}` needs a testbed file to be laid over"))
                .hint("name the file with `--file`, or go to its folder")),
            None => self.deployment(),
        }
    }

    /// The project's deployment, under the name that is meant.
    pub fn name_of(&self, project: &Project) -> Result<DeploymentName, Problem> {
        let name = self.global.project_name.as_deref().map_or_else(|| project.name(), DeploymentName::new)?;
        name.check_not_reserved().map(|()| name)
    }

    /// The deployment named as an argument, or else the one that is meant anyway.
    pub fn deployment_or(&self, name: Option<&str>) -> Result<DeploymentName, Problem> {
        name.map_or_else(|| self.deployment(), DeploymentName::new)
    }

    /// How an action is shown whose events are of no interest unless asked for.
    pub fn progress_on_request(&self) -> Progress {
        let verbose = self.global.verbose && self.global.output == Format::Text;
        if verbose { self.progress() } else { Progress::none(if self.global.output == Format::Text { Talk::Notes } else { Talk::Nothing }) }
    }

    /// How the events of an action are shown.
    pub fn progress(&self) -> Progress {
        if self.is_silent() {
            return Progress::none(Talk::Nothing);
        }
        Progress::new(if self.draws() { Terminal::Bars } else { Terminal::Lines }, self.global.verbose)
    }

    /// True when bars are drawn.
    pub fn draws(&self) -> bool {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        !self.is_silent() && std::io::stderr().is_terminal() && !dumb && !self.global.no_color && !no_color()
    }

    fn is_silent(&self) -> bool {
        self.global.quiet || self.global.output != Format::Text
    }
}

/// True when NO_COLOR is set and not empty (no-color.org).
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Every guest's name, checked.
pub fn guests(names: &[String]) -> Result<Vec<GuestName>, Problem> {
    names.iter().map(|name| GuestName::new(name)).collect()
}

/// There is no testbed file where one is looked for.
pub fn no_file() -> Problem {
    Problem::new(Code::NotFound, "there is no kvm-compose.yaml here or in a parent folder")
        .hint("name the file with `--file`, or a deployment that the server has with `--project-name` (`testbed list` shows them)")
}
