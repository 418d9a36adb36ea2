//! How decided things are written: OVN rows, domain XML, NoCloud seeds.
//!
//! Pure. XML and YAML are written by writers that escape, never by templates.

pub mod claims;
mod cloud;
pub mod container;
pub mod domain;
pub mod policy;
pub mod routed;
pub mod rows;
pub mod seed;
pub mod services;

use sha2::{Digest, Sha256};

/// The digest of files: names and contents.
pub fn files_digest<'a>(files: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let parts: Vec<&str> = files.flat_map(|(name, content)| [name.as_str(), content.as_str()]).collect();
    digest(&parts)
}

/// SHA-256 of several parts in hexadecimal. Each part's length goes in first, so that no two lists give one text.
pub fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    hash.finalize().iter().flat_map(digits).collect()
}
