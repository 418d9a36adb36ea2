//! The words of `testbed cluster`, `deployment` and `image`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Make a join token, and print the one line to run on the new host
    Token,
    /// List the hosts, and which of them answer
    #[command(visible_alias = "ls")]
    List,
    /// Let a member go
    #[command(visible_alias = "rm")]
    Remove {
        /// The member
        #[arg(value_name = "HOST")]
        member: String,
        /// Also while guests stand there: they are given up and go on running
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Deployment {
    /// Create a deployment for a project folder; `up` does this by itself
    Create {
        /// Its name [default: the project's]
        name: Option<String>,
        /// The folder that holds the testbed file [default: the testbed file's folder]
        #[arg(long, value_name = "FOLDER")]
        project_location: Option<PathBuf>,
    },
    /// List deployments
    #[command(visible_alias = "ls")]
    List,
    /// Show a deployment
    Info {
        /// The deployment [default: the project's]
        name: Option<String>,
    },
    /// Forget a deployment and its logs; refused while guests or networks of it are there
    Destroy {
        /// The deployment [default: the project's]
        name: Option<String>,
        /// Also when something of it is still there or cannot be seen
        #[arg(long)]
        force: bool,
    },
    /// Forget that the last action failed, and look anew at what is there
    Reset {
        /// The deployment [default: the project's]
        name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Image {
    /// List base images, and the deployments that use them
    #[command(visible_alias = "ls")]
    List {
        /// The catalogue instead: the names that may be pulled
        #[arg(short, long)]
        available: bool,
    },
    /// Download an image of the catalogue; what is there already and what came before a break is not fetched again
    #[command(after_help = "Examples:
  testbed image list --available      the names that the catalogue has
  testbed image pull debian_12        download it, or find that it is up to date

The image gets its name when its publisher's checksum is verified. Mirrors, a proxy and limits are set in the table [images]
of the server's config/server.toml.")]
    Pull {
        /// The image's name in the catalogue
        name: String,
    },
    /// Take a disk image in: qcow2, raw, VMDK, or an OVA with one disk; it is sent to the server and becomes qcow2
    #[command(after_help = "Examples:
  testbed image import appliance.ova
  testbed image import disk.raw --name router_os")]
    Import {
        /// The file
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        path: PathBuf,
        /// The image's name [default: the file's, without its ending]
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove images; refused while a deployment uses one
    #[command(visible_alias = "remove")]
    Rm {
        /// The images
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove images that no name stands for and nobody uses, golden images among them, and half-finished downloads
    Prune,
    /// Build a base image on the server
    Build {
        /// The image
        #[arg(value_parser = ["micro"])]
        name: String,
    },
}
