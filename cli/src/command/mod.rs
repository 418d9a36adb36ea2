//! One module a command. What more than one needs stands here.

mod capture;
mod check;
mod cluster;
mod completion;
mod config;
mod cp;
mod deployment;
mod doctor;
mod down;
mod events;
mod exec;
mod exec_many;
pub mod export;
mod graph;
mod gui;
mod image;
mod info;
mod lifecycle;
mod link;
mod list;
mod logs;
mod man;
mod plan;
mod ps;
mod schema;
mod snapshot;
mod up;
mod validate;
mod version;
mod why;

use kvm_compose::{
    api::{ActionAccepted, ActionRequest},
    error::Problem,
    names::DeploymentName,
};

use crate::{
    action::{self, Ended, Followed, Watch},
    args::{Command, Format, Global},
    client::{Client, Owner},
    exit::{Exit, Outcome},
    output::Output,
    session::Session,
};

/// Runs a command.
pub fn run(global: &Global, command: Command) -> Outcome {
    match command {
        // These must work whatever the other flags and the environment say.
        Command::Schema => schema::run(&Output::new(global.output)),
        Command::Completion { shell } => completion::run(shell),
        Command::Man { dir } => man::run(dir.as_deref()),
        Command::Version { server: false } => version::run(&Output::new(global.output)),
        other => {
            let session = Session::new(global)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Problem::internal("the asynchronous runtime does not start").cause(error))?;
            runtime.block_on(run_with(&session, other))
        }
    }
}

async fn run_with(session: &Session, command: Command) -> Outcome {
    match command {
        Command::Up(args) => up::run(session, args).await,
        Command::Down(args) => down::run(session, args).await,
        Command::Start(args) => lifecycle::run(session, lifecycle::Verb::Start(args)).await,
        Command::Stop(args) => lifecycle::run(session, lifecycle::Verb::Stop(args)).await,
        Command::Restart(args) => lifecycle::run(session, lifecycle::Verb::Restart(args)).await,
        Command::Pause(args) => lifecycle::run(session, lifecycle::Verb::Pause(args)).await,
        Command::Resume(args) => lifecycle::run(session, lifecycle::Verb::Resume(args)).await,
        Command::Plan(args) => plan::run(session, args).await,
        Command::Validate => validate::run(session),
        Command::Config => config::run(session),
        Command::Graph(args) => graph::run(session, &args),
        Command::Schema => schema::run(&session.out),
        Command::Ps { all: false, label } => ps::run(session, &label).await,
        Command::Ps { all: true, label } => ps::run_all(session, &label).await,
        Command::List => list::run(session).await,
        Command::Info { name } => info::run(session, name.as_deref()).await,
        Command::Logs(args) => logs::run(session, args).await,
        Command::Cancel { uuid } => logs::cancel(session, uuid.as_deref()).await,
        Command::Events { all } => events::run(session, if all { events::Scope::All } else { events::Scope::Project }).await,
        Command::Exec(args) => exec::run(session, args).await,
        Command::Cp(args) => cp::run(session, args).await,
        Command::Capture(args) => capture::run(session, args).await,
        Command::Link(command) => link::run(session, command).await,
        Command::Check(args) => check::run(session, args).await,
        Command::Why(args) => why::run(session, args).await,
        Command::Snapshot(command) => snapshot::run(session, command).await,
        Command::Deployment(command) => deployment::run(session, command).await,
        Command::Export(args) => export::export(session, args).await,
        Command::Import(args) => export::import(session, args).await,
        Command::Cluster(command) => cluster::run(session, command).await,
        Command::Image(command) => image::run(session, command).await,
        Command::Gui { print } => gui::run(session, if print { gui::Open::PrintOnly } else { gui::Open::Browser }).await,
        Command::Doctor { orphans: false } => doctor::run(session).await,
        Command::Doctor { orphans: true } => doctor::run_orphans(session).await,
        Command::Version { .. } => version::run_with_server(session).await,
        Command::Completion { shell } => completion::run(shell),
        Command::Man { dir } => man::run(dir.as_deref()),
    }
}

/// Asks for an action and follows it to its end; nothing when Ctrl-C left it to itself.
async fn act(session: &Session, client: &Client, name: &DeploymentName, request: &ActionRequest) -> Result<Option<Ended>, Problem> {
    let watch = Watch { progress: session.progress(), limit: session.global.timeout, prints: false };
    ended(action::run(session, client, &Owner::Deployment(name.clone()), client.act(name, request), watch).await?)
}

fn ended(followed: Followed) -> Result<Option<Ended>, Problem> {
    Ok(match followed {
        Followed::Ended(ended) => Some(*ended),
        Followed::Left => None,
    })
}

/// Prints the record when JSON is asked for, and says how the action counts.
fn conclude(session: &Session, ended: &Ended) -> Outcome {
    if session.global.output == Format::Json {
        session.out.result(&ended.record, |_| String::new());
    }
    ended.outcome()
}

/// Prints the id of an action that is not followed.
fn detached(session: &Session, accepted: &ActionAccepted) -> Exit {
    session.out.result(accepted, |accepted| accepted.uuid.to_string());
    Exit::SUCCESS
}
