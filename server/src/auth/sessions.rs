//! Who is logged in by a browser, and the one-time links that log in. All of it is in memory: a restart logs everybody out.
//!
//! ```text
//! link ──(once, within 60 s)──┐
//!                             ├──► session ──(12 h after its last use, or logout)──► gone
//! token in the login form ────┘
//! ```
//!
//! Must not know HTTP. Only digests of secrets are kept, so looking one up tells nothing by its timing.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use kvm_compose::error::{Code, Problem};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::secret;

/// A link that nobody opened within this time is void.
pub const LINK_LIFE: Duration = Duration::from_secs(60);

/// A session ends so long after its last use.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Sessions kept at once; the one that ends first gives way to a new one.
const MOST_SESSIONS: usize = 256;

/// Links kept at once.
const MOST_LINKS: usize = 64;

/// Wrong tokens that are taken within [`WINDOW`]; a login beyond is told to wait.
const FAILURES: usize = 10;

/// See [`FAILURES`].
const WINDOW: Duration = Duration::from_secs(60);

type Digest = [u8; 32];

/// Sessions and links.
#[derive(Default)]
pub struct Sessions {
    table: Mutex<Table>,
}

/// Digest of a secret → when it ends.
#[derive(Default)]
struct Table {
    sessions: HashMap<Digest, Instant>,
    links: HashMap<Digest, Instant>,
    failures: VecDeque<Instant>,
}

impl Sessions {
    /// A secret for a link that logs in once.
    pub fn link(&self, now: Instant) -> Result<String, Problem> {
        let secret = secret::random()?;
        insert(&mut self.table.lock().links, digest(&secret), now, now + LINK_LIFE, MOST_LINKS);
        Ok(secret)
    }

    /// Turns a link into a session's secret; nothing when the link is void.
    pub fn redeem(&self, link: &str, now: Instant) -> Result<Option<String>, Problem> {
        let found = self.table.lock().links.remove(&digest(link));
        match found {
            Some(ends) if now < ends => self.open(now).map(Some),
            _ => Ok(None),
        }
    }

    /// A new session's secret.
    pub fn open(&self, now: Instant) -> Result<String, Problem> {
        let secret = secret::random()?;
        insert(&mut self.table.lock().sessions, digest(&secret), now, now + SESSION_LIFE, MOST_SESSIONS);
        Ok(secret)
    }

    /// True for the secret of a session that has not ended; it now ends later.
    pub fn is_open(&self, secret: &str, now: Instant) -> bool {
        let mut table = self.table.lock();
        match table.sessions.get_mut(&digest(secret)) {
            Some(ends) if now < *ends => {
                *ends = now + SESSION_LIFE;
                true
            }
            _ => false,
        }
    }

    /// Ends a session.
    pub fn close(&self, secret: &str) {
        self.table.lock().sessions.remove(&digest(secret));
    }

    /// Refuses a try to log in while too many have failed lately.
    pub fn check_rate(&self, now: Instant) -> Result<(), Problem> {
        let mut table = self.table.lock();
        while table.failures.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            table.failures.pop_front();
        }
        if table.failures.len() < FAILURES {
            return Ok(());
        }
        let limit = WINDOW.as_secs();
        Err(Problem::new(Code::RateLimited, "too many logins failed lately").hint(format!("wait up to {limit} s, then try again")))
    }

    /// Takes note of a login that failed.
    pub fn failed(&self, now: Instant) {
        self.table.lock().failures.push_back(now);
    }
}

fn digest(secret: &str) -> Digest {
    Sha256::digest(secret.as_bytes()).into()
}

/// Puts one in, after those that have ended are out and, when there is no room, the one that would end next.
fn insert(table: &mut HashMap<Digest, Instant>, key: Digest, now: Instant, ends: Instant, most: usize) {
    table.retain(|_, ends| now < *ends);
    if table.len() >= most
        && let Some(next) = table.iter().min_by_key(|(_, ends)| **ends).map(|(key, _)| *key)
    {
        table.remove(&next);
    }
    table.insert(key, ends);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_logs_in_once_and_not_for_long() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let link = sessions.link(now).expect("a link");
        let session = sessions.redeem(&link, now).expect("random bits").expect("a session");
        assert!(sessions.is_open(&session, now) && session != link && session.len() == 64);
        assert_eq!(sessions.redeem(&link, now).expect("random bits"), None, "a second time");
        let late = sessions.link(now).expect("a link");
        assert_eq!(sessions.redeem(&late, now + LINK_LIFE).expect("random bits"), None);
        assert!(!sessions.is_open(&late, now) && !sessions.is_open("", now));
    }

    #[test]
    fn a_session_lives_while_it_is_used_and_ends_at_logout() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let session = sessions.open(now).expect("a session");
        let nearly = SESSION_LIFE - Duration::from_secs(1);
        assert!(sessions.is_open(&session, now + nearly) && sessions.is_open(&session, now + nearly + nearly));
        assert!(!sessions.is_open(&session, now + nearly + nearly + SESSION_LIFE));
        let session = sessions.open(now).expect("a session");
        sessions.close(&session);
        assert!(!sessions.is_open(&session, now));
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_gives_way() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let first = sessions.open(now).expect("a session");
        let last = (1..=MOST_SESSIONS as u32).map(|n| sessions.open(now + Duration::from_millis(n.into())).expect("a session")).last();
        assert!(!sessions.is_open(&first, now) && sessions.is_open(&last.expect("one"), now));
    }

    #[test]
    fn many_failures_are_slowed_down_and_forgotten_again() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        for _ in 0..FAILURES {
            assert!(sessions.check_rate(now).is_ok());
            sessions.failed(now);
        }
        assert_eq!(sessions.check_rate(now).map_err(|problem| problem.code), Err(Code::RateLimited));
        // A link is no guess: an image in a foreign page may ask for one, and must not lock anybody out.
        let link = sessions.link(now).expect("a link");
        assert!(sessions.redeem(&link, now).expect("a session").is_some());
        assert!(sessions.check_rate(now + WINDOW).is_ok());
    }
}
