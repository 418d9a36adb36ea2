//! Where the server listens: sockets handed over by systemd, or its own Unix socket and loopback TCP.

use std::{
    fs,
    net::{SocketAddr, TcpListener as StdTcp},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener as StdUnix, UnixStream},
    },
    path::{Path, PathBuf},
};

use kvm_compose::error::{Code, Problem};

use crate::config::Settings;

/// A listening socket, and the file to remove when it closes.
pub enum Listener {
    /// A Unix socket; the file is ours when we made it.
    Unix(StdUnix, Option<PathBuf>),
    /// TCP on a loopback address.
    Tcp(StdTcp, SocketAddr),
}

/// The group whose members have access through the Unix socket.
const GROUP: &str = "testbed";

/// Opens what the settings name, or takes what systemd handed over.
pub fn open(settings: &Settings) -> Result<Vec<Listener>, Problem> {
    let handed = handed_over()?;
    if !handed.is_empty() {
        return Ok(handed);
    }
    let mut listeners = vec![unix(&settings.socket)?];
    if let Some(address) = settings.listen {
        listeners.push(tcp(address, settings.reuse_port)?);
    }
    Ok(listeners)
}

fn handed_over() -> Result<Vec<Listener>, Problem> {
    let failed = |error: std::io::Error| Problem::io("cannot take a socket that was handed over", &error);
    let mut handed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..handed.len() {
        // A socket tells its own kind, so the names that systemd gives (`http`, `unix`) need not be trusted.
        if let Ok(Some(listener)) = handed.take_unix_listener(index) {
            listeners.push(Listener::Unix(listener, None));
        } else if let Some(listener) = handed.take_tcp_listener(index).map_err(failed)? {
            let address = listener.local_addr().map_err(failed)?;
            check_loopback(address)?;
            listeners.push(Listener::Tcp(listener, address));
        }
    }
    Ok(listeners)
}

fn check_loopback(address: SocketAddr) -> Result<(), Problem> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(Problem::new(
        Code::Unsupported,
        format!("cannot listen on {address}: an address that is not loopback needs TLS, which is not there yet"),
    )
    .hint("listen on 127.0.0.1 or [::1], and come from afar through SSH: ssh -L 3355:127.0.0.1:3355 HOST"))
}

fn tcp(address: SocketAddr, reuse_port: bool) -> Result<Listener, Problem> {
    check_loopback(address)?;
    let failed = |error: std::io::Error| {
        Problem::new(Code::Storage, format!("cannot listen on {address}"))
            .cause(error)
            .hint("another program may hold the port; --listen 127.0.0.1:0 takes a free one")
    };
    let domain = if address.is_ipv4() { rustix::net::AddressFamily::INET } else { rustix::net::AddressFamily::INET6 };
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(domain, rustix::net::SocketType::STREAM, flags, None).map_err(|error| failed(error.into()))?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).map_err(|error| failed(error.into()))?;
    rustix::net::sockopt::set_socket_reuseport(&socket, reuse_port).map_err(|error| failed(error.into()))?;
    rustix::net::bind(&socket, &address).map_err(|error| failed(error.into()))?;
    rustix::net::listen(&socket, 1024).map_err(|error| failed(error.into()))?;
    let listener = StdTcp::from(socket);
    let bound = listener.local_addr().map_err(failed)?;
    Ok(Listener::Tcp(listener, bound))
}

fn unix(path: &Path) -> Result<Listener, Problem> {
    let failed = |error: std::io::Error| Problem::io(format_args!("cannot listen on the socket {}", path.display()), &error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    remove_stale(path)?;
    let listener = StdUnix::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    if let Some(group) = group_id(GROUP)
        && let Err(error) = std::os::unix::fs::chown(path, None, Some(group))
    {
        tracing::warn!(socket = %path.display(), group = GROUP, %error, "cannot give the socket to the group");
    }
    Ok(Listener::Unix(listener, Some(path.to_path_buf())))
}

/// Removes a socket file that nobody answers on.
fn remove_stale(path: &Path) -> Result<(), Problem> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(Problem::new(Code::Conflict, format!("{} is there and is not a socket", path.display()))
            .hint("remove it, or name another path with --socket"));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Problem::new(Code::Conflict, format!("another server answers on the socket {}", path.display()))
            .hint("stop it, or give this one a socket of its own with --socket"));
    }
    fs::remove_file(path).map_err(|error| Problem::io(format_args!("cannot remove the stale socket {}", path.display()), &error))
}

/// A group's number, from /etc/group.
fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten())
}
