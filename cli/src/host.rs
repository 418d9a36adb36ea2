//! Where the server listens, and a connection to it.

use std::{fmt, io, path::PathBuf, time::Duration};

use kvm_compose::error::{Code, Problem};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// The limit for a connection to be made.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP, `host:port`.
    Http(String),
}

/// A connected stream of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Host {
    /// Reads `unix:PATH`, `unix:///PATH` or `http://HOST[:PORT]`.
    pub fn parse(text: &str) -> Result<Host, Problem> {
        let wrong = |why: &str| {
            Problem::new(Code::BadRequest, format!("`{}` is not a server's address: {why}", kvm_compose::names::printable(text)))
                .hint("use `--host unix:/run/testbedos/testbedos.sock` or `--host http://127.0.0.1:3355` (or TESTBED_HOST)")
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong("it names no socket")) } else { Ok(Host::Unix(PathBuf::from(path))) };
        }
        if text.starts_with("https://") {
            return Err(wrong("this version does not speak TLS"));
        }
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(wrong("it starts with neither `unix:` nor `http://`"));
        };
        let authority = rest.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if authority.is_empty() || !authority.chars().all(plain) {
            return Err(wrong("what follows `http://` is not a host with an optional port"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) && !authority.ends_with(']');
        Ok(Host::Http(if has_port { authority.to_string() } else { format!("{authority}:3355") }))
    }

    /// What stands in URLs: the socket's requests need some name too.
    pub fn authority(&self) -> &str {
        match self {
            Host::Unix(_) => "localhost",
            Host::Http(authority) => authority,
        }
    }

    /// A new connection for a websocket.
    pub async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let connecting = async {
            Ok::<Box<dyn Stream>, io::Error>(match self {
                Host::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Host::Http(authority) => Box::new(TcpStream::connect(authority).await?),
            })
        };
        tokio::time::timeout(CONNECT_LIMIT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// What it means that no connection came about: 6 when the socket refuses this user, else 5.
    pub fn unreachable(&self, cause: impl fmt::Display, kind: Option<io::ErrorKind>) -> Problem {
        match self {
            Host::Unix(_) if kind == Some(io::ErrorKind::PermissionDenied) => {
                Problem::new(Code::Forbidden, format!("this user may not use the server at `{self}`"))
                    .cause(cause)
                    .hint("join the group `testbed` (`sudo usermod -aG testbed $USER`) and log in again, or run it as root")
            }
            _ => Problem::new(Code::Unavailable, format!("the server at `{self}` cannot be reached"))
                .cause(cause)
                .hint(how_to_start(std::path::Path::new("/run/systemd/system").is_dir())),
        }
    }
}

/// `systemctl` helps only where systemd is the init system (sd_booted(3)).
fn how_to_start(systemd: bool) -> &'static str {
    if systemd {
        "start it with `systemctl start testbedos-server` (or run `testbedos-server`), or name another with `--host`"
    } else {
        "start it with `testbedos-server master`, what it needs with `./setup.sh services start`; or name another with `--host`"
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(f, "unix:{}", path.display()),
            Host::Http(authority) => write!(f, "http://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemctl_is_named_where_it_works() {
        assert!(how_to_start(true).contains("systemctl") && !how_to_start(false).contains("systemctl"));
    }

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
            ("http://127.0.0.1:3355/", "http://127.0.0.1:3355"),
            ("http://lab", "http://lab:3355"),
            ("http://[::1]", "http://[::1]:3355"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(Host::parse(text).map(|host| host.to_string()), Ok(shown.to_string()), "{text}");
        }
        for text in ["", "unix:", "https://lab", "/run/a.sock", "http://", "http://a/b", "http://user@a", "http://a b", "ssh://a"] {
            assert_eq!(Host::parse(text).map_err(|problem| problem.code), Err(Code::BadRequest), "{text}");
        }
    }
}
