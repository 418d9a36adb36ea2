//! The image catalogue: names that `cloud_image` may name, where their images are, and who logs in.
//!
//! Pure: text in, names out. The built-in part is `data/images.toml`; files that extend it are read by [`crate::project`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Problem},
    names::{IMAGE_RULE, is_image},
    spec::reader::suggestion,
};

/// The catalogue that comes with the program.
const BUILT_IN: &str = include_str!("../data/images.toml");

/// Images by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    images: BTreeMap<String, Image>,
}

/// An image of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// A publisher has it.
    Published {
        /// Where.
        url: String,
        /// What its content must be.
        sum: Check,
        /// The user that cloud-init makes where the testbed file names none.
        user: String,
    },
    /// A user handed it over.
    Imported,
    /// It is made on this machine.
    Built {
        /// By this recipe.
        recipe: String,
    },
}

/// What an image's content is checked by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// The publisher's file of checksums, over the same download.
    File(String),
    /// This SHA-256, in hexadecimal.
    Sha256(String),
}

/// An image as a catalogue file says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    url: Option<String>,
    checksums: Option<String>,
    sha256: Option<String>,
    user: Option<String>,
    built: Option<String>,
}

impl Catalogue {
    /// The built-in names.
    pub fn built_in() -> Result<Catalogue, Problem> {
        let empty = Catalogue { images: BTreeMap::new() };
        empty.extended(BUILT_IN, "the built-in catalogue")
    }

    /// With the names of a catalogue file, which take the place of equal ones. `file` is its name for messages.
    pub fn extended(mut self, text: &str, file: &str) -> Result<Catalogue, Problem> {
        let wrong = |cause: String| Problem::new(Code::InvalidFile, format!("the image catalogue `{file}` is wrong")).cause(cause);
        let written: BTreeMap<String, Written> = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        for (name, written) in written {
            let image = image(&name, written).map_err(|why| wrong(format!("[{name}]: {why}")))?;
            self.images.insert(name, image);
        }
        Ok(self)
    }

    /// With the names of images that users handed over; a name that is there already stays what it is.
    pub fn with_imported(mut self, names: impl IntoIterator<Item = String>) -> Self {
        for name in names.into_iter().filter(|name| is_image(name)) {
            self.images.entry(name).or_insert(Image::Imported);
        }
        self
    }

    /// The image of a name.
    pub fn find(&self, name: &str) -> Option<&Image> {
        self.images.get(name)
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.images.keys().map(String::as_str).collect()
    }

    /// What is wrong with a name, if anything: the message and what to write instead.
    pub fn fault(&self, name: &str) -> Option<(String, String)> {
        match self.find(name) {
            Some(Image::Published { .. } | Image::Imported) => None,
            Some(Image::Built { recipe }) => {
                let message = format!("image `{name}` has no disk, so it is no cloud image");
                Some((message, format!("write `{recipe}: {{}}` in the place of `libvirt:`")))
            }
            None => {
                let names = self.names();
                let near = suggestion(name, &names).map_or_else(String::new, |near| format!("{near} "));
                let hint = format!("{near}the catalogue has {}; `images.toml` adds to it", names.join(", "));
                Some((format!("there is no image `{}` in the catalogue", crate::names::printable(name)), hint))
            }
        }
    }
}

fn image(name: &str, written: Written) -> Result<Image, String> {
    if !is_image(name) {
        return Err(IMAGE_RULE.to_string());
    }
    let Written { url, checksums, sha256, user, built } = written;
    if let Some(recipe) = built {
        return match (recipe.as_str(), url.or(checksums).or(sha256).or(user)) {
            ("micro", None) => Ok(Image::Built { recipe }),
            ("micro", Some(_)) => Err("what is built has no other keys".to_string()),
            _ => Err("only `built = \"micro\"` is known".to_string()),
        };
    }
    let url = url.ok_or("`url` is missing")?;
    let secure = |url: &str, key: &str| match url.starts_with("https://") || url.starts_with("http://") {
        true => Ok(()),
        false => Err(format!("`{key}` must begin with https:// or http://")),
    };
    secure(&url, "url")?;
    let sum = match (checksums, sha256) {
        (Some(file), None) => {
            secure(&file, "checksums")?;
            // Sums from elsewhere would be somebody else's word for the publisher's image.
            if origin(&file) != origin(&url) {
                return Err("`checksums` must be on the same host as `url`, and no less secure".to_string());
            }
            Check::File(file)
        }
        (None, Some(sum)) if sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit()) => Check::Sha256(sum.to_ascii_lowercase()),
        (None, Some(_)) => return Err("`sha256` must be 64 hexadecimal digits".to_string()),
        _ => return Err("one of `checksums` and `sha256` is needed, and not both".to_string()),
    };
    Ok(Image::Published { url, sum, user: user.ok_or("`user` is missing")? })
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Option<(String, String)> {
    let url: http::Uri = url.parse().ok()?;
    Some((url.scheme_str()?.to_ascii_lowercase(), url.authority()?.as_str().to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_right_and_has_what_is_promised() {
        let catalogue = Catalogue::built_in().expect("right");
        for name in
            ["ubuntu_18_04", "ubuntu_20_04", "ubuntu_22_04", "ubuntu_24_04", "debian_12", "debian_13", "alpine_3", "fedora", "cirros_0_6_2"]
        {
            assert_eq!(catalogue.fault(name), None, "{name}");
        }
        let (message, hint) = catalogue.fault("ubuntu_2004").expect("unknown");
        assert!(message.contains("`ubuntu_2004`") && hint.starts_with("did you mean `ubuntu_20_04`?"), "{hint}");
        assert!(catalogue.fault("micro").is_some_and(|(_, hint)| hint.contains("`micro: {}`")));
    }

    #[test]
    fn users_add_names_and_wrong_files_are_said() {
        let good = "[mine]\nurl = \"https://x/y.qcow2\"\nchecksums = \"https://x/SHA256SUMS\"\nuser = \"me\"\n";
        let catalogue = Catalogue::built_in().and_then(|all| all.extended(good, "images.toml")).expect("right");
        assert_eq!(catalogue.fault("mine"), None);
        assert!(catalogue.find("fedora").is_some());
        for (bad, said) in [
            ("[mine]\nurl = \"ftp://x\"\nsha256 = \"0\"\nuser = \"me\"", "`url` must begin"),
            ("[mine]\nurl = \"https://x\"\nsha256 = \"0\"\nuser = \"me\"", "64 hexadecimal digits"),
            ("[mine]\nurl = \"https://x\"\nuser = \"me\"", "one of `checksums` and `sha256`"),
            ("[mine]\nurl = \"https://x\"\nchecksums = \"https://x\"", "`user` is missing"),
            ("[mine]\nurl = \"https://x/a\"\nchecksums = \"http://x/b\"\nuser = \"me\"", "on the same host"),
            ("[mine]\nurl = \"https://x/a\"\nchecksums = \"https://y/b\"\nuser = \"me\"", "on the same host"),
            ("[mine]\nuri = \"https://x\"", "uri"),
            ("[\"a b\"]\nbuilt = \"micro\"", "1 to 64"),
            ("nonsense", "expected"),
        ] {
            let problem = Catalogue::built_in().and_then(|all| all.extended(bad, "images.toml")).expect_err(bad);
            assert!(problem.causes.iter().any(|cause| cause.contains(said)), "{bad}: {problem:?}");
        }
    }
}
