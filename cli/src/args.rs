//! The command line: every command, every flag, and its help.
//!
//! Names are checked later, in `command/`, so that a wrong one is reported like every other problem.

pub mod copy;
pub mod exec;
pub mod lifecycle;
mod link;
mod manage;
mod snapshot;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

pub use link::{Link, SetLink, ShowLinks};
pub use manage::{Cluster, Deployment, Image};
pub use snapshot::Snapshot;

/// Describe a network of machines in YAML; get real virtual machines.
#[derive(Debug, Parser)]
#[command(name = "testbed", version, propagate_version = true, arg_required_else_help = true, max_term_width = 110)]
#[command(after_help = "Examples:
  testbed up                     make the testbed of ./kvm-compose.yaml, wait for its guests
  testbed ps                     show its guests and their addresses
  testbed exec web -- ip addr    run a command in the guest `web`
  testbed stop web               shut it down; `testbed start web` brings it back as it was
  testbed down                   remove all of it

Exit status:
  0 success · 1 the action failed · 2 wrong use or invalid file · 3 not found · 4 busy or conflict
  5 server unreachable · 6 not allowed · 7 checks failed · 130 cancelled

Environment: TESTBED_HOST, TESTBED_TOKEN, TESTBED_PROJECT, NO_COLOR")]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// The server: `unix:PATH` or `http://HOST:PORT`
    #[arg(long, global = true, env = "TESTBED_HOST", default_value = "unix:/run/testbedos/testbedos.sock", value_name = "URL")]
    #[arg(help_heading = "Global options")]
    pub host: String,
    /// A file that holds the token for a server reached over TCP (else TESTBED_TOKEN)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub token_file: Option<PathBuf>,
    /// The testbed file [default: kvm-compose.yaml or .yml, here or in a parent folder]
    #[arg(short, long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub file: Option<PathBuf>,
    /// Lay a value over the testbed file, such as `machines.web.micro.memory_mb=256`; may be given again
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Global options")]
    pub set: Vec<String>,
    /// The deployment's name [default: the name of the testbed file's folder]
    #[arg(short, long, global = true, env = "TESTBED_PROJECT", value_name = "NAME", help_heading = "Global options")]
    pub project_name: Option<String>,
    /// What is printed: text for people, one JSON document, or one JSON document a line
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Global options")]
    pub output: Format,
    /// Print results and errors only; lists print names only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Show every line of an action, what scripts print in guests included
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
    /// No colours and no progress bars
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
    /// How long the command may take, such as 30, 90s, 5m or 2h; an action still running then is cancelled
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, help_heading = "Global options")]
    pub timeout: Option<Duration>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences
    Text,
    /// One JSON document
    Json,
    /// One JSON document a line
    Ndjson,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the world look like the testbed file, and wait until the guests are ready
    #[command(after_help = "Examples:
  testbed up                      everything in the file; what is there and right is left alone
  testbed up web db               only these guests, and the network
  testbed up --dry-run            say what would be done, and do nothing
  testbed up --detach             return at once with the action's id; `testbed logs -f ID` follows it

Ctrl-C asks the server to cancel and shows how what was made is removed again; a second Ctrl-C only stops watching.")]
    Up(Up),
    /// Remove all guests and networks of the deployment; run it again if it could not remove all
    Down(Down),
    /// Let guests that were stopped run again, and wait until they are ready; those that they depend on come first
    #[command(after_help = "Examples:
  testbed start                   all guests that are there
  testbed start web db            only these, `db` first if `web` depends on it

What the file wants changed waits for `testbed up`; so do scripts that run at each `up`.")]
    Start(lifecycle::Guests),
    /// Shut guests down and keep them: their disks, addresses and places in the network; `up` starts them again
    #[command(after_help = "Examples:
  testbed stop web                through its agent, else its power button; by force after 60 s
  testbed stop web -t 5           by force after 5 s
  testbed stop --force            all guests, at once, as when the power goes

Guests stop before those that they depend on. A `micro` guest has its system in memory and starts anew.")]
    Stop(lifecycle::Stop),
    /// Shut guests down as `stop` does, then start them again
    Restart(lifecycle::Stop),
    /// Hold guests as they are: they keep their memory and do nothing
    Pause(lifecycle::Guests),
    /// Let guests that are paused go on
    Resume(lifecycle::Guests),
    /// Say what `up` would do, and why; the server is asked about this file and keeps nothing of it
    #[command(after_help = "Examples:
  testbed plan                    compared with what is there now
  testbed plan --offline          as if nothing were there yet, without a server")]
    Plan(Plan),
    /// Check the testbed file and the files it names; print every fault with its place (needs no server)
    Validate,
    /// Print the testbed file with every default filled in (needs no server)
    Config,
    /// Print the JSON Schema of the testbed file, for editors (needs no server)
    Schema,
    /// Draw the network that the testbed file describes, as SVG, Mermaid, Graphviz or D2 (needs no server)
    #[command(after_help = "Examples:
  testbed graph lab.svg           a picture for browsers and documents
  testbed graph --format mermaid  text for Markdown pages that draw Mermaid, on standard output
  testbed graph --format dot | dot -Tpdf > lab.pdf")]
    Graph(Graph),
    /// List the deployment's guests
    Ps {
        /// The guests of all deployments
        #[arg(short, long)]
        all: bool,
        /// Only guests with this label; several are all asked for
        #[arg(short, long, value_name = "KEY[=VALUE]")]
        label: Vec<String>,
    },
    /// List deployments
    #[command(visible_alias = "ls")]
    List,
    /// Show a deployment: its state, its last action, its guests
    Info {
        /// The deployment [default: the project's]
        name: Option<String>,
    },
    /// Print the log of an action
    #[command(after_help = "Examples:
  testbed logs                    the last action's log
  testbed logs -f                 and what is still to come, until the action ends
  testbed logs --list             all actions, with their ids and how they ended")]
    Logs(Logs),
    /// Ask a running action to stop; what it made is taken back
    #[command(after_help = "Examples:
  testbed cancel                  the action that runs on this deployment
  testbed logs -f                 watch it being taken back")]
    Cancel {
        /// The action; the one that runs when absent
        uuid: Option<String>,
    },
    /// Print what happens on the server, as it happens
    Events {
        /// The events of all deployments
        #[arg(short, long)]
        all: bool,
    },
    /// Run a command in a guest; its output comes as it is written, its exit status is the command's own
    #[command(after_help = "Examples:
  testbed exec web -- ip addr
  testbed exec web -e LANG=C -- sh -c 'echo $LANG'
  testbed exec web -i -- wc -l < list.txt
  testbed exec web,db -- uptime          in several at once; each line of output bears its guest's name
  testbed exec --all -- uptime           in all that run
  testbed exec web --timeout 10 -- ping -c 3 10.0.0.2")]
    Exec(exec::Exec),
    /// Copy files and folders into a guest, or out of one
    #[command(after_help = "Examples:
  testbed cp site web:/srv                into a folder that is there: as /srv/site
  testbed cp site web:/srv/www            under another name, where there is none yet
  testbed cp site/. web:/srv              what is in the folder, without the folder
  testbed cp web:/var/log logs            out of a guest; into the folder `logs` when it is there
  testbed cp web:/etc/hosts .             a file

Modes and times are kept. In a guest root owns what comes; here nothing is setuid, and nothing is ever written outside the target,
whatever the guest sends. A machine needs `tar` and a shell, a container neither.")]
    Cp(copy::Copy),
    /// Capture what passes interfaces of guests, as one pcapng file
    #[command(after_help = "Examples:
  testbed capture web -w web.pcapng               all interfaces of a guest, until Ctrl-C
  testbed capture web:eth0 db:eth0 -w lab.pcapng  two interfaces in one file, by name
  testbed capture web -c 100 --duration 60        a hundred frames or a minute, whichever is first
  testbed capture web -w - | wireshark -k -i -    into Wireshark, as they pass")]
    Capture(Capture),
    /// Show what guests' links do to packets, asked and measured; change it while they run
    #[command(subcommand)]
    Link(Link),
    /// Put the expectations of the testbed file (`checks`) to the test, from inside its guests
    #[command(after_help = "Examples:
  testbed check                          all of them; ends with 7 when one does not pass
  testbed check web-reachable            only this one
  testbed check --junit report.xml       and a report for Jenkins, GitLab and their like

The file here is what counts, changed or not since the last `up`; it is not kept.")]
    Check(Check),
    /// Say in one sentence whether a guest can reach another, an address or a name, and what stands in the way
    #[command(after_help = "Examples:
  testbed why client web                 by echo requests
  testbed why client web tcp:80          by a TCP connection
  testbed why client 10.0.0.5 udp:53 -v  and what the answer rests on

Exit status: 0 when it can, 1 when it cannot.")]
    Why(Why),
    /// Keep the testbed as it is, with what guests have in memory, and bring it back
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Create, list, show, reset and destroy deployments
    #[command(subcommand)]
    Deployment(Deployment),
    /// Write a testbed into one file: the testbed file and everything that it names
    #[command(after_help = "Examples:
  testbed export                         into NAME.testbed.tar
  testbed -p lab export -w - | ssh lab2 'cat > lab.testbed.tar'

What happened inside guests is not in it, nor are images of the catalogue. Values of variables are.")]
    Export(crate::command::export::Export),
    /// Create a deployment from such a file; every file in it is checked
    #[command(after_help = "Examples:
  testbed import lab.testbed.tar         under the name that it had
  testbed import lab.testbed.tar -p two  under another")]
    Import(crate::command::export::Import),
    /// Download, take in, build, list and remove base images
    #[command(subcommand)]
    Image(Image),
    /// Print a link that opens the server's pages logged in, and open it; it is good once and for a minute
    #[command(after_help = "Examples:
  testbed gui                     on a desktop: opens the browser
  testbed gui --print             elsewhere: prints the link; from afar, forward the port first:
                                  ssh -L 3355:127.0.0.1:3355 HOST")]
    Gui {
        /// Only print the link
        #[arg(long)]
        print: bool,
    },
    /// Let hosts join the cluster, list them, let them go
    #[command(subcommand)]
    Cluster(Cluster),
    /// Check each part that the server needs, and print how to fix what is missing
    Doctor {
        /// List what servers made and no deployment owns
        #[arg(long)]
        orphans: bool,
    },
    /// Print the version
    Version {
        /// Also the server's
        #[arg(long)]
        server: bool,
    },
    /// Print a completion script
    #[command(after_help = "Examples:
  testbed completion bash > /etc/bash_completion.d/testbed
  testbed completion zsh > ~/.zfunc/_testbed
  testbed completion fish > ~/.config/fish/completions/testbed.fish")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Write the pages of all commands into this folder instead
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
}

/// What `up` and `plan` have in common.
#[derive(Debug, Default, clap::Args)]
pub struct Converge {
    /// Only these guests, and the network
    #[arg(value_name = "GUEST")]
    pub guests: Vec<String>,
    /// Make every guest's disks and seed anew; what the guests' disks hold is lost
    #[arg(long)]
    pub provision: bool,
    /// Run setup scripts again
    #[arg(long)]
    pub rerun_scripts: bool,
    /// Write ACLs again even where they look right
    // Hidden until ACLs act: a file that has some is refused (E090).
    #[arg(long, hide = true)]
    pub reapply_acl: bool,
}

#[derive(Debug, clap::Args)]
pub struct Up {
    #[command(flatten)]
    pub converge: Converge,
    /// When a step fails, leave all as it is for a look; the next `up` goes on from there
    #[arg(long)]
    pub keep_on_failure: bool,
    /// Return as soon as the server has accepted the action, and print its id
    #[arg(short, long, conflicts_with = "dry_run")]
    pub detach: bool,
    /// Say what would be done, and do nothing (the same as `testbed plan`)
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub struct Down {
    /// Accepted as in Compose; guests' own disks are always removed, and there are no named volumes
    #[arg(long)]
    pub volumes: bool,
    /// Return as soon as the server has accepted the action, and print its id
    #[arg(short, long)]
    pub detach: bool,
}

#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    pub converge: Converge,
    /// As if nothing were there yet, without a server; for the whole file
    #[arg(long, conflicts_with_all = ["guests", "provision", "rerun_scripts", "reapply_acl"])]
    pub offline: bool,
}

#[derive(Debug, clap::Args)]
pub struct Capture {
    /// Guests, or single interfaces of them
    #[arg(value_name = "GUEST[:IFACE]", required = true)]
    pub ports: Vec<String>,
    /// Write into this file; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "capture.pcapng")]
    pub write: PathBuf,
    /// End after so many frames
    #[arg(short, long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub duration: Option<u64>,
    /// End before the file is larger than so many MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub max_size: Option<u64>,
    /// Keep only the first bytes of each frame [default: all]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub snaplen: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub struct Graph {
    /// The language [default: what the picture's name ends in (.svg, .mmd, .dot, .gv, .d2), else svg]
    #[arg(long, value_name = "LANGUAGE")]
    pub format: Option<Drawing>,
    /// Write it into this file [default: standard output]
    #[arg(value_name = "PICTURE")]
    pub to: Option<PathBuf>,
}

/// The languages of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Drawing {
    /// Scalable Vector Graphics, laid out
    Svg,
    /// A Mermaid flowchart
    Mermaid,
    /// Graphviz
    Dot,
    /// D2
    D2,
}

#[derive(Debug, clap::Args)]
pub struct Logs {
    /// The action, or a guest: what it said on its console, or its container on its output [default: the last action]
    #[arg(value_name = "UUID|GUEST")]
    pub uuid: Option<String>,
    /// Of a guest: so many of its last lines alone
    #[arg(short = 'n', long, value_name = "LINES", requires = "uuid", conflicts_with = "follow")]
    pub tail: Option<u32>,
    /// Go on until the action ends; the exit status tells how it ended
    #[arg(short, long)]
    pub follow: bool,
    /// The testbed file (here only in its long form, since `-f` follows)
    // The same id as the global flag's: clap then does not add the global one, and hands this one's value to it.
    #[arg(id = "file", long = "file", value_name = "FILE", help_heading = "Global options")]
    file: Option<PathBuf>,
    /// List the actions instead
    #[arg(long, conflicts_with_all = ["uuid", "follow"])]
    pub list: bool,
}

#[derive(Debug, clap::Args)]
pub struct Check {
    /// Only these checks
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Also write a report in JUnit's XML; `-` writes it to standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Why {
    /// The guest that wants to reach the other
    #[arg(value_name = "A")]
    pub from: String,
    /// A guest, an address or a DNS name
    #[arg(value_name = "B")]
    pub to: String,
    /// `icmp`, `tcp:PORT` or `udp:PORT`
    #[arg(value_name = "TRAFFIC", default_value = "icmp")]
    pub by: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let amount = digits.parse::<u64>().ok().zip(seconds).and_then(|(amount, unit)| amount.checked_mul(unit));
    match amount {
        Some(0) | None => Err("use a number of seconds above 0, or one with s, m or h, such as 90s or 5m".to_string()),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_and_command_is_documented() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "`{}` has no help", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "`{}` of `{}` has no help", arg.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Args::command());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "0", "-1", "5d", "m", "1.5h", "99999999999999999999", "9999999999999999999h", "5µ"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
