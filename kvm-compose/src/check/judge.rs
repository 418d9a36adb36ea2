//! What a guest's answer means: is it as asked, and what was seen.
//!
//! Pure. Everything a guest printed is hostile: it is cut short, and its control characters are taken out.

use std::net::IpAddr;

use super::ask::MISSING;
use crate::{
    api::check::CheckOutcome,
    names::printable,
    topology::checks::{Check, Expect, Probe},
};

/// What a guest answered.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// The command ended.
    Ended {
        /// Its status.
        status: i32,
        /// What it wrote to its standard output.
        stdout: &'a [u8],
        /// What it wrote to its standard error.
        stderr: &'a [u8],
    },
    /// The command did not end in time.
    Late,
}

/// Whether it is as the check asks, beside what was seen.
type Found = (bool, String);

/// What came of a check, and what was seen.
pub fn verdict(check: &Check, answer: Answer<'_>) -> (CheckOutcome, String) {
    let found = match answer {
        Answer::Ended { status: MISSING, stdout, .. } if !matches!(check.probe, Probe::Exec { .. }) => Err(missing(check, stdout)),
        Answer::Ended { status, stdout, stderr } => judge(check, status, stdout, stderr),
        Answer::Late => Ok((false, format!("no answer within {} s", check.timeout_s))),
    };
    match found {
        Ok((so, seen)) => (if so == (check.expect == Expect::Pass) { CheckOutcome::Passed } else { CheckOutcome::Failed }, seen),
        Err(why) => (CheckOutcome::Error, why),
    }
}

fn missing(check: &Check, stdout: &[u8]) -> String {
    let names = last_line(stdout).unwrap_or_default();
    let (guest, needs) = (&check.guest, if names.contains(", ") { "has none of" } else { "has no" });
    format!("guest `{guest}` {needs} {names}")
}

fn judge(check: &Check, status: i32, stdout: &[u8], stderr: &[u8]) -> Result<Found, String> {
    match &check.probe {
        Probe::Ping { count, .. } => ping(*count, status, stdout),
        Probe::Tcp { .. } => Ok(tcp(check, status, stdout)),
        Probe::Http { status: wanted, contains, .. } => Ok(http(check, *wanted, contains.as_deref(), stdout)),
        Probe::Dns { address, .. } => Ok(dns(*address, stdout)),
        Probe::Exec { status: wanted, stdout_contains, .. } => Ok(exec(*wanted, stdout_contains.as_deref(), (status, stdout, stderr))),
    }
}

/// busybox says `3 packets received` and `min/avg/max`, iputils `3 received` and `min/avg/max/mdev`.
fn ping(count: u32, status: i32, stdout: &[u8]) -> Result<Found, String> {
    let text = String::from_utf8_lossy(stdout);
    let summary = text.lines().find(|line| line.contains("transmitted") && line.contains("received"));
    let Some(summary) = summary else {
        let said = last_line(stdout).unwrap_or_else(|| format!("ping ended with status {status}"));
        // A name that cannot be looked up and a network without a route are answers; all else is ping's own trouble.
        let answers = ["bad address", "not known", "unreachable", "resolution", "failure in name", "No route", "resolve"];
        return if answers.iter().any(|words| said.contains(words)) { Ok((false, said)) } else { Err(said) };
    };
    let number = |part: &str| part.split_whitespace().find_map(|word| word.parse::<u32>().ok());
    let received = summary.split(',').find(|part| part.contains("received")).and_then(number).unwrap_or(0);
    let sent = summary.split(',').find(|part| part.contains("transmitted")).and_then(number).unwrap_or(count);
    let times = text.lines().find_map(|line| line.split_once("min/avg/max")).and_then(|(_, rest)| rest.split_once(" = "));
    let average = times.and_then(|(_, times)| times.split('/').nth(1)).filter(|average| average.parse::<f64>().is_ok());
    let average = average.map(|average| format!(", {average} ms")).unwrap_or_default();
    let s = if sent == 1 { "" } else { "s" };
    match received {
        0 => Ok((false, format!("no answer to {sent} request{s}"))),
        _ => Ok((
            true,
            format!("{received} answers to {sent} request{s}{average}").replacen("1 answers", "1 answer", usize::from(received == 1)),
        )),
    }
}

fn tcp(check: &Check, status: i32, stdout: &[u8]) -> Found {
    if status == 0 {
        return (true, "connected".to_string());
    }
    (false, refusal(check, stdout))
}

/// Why no connection came about, in few words where the program's own are known.
fn refusal(check: &Check, stdout: &[u8]) -> String {
    let text = String::from_utf8_lossy(stdout).to_lowercase();
    let known = [
        ("refused", "connection refused"),
        ("timed out", "timed out"),
        ("timeout", "timed out"),
        ("no route", "no route to host"),
        ("unreachable", "network is unreachable"),
        ("bad address", "the name cannot be looked up"),
        ("not known", "the name cannot be looked up"),
        ("resolution", "the name cannot be looked up"),
        ("resolve", "the name cannot be looked up"),
    ];
    match known.iter().find(|(words, _)| text.contains(words)) {
        Some((_, "timed out")) => format!("no answer within {} s", check.timeout_s),
        Some((_, words)) => (*words).to_string(),
        None => last_line(stdout).unwrap_or_else(|| format!("no answer within {} s", check.timeout_s)),
    }
}

fn http(check: &Check, wanted: Option<u16>, contains: Option<&str>, stdout: &[u8]) -> Found {
    // An interim answer (100) may stand before the final one.
    let mut rest = stdout;
    loop {
        let Some((status, after)) = head(rest) else { return (false, refusal(check, stdout)) };
        if (100..200).contains(&status) && status != 101 && after.starts_with(b"HTTP/") {
            rest = after;
            continue;
        }
        let good = wanted.map_or((200..300).contains(&status), |wanted| wanted == status);
        let seen = format!("status {status}, {} bytes", after.len());
        return match contains {
            Some(text) if good && !holds(after, text) => (false, format!("{seen}, without `{}`", printable(text))),
            Some(text) if good => (true, format!("{seen}, with `{}`", printable(text))),
            _ => (good, seen),
        };
    }
}

/// The status of an answer, and what follows its head.
fn head(answer: &[u8]) -> Option<(u16, &[u8])> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim();
    let status = line.strip_prefix("HTTP/")?.split_whitespace().nth(1)?.parse().ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let end = end.or_else(|| answer.windows(2).position(|window| window == b"\n\n").map(|at| at + 2));
    Some((status, &answer[end.unwrap_or(answer.len())..]))
}

fn holds(bytes: &[u8], text: &str) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn dns(wanted: Option<IpAddr>, stdout: &[u8]) -> Found {
    let text = String::from_utf8_lossy(stdout);
    let mut lines = text.lines();
    let mut addresses: Vec<IpAddr> = match lines.next() {
        Some("nslookup") => {
            // First the server's own address, then an empty line, then the answer.
            let answer = lines.skip_while(|line| !line.trim().is_empty()).filter(|line| line.starts_with("Address"));
            answer.filter_map(|line| line.split_once(':')?.1.split_whitespace().next()?.parse().ok()).collect()
        }
        _ => lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect(),
    };
    // Names of guests without IPv6 have their IPv4 address mapped there: the same address.
    addresses.iter_mut().for_each(|address| *address = address.to_canonical());
    addresses.sort();
    addresses.dedup();
    let list: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let late = text.contains("timed out") || text.contains("no servers could be reached");
    match wanted {
        _ if addresses.is_empty() && late => (false, "no name server answers".to_string()),
        _ if addresses.is_empty() => (false, "no address".to_string()),
        Some(wanted) => (addresses.contains(&wanted), list.join(", ")),
        None => (true, list.join(", ")),
    }
}

fn exec(wanted: i32, contains: Option<&str>, (status, stdout, stderr): (i32, &[u8], &[u8])) -> Found {
    let says = || last_line(stderr).or_else(|| last_line(stdout)).map(|line| format!(": {line}")).unwrap_or_default();
    if status != wanted {
        return (false, format!("status {status}{}", says()));
    }
    match contains {
        Some(text) if !holds(stdout, text) => (false, format!("status {status}, without `{}`{}", printable(text), says())),
        Some(text) => (true, format!("status {status}, with `{}`", printable(text))),
        None => (true, format!("status {status}")),
    }
}

/// The last line that says something, safe to show.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Place,
        names::GuestName,
        topology::checks::{Target, Url},
    };

    fn check(probe: Probe, expect: Expect) -> Check {
        let at = Place { file: "x".to_string(), line: 1, column: 1 };
        Check { name: "n".to_string(), guest: GuestName::new("a").expect("valid"), probe, expect, timeout_s: 10, at }
    }

    fn target() -> Target {
        Target { wrote: "b".to_string(), address: "10.0.0.6".to_string() }
    }

    fn said(status: i32, stdout: &str) -> Answer<'_> {
        Answer::Ended { status, stdout: stdout.as_bytes(), stderr: b"" }
    }

    const BUSYBOX: &str = "PING 10.0.0.6 (10.0.0.6): 56 data bytes\n64 bytes from 10.0.0.6: seq=0 ttl=64 time=1.1 ms\n\n--- 10.0.0.6 ping statistics ---\n3 packets transmitted, 2 packets received, 33% packet loss\nround-trip min/avg/max = 1.098/1.129/1.158 ms\n";
    const IPUTILS: &str = "PING 10.0.0.6 (10.0.0.6) 56(84) bytes of data.\n\n--- 10.0.0.6 ping statistics ---\n3 packets transmitted, 1 received, 66% packet loss, time 2002ms\nrtt min/avg/max/mdev = 0.045/0.046/0.047/0.001 ms\n";
    const SILENCE: &str = "PING 10.0.0.6 (10.0.0.6): 56 data bytes\n\n--- 10.0.0.6 ping statistics ---\n3 packets transmitted, 0 packets received, 100% packet loss\n";

    #[test]
    fn pings_of_two_families_are_read() {
        let ping = |expect| check(Probe::Ping { to: target(), count: 3 }, expect);
        use CheckOutcome::{Error, Failed, Passed};
        for (expect, answer, outcome, seen) in [
            (Expect::Pass, said(0, BUSYBOX), Passed, "2 answers to 3 requests, 1.129 ms"),
            (Expect::Pass, said(0, IPUTILS), Passed, "1 answer to 3 requests, 0.046 ms"),
            (Expect::Fail, said(0, IPUTILS), Failed, "1 answer to 3 requests, 0.046 ms"),
            (Expect::Pass, said(1, SILENCE), Failed, "no answer to 3 requests"),
            (Expect::Fail, said(1, SILENCE), Passed, "no answer to 3 requests"),
            (Expect::Fail, said(1, "ping: sendto: Network is unreachable\n"), Passed, "ping: sendto: Network is unreachable"),
            (Expect::Fail, said(1, "ping: bad address 'x.y'\n"), Passed, "ping: bad address 'x.y'"),
            (
                Expect::Fail,
                said(2, "ping: can't create raw socket: Operation not permitted\n"),
                Error,
                "ping: can't create raw socket: Operation not permitted",
            ),
            (Expect::Fail, said(90, "ping\n"), Error, "guest `a` has no ping"),
            (Expect::Pass, Answer::Late, Failed, "no answer within 10 s"),
        ] {
            assert_eq!(verdict(&ping(expect), answer), (outcome, seen.to_string()));
        }
    }

    #[test]
    fn connections_tell_refusal_from_silence() {
        let tcp = |expect| check(Probe::Tcp { to: target(), port: 80 }, expect);
        for (answer, seen) in [
            (said(1, "nc: can't connect to remote host (10.0.0.6): Connection refused\n"), "connection refused"),
            (said(1, "nc: timed out\n"), "no answer within 10 s"),
            (said(1, ""), "no answer within 10 s"),
            (said(1, "sh: connect: No route to host\n"), "no route to host"),
            (said(1, "nc: \x1b[2Jodd\n"), "nc: [2Jodd"),
        ] {
            assert_eq!(verdict(&tcp(Expect::Pass), answer), (CheckOutcome::Failed, seen.to_string()));
            assert_eq!(verdict(&tcp(Expect::Fail), answer), (CheckOutcome::Passed, seen.to_string()));
        }
        assert_eq!(verdict(&tcp(Expect::Pass), said(0, "")), (CheckOutcome::Passed, "connected".to_string()));
        let none = said(90, "nc, bash, python3\n");
        assert_eq!(verdict(&tcp(Expect::Fail), none), (CheckOutcome::Error, "guest `a` has none of nc, bash, python3".to_string()));
    }

    #[test]
    fn web_answers_are_judged_by_status_and_text() {
        let url = Url { wrote: "http://b/".into(), secure: false, authority: "b".into(), port: 80, path: "/".into() };
        let http = |status, contains: Option<&str>| {
            check(Probe::Http { url: url.clone(), to: target(), status, contains: contains.map(str::to_string) }, Expect::Pass)
        };
        let page = said(0, "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello");
        let gone = said(0, "HTTP/1.1 404 Not Found\r\n\r\nhello");
        let interim = said(0, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
        use CheckOutcome::{Failed, Passed};
        for (status, contains, answer, outcome, seen) in [
            (None, None, page, Passed, "status 200, 5 bytes"),
            (Some(200), Some("ell"), page, Passed, "status 200, 5 bytes, with `ell`"),
            (Some(200), Some("X: y"), page, Failed, "status 200, 5 bytes, without `X: y`"),
            (Some(204), None, page, Failed, "status 200, 5 bytes"),
            (None, Some("hello"), gone, Failed, "status 404, 5 bytes"),
            (Some(404), Some("hello"), gone, Passed, "status 404, 5 bytes, with `hello`"),
            (None, None, interim, Passed, "status 204, 0 bytes"),
            (None, None, said(1, "nc: can't connect to remote host (10.0.0.6): Connection refused\n"), Failed, "connection refused"),
            (None, None, said(143, ""), Failed, "no answer within 10 s"),
        ] {
            assert_eq!(verdict(&http(status, contains), answer), (outcome, seen.to_string()));
        }
    }

    #[test]
    fn names_are_read_from_what_two_programs_print() {
        let dns = |address: Option<&str>| {
            let address = address.map(|address| address.parse().expect("valid"));
            check(Probe::Dns { name: "b".into(), address }, Expect::Pass)
        };
        let getent = said(0, "getent\n10.0.0.6 STREAM b\n10.0.0.6 DGRAM\nfd00::6 STREAM\n");
        let nslookup = said(
            0,
            "nslookup\nServer:\t\t10.0.0.1\nAddress:\t10.0.0.1:53\n\nName:\tb\nAddress: 10.0.0.6\n\nName:\tb\nAddress: ::ffff:10.0.0.6\n",
        );
        let none = said(1, "nslookup\nServer:\t\t10.0.0.1\nAddress:\t10.0.0.1:53\n\n** server can't find b: NXDOMAIN\n");
        let silent = said(1, "nslookup\n;; connection timed out; no servers could be reached\n");
        use CheckOutcome::{Failed, Passed};
        for (address, answer, outcome, seen) in [
            (None, getent, Passed, "10.0.0.6, fd00::6"),
            (Some("fd00::6"), getent, Passed, "10.0.0.6, fd00::6"),
            (Some("10.0.0.6"), nslookup, Passed, "10.0.0.6"),
            (Some("10.0.0.7"), nslookup, Failed, "10.0.0.6"),
            (Some("10.0.0.1"), nslookup, Failed, "10.0.0.6"),
            (None, none, Failed, "no address"),
            (None, silent, Failed, "no name server answers"),
        ] {
            assert_eq!(verdict(&dns(address), answer), (outcome, seen.to_string()));
        }
    }

    #[test]
    fn commands_are_judged_by_status_and_text() {
        let exec = |status, text: Option<&str>| {
            check(Probe::Exec { command: vec!["x".into()], status, stdout_contains: text.map(str::to_string) }, Expect::Pass)
        };
        assert_eq!(verdict(&exec(0, Some("ne\ntw")), said(0, "one\ntwo")), (CheckOutcome::Passed, "status 0, with `ne\\ntw`".to_string()));
        assert_eq!(
            verdict(&exec(0, Some("three")), said(0, "one\ntwo")),
            (CheckOutcome::Failed, "status 0, without `three`: two".to_string())
        );
        let broken = Answer::Ended { status: 90, stdout: b"", stderr: b"it broke\n" };
        assert_eq!(verdict(&exec(0, None), broken), (CheckOutcome::Failed, "status 90: it broke".to_string()));
        assert_eq!(verdict(&exec(90, None), broken), (CheckOutcome::Passed, "status 90".to_string()));
    }
}
