//! A publisher's file of checksums, and the sum that a download must have.
//!
//! Pure. The forms: `sum  name` and `sum *name` of sha256sum(1), `SHA256 (name) = sum` of BSD and its kin, a file with one sum
//! and nothing else; all of them also within a signed message (RFC 9580), whose other lines are passed over.

use std::fmt;

use crate::error::{Code, Problem};

/// A sum in hexadecimal, with its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sum {
    /// SHA-256.
    Sha256(String),
    /// SHA-512.
    Sha512(String),
}

impl Sum {
    /// The sum of this text, when it is one of the two kinds that are strong enough.
    pub fn new(text: &str) -> Option<Sum> {
        let text = text.to_ascii_lowercase();
        let is_hex = text.chars().all(|c| c.is_ascii_hexdigit());
        match (is_hex, text.len()) {
            (true, 64) => Some(Sum::Sha256(text)),
            (true, 128) => Some(Sum::Sha512(text)),
            _ => None,
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sum::Sha256(hex) => write!(f, "sha256:{hex}"),
            Sum::Sha512(hex) => write!(f, "sha512:{hex}"),
        }
    }
}

/// The sum of the file called `name`; of two kinds the stronger one.
pub fn find(text: &str, name: &str) -> Result<Sum, Problem> {
    let lines: Vec<(Sum, Option<&str>)> = text.lines().filter_map(line).collect();
    let ours: Vec<&Sum> = lines.iter().filter(|(_, named)| named.is_some_and(|named| is(named, name))).map(|(sum, _)| sum).collect();
    let alone = match lines.as_slice() {
        [(sum, None)] => vec![sum],
        _ => Vec::new(),
    };
    let all = if ours.is_empty() { alone } else { ours };
    let of_kind = |wanted: fn(&Sum) -> bool| all.iter().copied().filter(|sum| wanted(sum)).collect::<Vec<_>>();
    let strongest = [of_kind(|sum| matches!(sum, Sum::Sha512(_))), of_kind(|sum| matches!(sum, Sum::Sha256(_)))];
    match strongest.into_iter().find(|sums| !sums.is_empty()).as_deref() {
        Some([first, rest @ ..]) if rest.iter().all(|sum| sum == first) => Ok((*first).clone()),
        Some(_) => Err(Problem::new(Code::DownloadFailed, format!("the publisher's checksums name `{name}` twice, with two sums"))),
        None => Err(Problem::new(Code::DownloadFailed, format!("the publisher's checksums do not name `{name}`"))
            .hint("the publisher may have renamed the image: name its new URL in `images.toml`")),
    }
}

fn is(named: &str, name: &str) -> bool {
    named == name || named.strip_suffix(name).is_some_and(|folder| folder.ends_with('/'))
}

fn line(line: &str) -> Option<(Sum, Option<&str>)> {
    let line = line.trim();
    // `SHA256 (name) = sum`
    if let Some((head, sum)) = line.rsplit_once(" = ").or_else(|| line.rsplit_once(")= "))
        && let Some((_, name)) = head.split_once('(')
    {
        return Some((Sum::new(sum.trim())?, Some(name.trim_end_matches(')'))));
    }
    match line.split_once(char::is_whitespace) {
        Some((sum, name)) => {
            let name = name.trim_start();
            Some((Sum::new(sum)?, Some(name.strip_prefix('*').unwrap_or(name))))
        }
        None => Some((Sum::new(line)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_found_in_every_form_that_publishers_use() {
        let (short, long) = ("a".repeat(64), "B".repeat(128));
        for text in [
            format!("{short}  disk.img\n{}  other.img\n", "c".repeat(64)),
            format!("{short} *disk.img"),
            format!("{short}  ./sub/disk.img"),
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.img: 5 bytes\nSHA256 (disk.img) = {short}\n-----BEGIN PGP SIGNATURE-----\n\n{short}x"
            ),
            format!("{short}\n"),
        ] {
            assert_eq!(find(&text, "disk.img"), Ok(Sum::Sha256(short.clone())), "{text}");
        }
        let both = format!("{short}  disk.img\n{long}  disk.img\n");
        assert_eq!(find(&both, "disk.img"), Ok(Sum::Sha512(long.to_ascii_lowercase())));
    }

    #[test]
    fn what_is_missing_weak_or_contradicts_itself_is_told() {
        let (one, two) = ("a".repeat(64), "b".repeat(64));
        for (text, said) in [
            (String::new(), "do not name"),
            (format!("{one}  mydisk.img"), "do not name"),
            (format!("{}  disk.img", "a".repeat(32)), "do not name"),
            (format!("{one}\n{two}\n"), "do not name"),
            (format!("{one}  disk.img\n{two}  disk.img"), "twice"),
        ] {
            let problem = find(&text, "disk.img").expect_err(said);
            assert!(problem.message.contains(said), "{text}: {problem}");
        }
    }
}
