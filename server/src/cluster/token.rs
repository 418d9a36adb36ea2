//! Join tokens: `tbj_<digest of the authority>_<secret>`, good for one host, for some hours.
//!
//! Only digests of secrets are kept. Used ones are kept until they expire, so that a second use is told apart from a wrong
//! token. Must not know who joins.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use kvm_compose::{
    backend::files::sums::hexadecimal,
    error::{Code, Problem},
    names::HostName,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    auth::secret,
    data::read_if_there,
    store::{atomic, records::to_json},
};

/// How long a token is good, in hours.
pub const GOOD_HOURS: i64 = 3;

/// Tokens that are good at once.
const MOST: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// SHA-256 of the secret, in hexadecimal.
    sha256: String,
    expires: DateTime<Utc>,
    /// Who used it.
    used_by: Option<HostName>,
}

/// The tokens, in `keys/join-tokens.json`.
pub struct Tokens {
    file: PathBuf,
    records: Vec<Record>,
}

/// A token taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// SHA-256 of the authority's certificate.
    pub authority: String,
    /// What the master knows it by.
    pub secret: String,
}

impl Tokens {
    /// Reads the tokens that were made before.
    pub fn open(file: PathBuf) -> Result<Tokens, Problem> {
        let records = match read_if_there(&file)? {
            None => Vec::new(),
            // A token is easily made anew, so a damaged file is no reason not to start.
            Some(content) => serde_json::from_slice(&content).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "join tokens cannot be read and are void");
                Vec::new()
            }),
        };
        Ok(Tokens { file, records })
    }

    /// Makes a token.
    pub fn make(&mut self, authority: &str, now: DateTime<Utc>) -> Result<(String, DateTime<Utc>), Problem> {
        self.records.retain(|record| record.expires > now);
        if self.records.len() >= MOST {
            return Err(Problem::new(Code::RateLimited, format!("{MOST} tokens are good already"))
                .hint("use one of them, or wait until they expire"));
        }
        let secret = secret::random()?;
        let expires = now + TimeDelta::hours(GOOD_HOURS);
        self.records.push(Record { sha256: digest(&secret), expires, used_by: None });
        self.save()?;
        Ok((format!("tbj_{authority}_{secret}"), expires))
    }

    /// Checks a secret without using it up.
    pub fn check(&self, secret: &str, now: DateTime<Utc>) -> Result<(), Problem> {
        self.find(secret, now).map(|_| ())
    }

    /// Uses a secret up.
    pub fn take(&mut self, secret: &str, who: &HostName, now: DateTime<Utc>) -> Result<(), Problem> {
        let index = self.find(secret, now)?;
        self.records[index].used_by = Some(who.clone());
        self.save()
    }

    fn find(&self, secret: &str, now: DateTime<Utc>) -> Result<usize, Problem> {
        let refused =
            |text: String| Err(Problem::new(Code::Unauthorized, text).hint("`testbed cluster token` on the master makes a new one"));
        let digest = digest(secret);
        let found = self.records.iter().position(|record| bool::from(record.sha256.as_bytes().ct_eq(digest.as_bytes())));
        match found.map(|index| (index, &self.records[index])) {
            None => refused("the join token is wrong, or was made by another master".to_string()),
            Some((_, Record { used_by: Some(host), .. })) => refused(format!("the join token was used already, by `{host}`")),
            Some((_, record)) if record.expires <= now => refused(format!("the join token expired at {}", record.expires.format("%FT%TZ"))),
            Some((index, _)) => Ok(index),
        }
    }

    fn save(&self) -> Result<(), Problem> {
        atomic::write(&self.file, &to_json(&self.records)?)
    }
}

fn digest(secret: &str) -> String {
    hexadecimal(&Sha256::digest(secret.as_bytes()))
}

impl Parts {
    /// Takes a token apart.
    pub fn of(token: &str) -> Result<Parts, Problem> {
        let hex = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parts = token.trim().strip_prefix("tbj_").and_then(|rest| rest.split_once('_'));
        match parts.filter(|(authority, secret)| hex(authority) && hex(secret)) {
            Some((authority, secret)) => Ok(Parts { authority: authority.to_ascii_lowercase(), secret: secret.to_string() }),
            None => Err(Problem::new(Code::BadRequest, "this is not a join token")
                .hint("it looks like `tbj_…_…`; copy the whole line that `testbed cluster token` prints on the master")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_for_some_hours() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens.json");
        let mut tokens = Tokens::open(file.clone()).expect("opened");
        let now = Utc::now();
        let (token, expires) = tokens.make(&"a".repeat(64), now).expect("made");
        let parts = Parts::of(&token).expect("a token");
        assert!(!std::fs::read_to_string(&file).expect("written").contains(&parts.secret), "the secret itself is not kept");

        let mut tokens = Tokens::open(file).expect("opened again");
        let host = HostName::new("h1").expect("valid");
        let refused = |tokens: &Tokens, secret: &str, now| tokens.check(secret, now).expect_err("refused").message;
        assert!(refused(&tokens, &"0".repeat(64), now).contains("wrong"));
        assert!(refused(&tokens, &parts.secret, expires).contains("expired"));
        tokens.take(&parts.secret, &host, now).expect("good");
        assert!(refused(&tokens, &parts.secret, now).contains("used already, by `h1`"));
    }

    #[test]
    fn what_is_no_token_is_told() {
        for text in ["", "tbj_", "tbj_a_b", &format!("tbj_{}_{}", "g".repeat(64), "0".repeat(64)), &"x".repeat(10_000)] {
            assert_eq!(Parts::of(text).expect_err("no token").code, Code::BadRequest);
        }
    }
}
