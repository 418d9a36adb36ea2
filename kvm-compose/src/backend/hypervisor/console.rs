//! A guest's serial console through libvirt's stream (virDomainOpenConsole).
//!
//! A connection of its own, since a read blocks for as long as the guest says nothing. Must not know who reads.

use uuid::Uuid;
use virt::{connect::Connect, domain::Domain as Handle, stream::Stream, sys};

use super::{
    connections::{Fault, open},
    libvirt::owned,
    words::{is_absent, problem},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
};

/// An open console. Reading, writing and closing may be done by three threads at once.
pub struct LibvirtConsole {
    // Dropped in this order: the stream belongs to the connection.
    stream: Stream,
    connect: Connect,
    name: String,
}

impl LibvirtConsole {
    /// Opens the console of a domain that carries the owner's mark. Whoever had it open before (`virsh console`) loses it:
    /// a forgotten terminal must not lock everybody out.
    pub fn open(uri: &str, name: &str, uuid: Uuid, owner: &Owner) -> Result<Self, Problem> {
        let failed = |fault: Fault| problem(format!("cannot open the console of domain `{name}`"), fault);
        let connect = open(uri)?;
        let opened = (|| -> Result<Stream, Fault> {
            let handle = Handle::lookup_by_uuid(&connect, uuid)?;
            owned(&handle, name, owner)?;
            if !handle.is_active()? {
                return Err(off(name).into());
            }
            let stream = Stream::new(&connect, 0)?;
            handle.open_console(None, &stream, sys::VIR_DOMAIN_CONSOLE_FORCE)?;
            Ok(stream)
        })();
        match opened {
            Ok(stream) => Ok(LibvirtConsole { stream, connect, name: name.to_string() }),
            Err(Fault::Libvirt(error)) if is_absent(&error) => Err(off(name)),
            Err(fault) => Err(failed(fault)),
        }
    }

    /// Waits for what the guest says next; 0 when the console is closed, from whichever end.
    pub fn read(&self, buffer: &mut [u8]) -> usize {
        match self.stream.recv(buffer) {
            Ok(count) => count,
            Err(error) => {
                tracing::debug!(domain = self.name, %error, "a console ended");
                0
            }
        }
    }

    /// Says something to the guest; returns when libvirt has taken all of it.
    pub fn write(&self, mut bytes: &[u8]) -> Result<(), Problem> {
        while !bytes.is_empty() {
            let sent = self.stream.send(bytes).map_err(|error| {
                Problem::new(Code::Libvirt, format!("the console of domain `{}` takes nothing any more", self.name)).cause(error.message())
            })?;
            bytes = &bytes[sent.min(bytes.len())..];
        }
        Ok(())
    }

    /// Closes the console; a read that waits returns.
    pub fn close(&self) {
        if let Err(error) = self.stream.clone().abort() {
            tracing::debug!(domain = self.name, %error, "a console was closed already");
        }
    }
}

impl Drop for LibvirtConsole {
    fn drop(&mut self) {
        if let Err(error) = self.connect.close() {
            tracing::debug!(%error, "closing a libvirt connection failed");
        }
    }
}

fn off(name: &str) -> Problem {
    Problem::new(Code::NotFound, format!("domain `{name}` does not run, so it has no console")).hint("start it with `testbed up`")
}
