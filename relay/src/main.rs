//! `testbedos-relay`: started by the server, found by `ps`, looked into with `show`.

use std::{
    num::NonZeroU64,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use testbedos_relay::{
    client::Client,
    control::{self, Answering, Lock},
    engine::Engine,
    wire::Hello,
};

/// Delays, drops and limits the frames of guests' links. The server starts one for each deployment that needs it.
#[derive(Parser)]
#[command(name = "testbedos-relay", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a relay that outlives this process, unless the folder has one; returns when it answers
    Start(Of),
    /// Be a relay, until its last link is removed
    Run(Of),
    /// Print the links of a folder's relay as JSON
    Show {
        /// The relay's folder
        #[arg(long)]
        folder: PathBuf,
    },
}

#[derive(clap::Args)]
struct Of {
    /// The folder for its socket and its lock
    #[arg(long)]
    folder: PathBuf,
    /// The installation that it belongs to
    #[arg(long)]
    installation: String,
    /// The deployment whose links it serves
    #[arg(long)]
    deployment: String,
}

type Failure = Box<dyn std::error::Error>;

/// How long a relay may take to answer after its start, and one that ends to give up its folder.
const START_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let ended = match Args::parse().command {
        Verb::Start(of) => start(&of),
        Verb::Run(of) => run(of),
        Verb::Show { folder } => show(&folder),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(of: &Of) -> Result<(), Failure> {
    let deadline = Instant::now() + START_LIMIT;
    let mut child = None;
    loop {
        if Client::connect(&of.folder)?.is_some_and(|mut client| client.hello().is_ok()) {
            return Ok(());
        }
        let ended = match &mut child {
            None => true,
            // One that finds the folder taken ends: its relay may have been about to end itself.
            Some(child) => std::process::Child::try_wait(child)?.is_some(),
        };
        if Instant::now() >= deadline {
            return Err(format!("no relay answers in `{}` after {} s", of.folder.display(), START_LIMIT.as_secs()).into());
        }
        if ended {
            let run = Command::new(std::env::current_exe()?)
                .args(["run", "--installation", &of.installation, "--deployment", &of.deployment, "--folder"])
                .arg(&of.folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            child = Some(run);
        }
        std::thread::sleep(PAUSE);
    }
}

fn run(of: Of) -> Result<(), Failure> {
    // A session of its own: whoever ends the server's does not end this one. Fails only where there is one already.
    let _own = rustix::process::setsid();
    std::env::set_current_dir("/")?;
    let Some(lock) = Lock::take(&of.folder)? else { return Err("the folder has a relay".into()) };
    let listener = control::listen(&of.folder)?;
    let (mut engine, door) = Engine::new()?;
    let hello = Hello {
        installation: of.installation,
        deployment: of.deployment,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    };
    let answering = Answering::default();
    let its = answering.clone();
    std::thread::spawn(move || control::serve(&listener, &hello, &door, &its));
    // Timers to the microsecond, and the first turn; without the rights it does as well as it can.
    let _slack = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    if testbedos_relay::raw::run_first().is_err() {
        let _nice = rustix::process::setpriority_process(None, -15);
    }
    let ended = engine.run();
    drop(lock);
    answering.wait();
    ended.map_err(Into::into)
}

fn show(folder: &std::path::Path) -> Result<(), Failure> {
    let mut client = Client::connect(folder)?.ok_or("no relay runs there")?;
    println!("{}", serde_json::to_string_pretty(&client.links()?)?);
    Ok(())
}
