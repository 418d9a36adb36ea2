//! Files in guests, as `testbed cp` sees them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// GET `/api/deployments/{name}/guests/{guest}/path`: what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathSeen {
    /// What the path leads to, links followed.
    pub kind: PathKind,
    /// The folder that would hold it is there.
    pub has_parent: bool,
    /// About how many bytes it and all below it take; 0 when nobody looked.
    pub bytes: u64,
    /// The guest unpacks archives that leave the holes of sparse files out.
    pub holes: bool,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Nothing.
    None,
    /// A folder.
    Folder,
    /// Anything else.
    File,
}

/// A path in a guest, checked: absolute, without `.`, `..` and doubled slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GuestPath(String);

/// Longer paths than Linux takes (limits.h, `PATH_MAX`).
const LONGEST: usize = 4096;

impl GuestPath {
    /// The path, without a slash at its end; nothing when it is none.
    pub fn new(text: &str) -> Option<GuestPath> {
        let rest = text.strip_prefix('/')?;
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let fits = text.len() < LONGEST && !text.contains('\0') && !parts.contains(&"..");
        fits.then(|| GuestPath(format!("/{}", parts.join("/"))))
    }

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that holds it, and its name in it; the root has no name.
    pub fn split(&self) -> (&str, &str) {
        match self.0.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((folder, name)) => (folder, name),
            None => ("/", ""),
        }
    }
}

impl std::fmt::Display for GuestPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_lead_nowhere_else() {
        for (text, path, parts) in [
            ("/", "/", ("/", "")),
            ("/srv", "/srv", ("/", "srv")),
            ("//srv/./site/", "/srv/site", ("/srv", "site")),
            ("/a b/-c", "/a b/-c", ("/a b", "-c")),
        ] {
            let found = GuestPath::new(text).expect("a path");
            assert_eq!((found.as_str(), found.split()), (path, parts), "{text}");
        }
        let long = format!("/{}", "x".repeat(5000));
        for text in ["", "srv", "../x", "/srv/../etc", "/a\0b", long.as_str()] {
            assert_eq!(GuestPath::new(text), None, "{text}");
        }
    }
}
