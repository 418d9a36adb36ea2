//! The words of `testbed link`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Link {
    /// Show links: what is asked of each direction, and what a short probe and the guests' own packets measure
    #[command(after_help = "Examples:
  testbed link show               all links
  testbed link show web db:eth1   those of a guest, and one of another

`probe` is what frames of the relay's own met on their way through the link just now; `traffic` is what the guest's packets
met in the last ten seconds.")]
    Show(ShowLinks),
    /// Change a link while its guest runs; lasts until the next `up`, which takes it back to what the file says
    #[command(after_help = "Examples:
  testbed link set web:eth0 down                          pull the cable out; `up` puts it in again
  testbed link set web:eth0 delay_ms=25 loss_percent=5    each way
  testbed link set web:eth0 rate_mbit=10 --to-guest       one way
  testbed link set web:eth0 clear                         a plain link")]
    Set(SetLink),
}

#[derive(Debug, clap::Args)]
pub struct ShowLinks {
    /// Only these
    #[arg(value_name = "GUEST[:IFACE]")]
    pub links: Vec<String>,
    /// Do not send probes; show what is asked and what passing packets met
    #[arg(long)]
    pub no_probe: bool,
}

#[derive(Debug, clap::Args)]
pub struct SetLink {
    /// The link
    #[arg(value_name = "GUEST:IFACE")]
    pub link: String,
    /// up, down, clear, or delay_ms, jitter_ms, loss_percent, duplicate_percent, reorder_percent, rate_mbit with a value; what
    /// is not named stays as it is
    #[arg(required = true, value_name = "CHANGE")]
    pub changes: Vec<String>,
    /// Change only what the guest receives
    #[arg(long, conflicts_with = "from_guest")]
    pub to_guest: bool,
    /// Change only what the guest sends
    #[arg(long)]
    pub from_guest: bool,
}
