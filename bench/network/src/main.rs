//! Times large networks: from text to plan, and onto OVN in one transaction against the same made by hand with `ovn-nbctl`.
//!
//! Planning runs in a process of its own each time, so that its memory can be told. Applying needs OVN's northbound database;
//! what is made there has an installation id of its own and is taken away again.

mod apply;
mod byhand;
mod plan;
mod testbed;

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use kvm_compose::topology::{self, Leases};

use apply::{Ovn, Took};
use plan::Times;
use testbed::Size;

/// Times planning and applying large networks.
#[derive(Parser)]
struct Args {
    /// Testbeds of how many guests are planned.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    guests: Vec<usize>,
    /// How many ports are applied; none with 0.
    #[arg(long, default_value_t = 1000)]
    ports: usize,
    /// Switches.
    #[arg(long, default_value_t = 50)]
    switches: usize,
    /// Routers.
    #[arg(long, default_value_t = 20)]
    routers: usize,
    /// How often each is timed; the median is shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave out one process per object, which takes long.
    #[arg(long)]
    quick: bool,
    /// OVN's northbound database.
    #[arg(long, default_value = "/var/run/ovn/ovnnb_db.sock")]
    ovn_nb: PathBuf,
    /// Plan one testbed, print the times as JSON and end.
    #[arg(long, hide = true)]
    child: Option<usize>,
}

impl Args {
    fn size(&self, guests: usize, dhcp: bool) -> Size {
        Size { guests, switches: self.switches, routers: self.routers, dhcp }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.switches > 1 && args.switches < 100 && args.routers > 0 && args.routers < 200, "2 to 99 switches, 1 to 199 routers");
    if let Some(guests) = args.child {
        let owner = Ovn::new(&args.ovn_nb)?;
        let (_, times) = plan::plan(&testbed::yaml(args.size(guests, true)), owner.owner().installation, &owner.owner().deployment)?;
        println!("{}", serde_json::to_string(&times)?);
        return Ok(());
    }
    println!("load {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    plans(&args)?;
    if args.ports > 0 { applies(&args) } else { Ok(()) }
}

fn plans(args: &Args) -> Result<()> {
    println!("\n| guests | file | text to topology | place | blueprint | plan | together | processor time | peak memory | steps |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for guests in &args.guests {
        let rounds: Result<Vec<Times>> = (0..args.rounds).map(|_| child(args, *guests)).collect();
        let rounds = rounds?;
        let of = |value: fn(&Times) -> f64| median(rounds.iter().map(value).collect());
        let first = rounds.first().context("no rounds")?;
        println!(
            "| {guests} | {} kB | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.0} MB | {} |",
            first.bytes / 1000,
            of(|times| times.load),
            of(|times| times.place),
            of(|times| times.lower),
            of(|times| times.diff),
            of(Times::total),
            of(|times| times.processor),
            of(|times| times.memory),
            first.steps
        );
    }
    Ok(())
}

fn child(args: &Args, guests: usize) -> Result<Times> {
    let numbers = [guests, args.switches, args.routers].map(|number| number.to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--child", &numbers[0], "--switches", &numbers[1], "--routers", &numbers[2]]);
    let out = command.output()?;
    ensure!(out.status.success(), "planning {guests} guests: {}", String::from_utf8_lossy(&out.stderr));
    Ok(serde_json::from_slice(&out.stdout)?)
}

fn applies(args: &Args) -> Result<()> {
    let ovn = Ovn::new(&args.ovn_nb)?;
    let owner = ovn.owner();
    let text = testbed::yaml(args.size(args.ports, false));
    let (blueprint, _) = plan::plan(&text, owner.installation, &owner.deployment)?;
    let topology =
        topology::load("kvm-compose.yaml", &text, &owner.deployment, &Leases::new()).map_err(|problem| anyhow!("{problem}"))?.topology;
    let by_hand = byhand::commands(&topology, &format!("by-hand-{}", std::process::id()));
    let guard = Cleanup { ovn: &ovn, by_hand: &by_hand };
    let (mut ours, mut theirs, mut removals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        ours.push(ovn.testbed(&blueprint)?);
        removals.push(ovn.remove()?);
        theirs.push(ovn.joined(&by_hand.make, &by_hand.witness)?);
        ovn.joined(&by_hand.remove, "-")?;
    }
    let of = |rounds: &[Took], value: fn(&Took) -> f64| median(rounds.iter().map(value).collect());
    let everywhere = of(&theirs, |took| took.everywhere);
    let row = |what: &str, committed: String, took: f64| println!("| {what} | {committed} | {took:.3} s | {:.2} |", took / everywhere);
    println!(
        "\n{} ports, {} switches, {} routers: {} rows, {} commands\n",
        args.ports,
        args.switches,
        args.routers,
        blueprint.rows.len(),
        by_hand.make.len()
    );
    println!("| how | until the database has it | until every chassis has it | ratio |\n| --- | ---: | ---: | ---: |");
    let committed = |rounds: &[Took]| {
        format!(
            "{:.3} s ({:.2})",
            of(rounds, |took| took.committed),
            of(rounds, |took| took.committed) / of(&theirs, |took| took.committed)
        )
    };
    row("one `ovn-nbctl`, commands joined by `--`", committed(&theirs), everywhere);
    row("testbed", committed(&ours), of(&ours, |took| took.everywhere));
    if !args.quick {
        row("one `ovn-nbctl` per object", String::new(), ovn.one_by_one(&by_hand.make)?);
    }
    row("testbed takes it away", String::new(), median(removals));
    drop(guard);
    println!("\nload {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

/// Takes everything away at the end, however that comes.
struct Cleanup<'a> {
    ovn: &'a Ovn,
    by_hand: &'a byhand::ByHand,
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let gone = self.ovn.remove().and_then(|_| self.ovn.joined(&self.by_hand.remove, "-"));
        if let Err(problem) = gone {
            eprintln!("something of `{}` may be left: {problem:#}", self.by_hand.witness);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
