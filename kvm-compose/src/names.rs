//! The only place where names and ids are derived: newtypes validated at the door, and ids that are UUIDv5 of names.
//!
//! Pure. The same name gives the same id everywhere, so ids need no generator and no memory.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Code, Problem};

/// Shows a hostile name safely: control characters escaped, at most 60 characters.
pub fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().count() > 60 {
        shown.push('…');
    }
    shown
}

fn refused(kind: &str, text: &str, rule: &str) -> Problem {
    Problem::new(Code::InvalidName, format!("`{}` is not a {kind} name", printable(text))).hint(rule.to_string())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $type(String);

        impl $type {
            /// The rule for this kind of name, as shown in hints.
            pub const RULE: &'static str = $rule;

            /// Validates a name. Fails with `invalid_name`.
            pub fn new(text: &str) -> Result<Self, Problem> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok($type(text.to_string())) } else { Err(refused($kind, text, $rule)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = Problem;
            fn from_str(text: &str) -> Result<Self, Problem> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Problem;
            fn try_from(text: String) -> Result<Self, Problem> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name_type! {
    /// A deployment's name: also a folder's and a file's name, so it is the strictest.
    DeploymentName, "deployment",
    "use 1 to 63 lower-case letters, digits and `-`, starting and ending with a letter or digit",
    |text| is_label(text, 63, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), "-")
}

name_type! {
    /// A guest's name: a DNS label; upper case and `_` are accepted and normalised in the hostname.
    GuestName, "guest",
    "use 1 to 50 letters, digits and `-`, starting and ending with a letter or digit",
    |text| is_label(text, 50, |c| c.is_ascii_alphanumeric(), "-_")
}

name_type! {
    /// A name inside the network section: switch, router, port, bridge.
    NetworkName, "network",
    "use 1 to 50 letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit",
    |text| is_label(text, 50, |c| c.is_ascii_alphanumeric(), "-_.")
}

name_type! {
    /// A host of the cluster.
    HostName, "host",
    "use 1 to 63 letters, digits, `-` and `.`, starting and ending with a letter or digit",
    |text| is_label(text, 63, |c| c.is_ascii_alphanumeric(), "-.")
}

name_type! {
    /// A snapshot of a deployment: also a folder's name. It has no `.`, which names of folders that are in the making have.
    SnapshotName, "snapshot",
    "use 1 to 50 letters, digits, `-` and `_`, starting and ending with a letter or digit",
    |text| is_label(text, 50, |c| c.is_ascii_alphanumeric(), "-_")
}

/// What [`is_variable`] accepts, in words.
pub const VARIABLE_RULE: &str = "use 1 to 255 letters, digits and `_`, not starting with a digit";

/// True for the name of an environment variable that every shell takes (POSIX.1-2017, 3.235).
pub fn is_variable(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What [`is_image`] accepts, in words.
pub const IMAGE_RULE: &str = "use 1 to 64 letters, digits, `_`, `-` and `.`, starting with a letter or digit";

/// True for what may be the name of an image in the catalogue.
pub fn is_image(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn is_label(text: &str, longest: usize, edge: fn(char) -> bool, inner: &str) -> bool {
    let length = text.chars().count();
    (1..=longest).contains(&length) && text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || inner.contains(c))
}

impl DeploymentName {
    /// The default name of a project: its folder's name, lower-cased, with every other character turned into `-`.
    pub fn from_folder(folder: &str) -> Result<Self, Problem> {
        let mapped: String = folder
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .take(63)
            .collect();
        let trimmed = mapped.trim_matches('-');
        Self::new(trimmed).map_err(|problem| problem.hint(format!("give one with --project-name: {}", Self::RULE)))
    }
}

impl DeploymentName {
    /// Refuses a name that no deployment can have, although it is well-formed: its record's file would be another's log index.
    pub fn check_not_reserved(&self) -> Result<(), Problem> {
        if self.as_str().ends_with("-logs") {
            return Err(Problem::new(Code::InvalidName, format!("`{self}` is not a deployment name"))
                .hint("a name may not end in `-logs`: that is where the actions of the deployment without it are listed"));
        }
        Ok(())
    }
}

impl HostName {
    /// The host that runs the master, by the name that every testbed file may use for it.
    pub fn master() -> Self {
        HostName("master".to_string())
    }
}

impl GuestName {
    /// The guest's hostname: lower case, `_` turned into `-` (RFC 1123).
    pub fn hostname(&self) -> String {
        self.0.to_ascii_lowercase().replace('_', "-")
    }
}

/// Who made a thing: one server on one data folder. Every object carries it, so two servers never touch each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct InstallationId(pub Uuid);

impl fmt::Display for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl InstallationId {
    /// Eight characters, enough to keep two installations on one machine apart in a name people read.
    pub fn short(&self) -> String {
        self.0.simple().to_string()[..8].to_string()
    }

    fn derive(&self, deployment: &DeploymentName, kind: &str, parts: &[&str]) -> Uuid {
        // The separator cannot occur in a name, so no two lists of parts give one text.
        let text = format!("{kind}/{deployment}/{}", parts.join("/"));
        Uuid::new_v5(&self.0, text.as_bytes())
    }

    /// The libvirt UUID of a guest's domain.
    pub fn domain_uuid(&self, deployment: &DeploymentName, guest: &GuestName) -> Uuid {
        self.derive(deployment, "domain", &[guest.as_str()])
    }

    /// The name of a guest's logical switch port. libvirt's `interfaceid` must be a UUID, and OVN's port is named by it.
    pub fn port_uuid(&self, deployment: &DeploymentName, guest: &GuestName, nic: usize) -> Uuid {
        self.derive(deployment, "port", &[guest.as_str(), &nic.to_string()])
    }
}

/// The libvirt name of a guest's domain. A `.` cannot occur in either part, so two deployments never share a name.
pub fn domain_name(deployment: &DeploymentName, guest: &GuestName) -> String {
    format!("{deployment}.{guest}")
}

/// A generated MAC address: locally administered, unicast, the same in every run (IEEE 802, U/L bit set).
pub fn generated_mac(deployment: &DeploymentName, owner: &str, port: usize, attempt: u32) -> crate::addr::Mac {
    let text = format!("mac/{deployment}/{owner}/{port}/{attempt}");
    let bytes = *Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_bytes();
    crate::addr::Mac([0x02, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused_by_every_kind() {
        let long = "a".repeat(10_000);
        for text in ["", "../x", "a;b", "<x/>", long.as_str(), "a\0b", "😀", "a/b", "-a", "a-", " a", "a\n", "%2e%2e", "a b", "$(x)"] {
            for problem in
                [DeploymentName::new(text).err(), GuestName::new(text).err(), NetworkName::new(text).err(), HostName::new(text).err()]
            {
                let problem = problem.unwrap_or_else(|| panic!("{text:?} was accepted"));
                assert_eq!(problem.code, Code::InvalidName);
                assert!(problem.message.len() < 400, "a hostile name must not fill the screen");
                assert!(!problem.message.contains(['\0', '\n']));
            }
        }
    }

    #[test]
    fn a_folder_gives_a_deployment_name() {
        assert_eq!(DeploymentName::from_folder("My Lab_2").map(String::from), Ok("my-lab-2".to_string()));
        assert!(DeploymentName::from_folder("…").is_err());
    }

    #[test]
    fn ids_are_stable_and_apart() {
        let one = InstallationId(Uuid::from_u128(1));
        let (a, b) = (DeploymentName::new("a").expect("valid"), DeploymentName::new("b").expect("valid"));
        let guest = GuestName::new("web").expect("valid");
        assert_eq!(one.domain_uuid(&a, &guest), one.domain_uuid(&a, &guest));
        assert_ne!(one.domain_uuid(&a, &guest), one.domain_uuid(&b, &guest));
        assert_ne!(one.port_uuid(&a, &guest, 0), one.port_uuid(&a, &guest, 1));
        assert_ne!(one.domain_uuid(&a, &guest), InstallationId(Uuid::from_u128(2)).domain_uuid(&a, &guest));
        let mac = generated_mac(&a, "web", 0, 0);
        assert_eq!(mac.0[0] & 0b11, 0b10);
    }
}
