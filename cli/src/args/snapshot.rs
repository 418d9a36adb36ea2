//! The words of `testbed snapshot`.

/// `testbed snapshot`.
#[derive(Debug, clap::Subcommand)]
pub enum Snapshot {
    /// Keep the testbed, or some of its guests, as they are now; guests that run stand still for a moment and go on
    #[command(after_help = "Examples:
  testbed snapshot create clean --all --memory   all of it: file, network, disks, and what guests have in memory
  testbed snapshot create before-upgrade web db  the disks of two guests
  testbed down; testbed up; testbed snapshot restore clean")]
    Create {
        /// The snapshot's name
        name: String,
        /// Only these guests
        #[arg(value_name = "GUEST", conflicts_with = "all")]
        guests: Vec<String>,
        /// The whole testbed: its file, its network and all guests, at one moment (also when no guest is named)
        #[arg(long)]
        all: bool,
        /// Also what guests that run have in memory; without it they boot from their disks when it is restored
        #[arg(long)]
        memory: bool,
    },
    /// Make the testbed, or some of its guests, what they were; what is there now is given up
    #[command(after_help = "Examples:
  testbed snapshot restore clean             file, network, links and guests, as they were
  testbed snapshot restore clean web         one guest, in the testbed as it is now

The testbed file on the server is the snapshot's then; the one in your project folder stays as it is, and the next `testbed up`
there puts it in force again.")]
    Restore {
        /// The snapshot's name
        name: String,
        /// Only these guests
        #[arg(value_name = "GUEST", conflicts_with = "all")]
        guests: Vec<String>,
        /// All that the snapshot holds (also when no guest is named)
        #[arg(long)]
        all: bool,
    },
    /// List the deployment's snapshots
    #[command(visible_alias = "ls")]
    List,
    /// Show a snapshot: its guests, their files and SHA-256 sums
    Info {
        /// The snapshot's name
        name: String,
    },
    /// Delete a snapshot and free what it takes on the disk
    #[command(visible_alias = "rm")]
    Delete {
        /// The snapshot's name
        name: String,
    },
}
