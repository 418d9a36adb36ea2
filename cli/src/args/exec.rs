//! `exec`.

#[derive(Debug, clap::Args)]
pub struct Exec {
    /// The guest, or several with commas between them
    pub guest: String,
    /// In all guests that run, at once; no guest is named then
    #[arg(short, long, conflicts_with = "interactive")]
    pub all: bool,
    /// A variable for the command's environment; may be given again
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Send this command's standard input to the guest's command; it is read whole first, 1.4 MB at most
    #[arg(short, long)]
    pub interactive: bool,
    /// The program and its arguments
    #[arg(required_unless_present = "all", trailing_var_arg = true, value_name = "CMD")]
    pub argv: Vec<String>,
}
