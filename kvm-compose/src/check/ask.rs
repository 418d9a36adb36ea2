//! The command that asks a guest: a script for its shell that takes the first program it has that can ask.
//!
//! Pure. A guest may be busybox alone (`wget -T` crashes there, and `nc` has no `-z`) or a whole distribution with or
//! without curl, netcat, bash. A guest that has none of the programs says so by its status, [`MISSING`].

use crate::topology::checks::{Check, Probe};

/// The status of a guest that has no program to ask with; it prints their names.
pub const MISSING: i32 = 90;

/// `-A` sends the next request at the answer, else after a second.
const PING: &str = r#"command -v ping >/dev/null 2>&1 || { echo ping; exit 90; }
exec ping -A -c "$1" -W "$2" -w "$2" "$3" 2>&1"#;

/// busybox's nc runs a program once it is connected; others have `-z`.
const TCP: &str = r#"has() { command -v "$1" >/dev/null 2>&1; }
if has nc; then
case $(nc --help 2>&1) in
*[Bb]usy[Bb]ox*) exec nc -w "$1" "$2" "$3" -e true </dev/null 2>&1 ;;
*) exec nc -z -w "$1" "$2" "$3" </dev/null 2>&1 ;;
esac
elif has bash && has timeout; then
exec timeout "$1" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3" 2>&1
elif has python3; then
exec python3 -c 'import socket,sys
try: socket.create_connection((sys.argv[2],int(sys.argv[3])),float(sys.argv[1]))
except OSError as e: print(e); sys.exit(1)' "$1" "$2" "$3" 2>&1
fi
echo "nc, bash, python3"; exit 90"#;

/// Prints the answer, head and all; programs' own words only when there is none. The request of nc and bash is HTTP/1.0, so that
/// the answer ends with the connection.
const HTTP: &str = r#"has() { command -v "$1" >/dev/null 2>&1; }
if has curl; then exec curl -sSi -0 -g --noproxy '*' -m "$1" --connect-to "::$7$2$8:$3" "$6" 2>&1; fi
if [ "$9" = http ]; then
request() { printf 'GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: testbed\r\nAccept: */*\r\nConnection: close\r\n\r\n' "$1" "$2"; }
if has nc && has timeout; then request "$4" "$5" | exec timeout "$1" nc -w "$1" "$2" "$3" 2>&1; exit; fi
if has bash && has timeout; then
exec timeout "$1" bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: testbed\r\nAccept: */*\r\nConnection: close\r\n\r\n" "$2" "$3" >&3 && cat <&3' "$2" "$3" "$4" "$5" 2>&1
fi
echo "curl, nc, bash"; exit 90
fi
echo curl; exit 90"#;

/// Through the resolver of the guest's programs where it can be asked, else through its name servers.
const DNS: &str = r#"has() { command -v "$1" >/dev/null 2>&1; }
limit() { if has timeout; then timeout "$@"; else shift; "$@"; fi; }
if has getent; then echo getent; limit "$1" getent ahosts "$2" 2>&1; exit; fi
if has nslookup; then echo nslookup; limit "$1" nslookup "$2" 2>&1; exit; fi
if has python3; then echo getent; limit "$1" python3 -c 'import socket,sys
for i in socket.getaddrinfo(sys.argv[1],None): print(i[4][0])' "$2" 2>/dev/null; exit; fi
echo "getent, nslookup, python3"; exit 90"#;

/// The program and its arguments.
pub fn command(check: &Check) -> Vec<String> {
    let limit = check.timeout_s.to_string();
    let shell = |script: &str, words: &[&str]| -> Vec<String> {
        ["sh", "-c", script, "sh"].iter().chain(words).map(|word| (*word).to_string()).collect()
    };
    match &check.probe {
        Probe::Ping { to, count } => shell(PING, &[&count.to_string(), &limit, &to.address]),
        Probe::Tcp { to, port } => shell(TCP, &[&limit, &to.address, &port.to_string()]),
        Probe::Http { url, to, .. } => {
            let (open, close) = if to.address.contains(':') { ("[", "]") } else { ("", "") };
            let scheme = if url.secure { "https" } else { "http" };
            let port = url.port.to_string();
            shell(HTTP, &[&limit, &to.address, &port, &url.path, &url.authority, &url.wrote, open, close, scheme])
        }
        Probe::Dns { name, .. } => shell(DNS, &[&limit, name]),
        Probe::Exec { command, .. } => command.clone(),
    }
}

/// How long the command is given, in seconds: a moment more than what it keeps to itself, except where it is the user's own.
pub fn limit_s(check: &Check) -> u64 {
    match check.probe {
        Probe::Exec { .. } => check.timeout_s,
        _ => check.timeout_s + 2,
    }
}
