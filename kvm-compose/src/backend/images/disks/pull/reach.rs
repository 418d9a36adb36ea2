//! Where a download may lead: mirrors, redirects, and what of an address is shown.

use std::net::IpAddr;

use reqwest::{
    Url,
    redirect::{Action, Attempt},
};

use super::super::Settings;
use crate::error::{Code, Problem};

/// More redirects are a circle.
const MOST_REDIRECTS: usize = 5;

/// Whether `https` may lead to `http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// What comes is held against a sum.
    Allowed,
    /// What comes is believed.
    Refused,
}

/// Follows a redirect, or says why not.
pub fn redirect(attempt: Attempt<'_>, downgrade: Downgrade) -> Action {
    let refused = {
        let (to, before) = (attempt.url(), attempt.previous());
        let was_secure = before.iter().any(|url| url.scheme() == "https");
        if before.len() > MOST_REDIRECTS {
            Some(format!("it redirects more than {MOST_REDIRECTS} times"))
        } else if to.scheme() != "https" && to.scheme() != "http" {
            Some(format!("it redirects to {}, which is no web address", shown(to)))
        } else if downgrade == Downgrade::Refused && was_secure && to.scheme() != "https" {
            Some(format!("it redirects from https to {}", shown(to)))
        } else if is_inside(to) && !before.first().is_some_and(is_inside) {
            Some(format!("it redirects into this network, to {}", shown(to)))
        } else {
            None
        }
    };
    match refused {
        Some(why) => attempt.error(why),
        None => attempt.follow(),
    }
}

/// True for addresses that a publisher on the Internet has no business with.
fn is_inside(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return true };
    match host.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private() || address.is_link_local() || address.is_unspecified(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local() || address.is_unspecified()
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Where to ask instead: the longest prefix that a mirror is set for.
pub fn mirrored(url: &str, settings: &Settings) -> Result<Url, Problem> {
    let longest = settings.mirrors.iter().filter(|(prefix, _)| url.starts_with(prefix.as_str())).max_by_key(|(prefix, _)| prefix.len());
    let mirrored = longest.map(|(prefix, mirror)| format!("{mirror}{}", url.get(prefix.len()..).unwrap_or_default()));
    let text = mirrored.as_deref().unwrap_or(url);
    let parsed = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    parsed.ok_or_else(|| Problem::new(Code::BadRequest, format!("`{}` is no web address", crate::names::printable(text))))
}

/// A URL for people: without the password that may be in it.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return "an address without a host".to_string();
    }
    crate::names::printable(url.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mirror_counts_and_only_web_addresses_are_asked() {
        let mirror = |from: &str, to: &str| (from.to_string(), to.to_string());
        let mirrors = [mirror("https://a/", "http://m/a/"), mirror("https://a/b/", "http://m/b/")].into();
        let settings = Settings { mirrors, ..Settings::default() };
        for (from, to) in [("https://a/x", "http://m/a/x"), ("https://a/b/x", "http://m/b/x"), ("https://c/x", "https://c/x")] {
            assert_eq!(mirrored(from, &settings).map(|url| url.to_string()), Ok(to.to_string()));
        }
        assert!(mirrored("file:///etc/passwd", &settings).is_err() && mirrored("x", &settings).is_err());
    }

    #[test]
    fn addresses_of_the_own_network_are_known() {
        let inside = |text: &str| is_inside(&Url::parse(text).expect("a URL"));
        for text in [
            "http://127.0.0.1/",
            "http://10.1.2.3/",
            "http://169.254.169.254/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost:80/",
        ] {
            assert!(inside(text), "{text}");
        }
        assert!(!inside("https://cloud.debian.org/") && !inside("http://192.0.2.1/"));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown(&Url::parse("http://me:secret@host/x").expect("a URL")), "http://host/x");
    }
}
