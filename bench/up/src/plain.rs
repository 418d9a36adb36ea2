//! The plain side: define and start, destroy and undefine, as a program of thirty lines would do it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use anyhow::{Context, Result};
use virt::{connect::Connect, domain::Domain};

/// libvirt's URI.
pub const URI: &str = "qemu:///system";

/// A domain to start, and the files it needs.
pub struct Copies {
    xmls: Vec<String>,
    _files: tempfile::TempDir,
}

/// How many domains have a process, whoever's they are: one call, so that looking costs libvirtd next to nothing.
pub fn active(connection: &Connect) -> Result<usize> {
    Ok(connection.num_of_domains()? as usize)
}

/// True when every one of a deployment's domains says that it runs: asked only once enough have a process.
pub fn all_run(connection: &Connect, deployment: &str, guests: usize) -> Result<bool> {
    let prefix = format!("{deployment}.");
    let mut count = 0;
    for domain in connection.list_all_domains(virt::sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
        if domain.get_name()?.starts_with(&prefix) && domain.get_state()?.0 == virt::sys::VIR_DOMAIN_RUNNING {
            count += 1;
        }
    }
    Ok(count == guests)
}

/// The XML of a deployment's domains under other names, and copies of the files that go away with the deployment.
pub fn copy_domains(deployment: &str) -> Result<Copies> {
    let connection = Connect::open(Some(URI))?;
    let files = tempfile::Builder::new().prefix("bench-up").permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir()?;
    let mut xmls = Vec::new();
    for domain in connection.list_all_domains(0)? {
        let name = domain.get_name()?;
        if !name.starts_with(&format!("{deployment}.")) {
            continue;
        }
        let xml = domain.get_xml_desc(virt::sys::VIR_DOMAIN_XML_INACTIVE)?;
        let mut lines: Vec<String> = Vec::new();
        for line in xml.lines() {
            let trimmed = line.trim();
            if trimmed.starts_with("<uuid>") || trimmed.starts_with("<testbedos:") {
                continue;
            }
            if trimmed.starts_with("<name>") {
                lines.push(format!("<name>plain-{name}</name>"));
            } else if let Some(path) = trimmed.strip_prefix("<source file='").and_then(|rest| rest.split('\'').next()) {
                let copy = files.path().join(format!("{name}-{}", lines.len()));
                std::fs::copy(path, &copy).with_context(|| format!("copying {path}"))?;
                lines.push(line.replace(path, &copy.to_string_lossy()));
            } else if trimmed.starts_with("<log file=") {
                lines.push(format!("<log file='{}' append='on'/>", files.path().join(format!("{name}.log")).display()));
            } else {
                lines.push(line.to_string());
            }
        }
        xmls.push(lines.join("\n"));
    }
    Ok(Copies { xmls, _files: files })
}

/// Starts all, then removes all; returns how long each took in seconds.
pub fn run(copies: &Copies, threads: usize) -> Result<(f64, f64)> {
    let began = Instant::now();
    parallel(&copies.xmls, threads, |connection, xml| {
        Domain::define_xml(connection, xml)?.create()?;
        Ok(())
    })?;
    let started = began.elapsed().as_secs_f64();
    let connection = Connect::open(Some(URI))?;
    let mut names = Vec::new();
    for domain in connection.list_all_domains(0)? {
        let name = domain.get_name()?;
        if name.starts_with("plain-") {
            names.push(name);
        }
    }
    let began = Instant::now();
    parallel(&names, 8, |connection, name| {
        let domain = Domain::lookup_by_name(connection, name)?;
        domain.destroy()?;
        domain.undefine()?;
        Ok(())
    })?;
    Ok((started, began.elapsed().as_secs_f64()))
}

fn parallel(items: &[String], threads: usize, work: impl Fn(&Connect, &str) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(items.len()))
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let connection = Connect::open(Some(URI))?;
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(&connection, item)?;
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}
