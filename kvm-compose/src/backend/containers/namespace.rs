//! A container's network namespace, entered from outside (setns(2)): what is run there is this host's, not the image's.
//!
//! A thread enters, works and ends; no other thread sees anything of it. Must not know Docker.

use std::{fs::File, net::IpAddr, os::fd::AsFd as _, time::Duration};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::container::Interface,
    process::Call,
};

/// How long ip(8) and ethtool(8) may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The metric of the first interface's default route; each further one's is larger, so that the first is used.
const METRIC: u32 = 100;

/// Does something in the network namespace of a process.
pub fn inside<T: Send>(pid: i32, work: impl FnOnce() -> Result<T, Problem> + Send) -> Result<T, Problem> {
    let entering = |error: &std::io::Error| {
        Problem::new(Code::Docker, format!("the network namespace of process {pid} cannot be entered"))
            .cause(error)
            .hint("the container may have ended; if it runs, the server lacks the right (CAP_SYS_ADMIN)")
    };
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(|error| entering(&error))?;
    let entered = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|error| entering(&error.into()))?;
        work()
    };
    let joined = std::thread::scope(|scope| scope.spawn(entered).join());
    joined.unwrap_or_else(|_| Err(Problem::internal("work in a container's network namespace panicked")))
}

/// Sets up an interface that is there, in its container.
pub fn set_up(name: &str, interface: &Interface, cancel: &Cancel) -> Result<(), Problem> {
    let six = interface.advertised || interface.addresses.iter().any(|address| address.addr().is_ipv6());
    let flag = |on: bool| if on { "1" } else { "0" };
    for (setting, value) in [
        // OVN expects the address that is in the plan, and lets no other pass.
        ("autoconf", "0"),
        ("accept_ra", flag(interface.advertised)),
        ("disable_ipv6", flag(!six)),
    ] {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{setting}");
        match std::fs::write(&path, value) {
            Err(error) if six => return Err(Problem::new(Code::Docker, format!("`{path}` cannot be written")).cause(error)),
            _ => {}
        }
    }
    // What a process sends has no checksum until a network card makes it; between userspace datapaths nobody does, and who
    // looks at checksums throws it away.
    let ethtool = Call::new(["ethtool", "-K", name, "tx", "off"], LIMIT);
    run(&ethtool, name, cancel).map_err(|problem| problem.hint("install the package `ethtool`; `./setup.sh` does"))?;
    ip(&["link", "set", "dev", name, "up"], name, cancel)?;
    for address in &interface.addresses {
        let address = address.to_string();
        let mut words = vec!["addr", "replace", &address, "dev", name];
        // Nobody else can have it: OVN would not let it pass.
        words.extend(address.contains(':').then_some("nodad"));
        ip(&words, name, cancel)?;
    }
    for beside in &interface.beside {
        ip(&["route", "replace", &beside.to_string(), "dev", name, "scope", "link"], name, cancel)?;
    }
    let number = name.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(0);
    let metric = METRIC.saturating_add(number).to_string();
    for gateway in &interface.gateways {
        let version = if matches!(gateway, IpAddr::V6(_)) { "-6" } else { "-4" };
        ip(&[version, "route", "replace", "default", "via", &gateway.to_string(), "dev", name, "metric", &metric], name, cancel)?;
    }
    Ok(())
}

/// Runs ip(8) where this thread is.
pub fn ip(arguments: &[&str], device: &str, cancel: &Cancel) -> Result<(), Problem> {
    run(&Call::new([&["ip"], arguments].concat(), LIMIT), device, cancel)
}

fn run(call: &Call, device: &str, cancel: &Cancel) -> Result<(), Problem> {
    let finished = call.run(cancel)?;
    if finished.status.success() {
        return Ok(());
    }
    Err(Problem::new(Code::Docker, format!("the network device `{device}` of a container cannot be set up")).cause(format!(
        "`{}`: {}",
        finished.argv.join(" "),
        String::from_utf8_lossy(&finished.stderr).trim()
    )))
}
