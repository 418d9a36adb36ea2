//! What a testbed consists of beside its testbed file.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The other files of a testbed, the values of its variables, and what is laid over it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Composition {
    /// The files that `include` and `extends` name, by their path from the project's folder. What is not here is read there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// The values of the variables that the files name; `null` for one that is not set. What is not here is looked up in
    /// the project's `.env`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Option<String>>,
    /// `key=value`, laid over the whole in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
}

impl Composition {
    /// True when the testbed file stands alone.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.variables.is_empty() && self.set.is_empty()
    }

    /// How many bytes it holds.
    pub fn size(&self) -> usize {
        let files = self.files.iter().map(|(path, text)| path.len() + text.len());
        let variables = self.variables.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len));
        files.chain(variables).chain(self.set.iter().map(String::len)).sum()
    }
}

// Values may be secret: nobody prints them by mistake.
impl fmt::Debug for Composition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.set.iter().map(|option| option.split('=').next().unwrap_or_default()).collect();
        f.debug_struct("Composition")
            .field("files", &self.files.keys())
            .field("variables", &self.variables.keys())
            .field("set", &keys)
            .finish()
    }
}
