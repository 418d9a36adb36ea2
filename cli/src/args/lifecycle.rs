//! `start`, `stop`, `restart`, `pause`, `resume`.

#[derive(Debug, clap::Args)]
pub struct Guests {
    /// The guests [default: all that are there]
    #[arg(value_name = "GUEST")]
    pub guests: Vec<String>,
    /// Return as soon as the server has accepted the action, and print its id
    #[arg(short, long)]
    pub detach: bool,
}

#[derive(Debug, clap::Args)]
pub struct Stop {
    #[command(flatten)]
    pub guests: Guests,
    /// How long a guest has to shut down by itself before it is forced [default: 60, of containers 10]
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub time: Option<u64>,
    /// Do not ask the guests: as when the power goes
    #[arg(long, conflicts_with = "time")]
    pub force: bool,
}
