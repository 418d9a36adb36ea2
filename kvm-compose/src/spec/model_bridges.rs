//! What the user wrote, key by key: the network in the older form, of bridges.
//!
//! Pure data. It stands below `network`, or at the top of the oldest files.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{model_machine::OneOrMore, node::Mark, reader::Spanned};
use crate::names::NetworkName;

/// A network of bridges: the older form.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Bridges {
    /// The bridges.
    pub bridges: Vec<Bridge>,
    /// Which bridges are one segment: each pair is connected.
    pub connections: Vec<(Spanned<NetworkName>, Spanned<NetworkName>)>,
    /// The bridge whose segment has a way out.
    pub external: Option<Spanned<NetworkName>>,
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Bridge {
    /// Its name.
    pub name: Spanned<NetworkName>,
    /// A version of OpenFlow; has no effect.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub protocol: (),
    /// An OpenFlow controller; has no effect.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub controller: (),
    /// Where it stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub at: Mark,
}

/// Bridge → the bridge or bridges that it is connected to.
pub type ConnectionsForm = BTreeMap<String, OneOrMore>;
