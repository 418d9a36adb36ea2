//! NICs of a domain, plugged and unplugged while it runs and in its definition, and the note of the network it took up.
//!
//! Looks at what is there first, so all of it may be repeated, also after a death between the running guest and its definition.
//! Must not know OVN.

use std::time::{Duration, Instant};

use uuid::Uuid;
use virt::{connect::Connect, domain::Domain as Handle, sys};

use super::{
    DomainState, Libvirt,
    connections::Fault,
    libvirt::{find, owned, state},
    mark,
    words::{gone, problem},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    orchestrate::host::Cancel,
    plan::{
        blueprint::{METADATA_NAMESPACE, NicDevice},
        observed::ObservedNic,
    },
};

/// How long a guest may take to let go of a NIC: its kernel answers the wish (ACPI), a booting one only later.
const RELEASE_LIMIT: Duration = Duration::from_secs(30);
/// After this time the wish is told to the guest again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The NICs that a domain is defined with (`defined` is that XML) and those that it runs with.
pub fn nics(handle: &Handle, defined: &str, state: DomainState) -> Result<Vec<ObservedNic>, Fault> {
    let mut nics: Vec<ObservedNic> = mark::interfaces(defined).into_iter().map(|nic| observed(nic, false, true)).collect();
    if !state.is_active() {
        return Ok(nics);
    }
    for nic in mark::interfaces(&handle.get_xml_desc(0)?) {
        match nics.iter_mut().find(|known| known.alias == nic.alias && known.mac == nic.mac && known.port == nic.port) {
            Some(known) => known.live = true,
            None => nics.push(observed(nic, true, false)),
        }
    }
    Ok(nics)
}

fn observed(nic: mark::Interface, live: bool, defined: bool) -> ObservedNic {
    let mark::Interface { alias, mac, port, xml } = nic;
    ObservedNic { alias, mac, port, live, defined, xml }
}

/// A domain, whether it runs, and the NIC in question.
struct Found {
    handle: Handle,
    active: bool,
    nic: Option<ObservedNic>,
}

fn look(connect: &Connect, name: &str, uuid: Uuid, nic: &NicDevice, owner: &Owner) -> Result<Option<Found>, Fault> {
    let Some(handle) = find(connect, uuid)? else { return Ok(None) };
    owned(&handle, name, owner)?;
    let state = state(&handle)?;
    let all = nics(&handle, &handle.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?, state)?;
    let nic = all.into_iter().find(|there| there.alias == nic.alias);
    Ok(Some(Found { handle, active: state.is_active(), nic }))
}

impl Libvirt {
    /// Plugs a NIC into the running guest and into its definition, where it is missing.
    pub fn attach(&self, name: &str, uuid: Uuid, nic: &NicDevice, owner: &Owner) -> Result<(), Problem> {
        let attach = |connect: &Connect| {
            let found = look(connect, name, uuid, nic, owner)?.ok_or_else(|| gone(name))?;
            let has = |part: fn(&ObservedNic) -> bool| found.nic.as_ref().is_some_and(part);
            let mut flags = 0;
            if found.active && !has(|nic| nic.live) {
                flags |= sys::VIR_DOMAIN_AFFECT_LIVE;
            }
            if !has(|nic| nic.defined) {
                flags |= sys::VIR_DOMAIN_AFFECT_CONFIG;
            }
            if flags != 0 {
                found.handle.attach_device_flags(&nic.xml, flags)?;
            }
            Ok(())
        };
        self.lives.repeatable(attach).map_err(|fault| {
            let found = problem(format!("cannot plug {} into domain `{name}`", nic.name), fault);
            if found.causes.first().is_some_and(|cause| cause.contains("PCI")) && found.hint.is_none() {
                return found.hint("the guest has no PCI slot left for it: take another NIC away, or restart it with `down` and `up`");
            }
            found
        })
    }

    /// Takes a NIC out of the definition and out of the running guest, and waits until that has let go of it.
    pub fn detach(&self, name: &str, uuid: Uuid, nic: &NicDevice, owner: &Owner, cancel: &Cancel) -> Result<(), Problem> {
        let deadline = Instant::now() + RELEASE_LIMIT;
        let (mut asked, mut refused): (Option<Instant>, Option<String>) = (None, None);
        let mut pause = Duration::from_millis(20);
        let element = unplugged(nic);
        loop {
            let ask = asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN);
            let step = |connect: &Connect| {
                let Some(found) = look(connect, name, uuid, nic, owner)? else { return Ok((true, None)) };
                let Some(there) = found.nic else { return Ok((true, None)) };
                if there.defined {
                    found.handle.detach_device_flags(&element, sys::VIR_DOMAIN_AFFECT_CONFIG)?;
                }
                if !there.live || !found.active {
                    return Ok((true, None));
                }
                // Under way already, or the guest is not able to yet: what is there decides, until the limit.
                let refusal = match ask.then(|| found.handle.detach_device_flags(&element, sys::VIR_DOMAIN_AFFECT_LIVE)) {
                    Some(Err(error)) => Some(error.message().to_string()),
                    _ => None,
                };
                Ok((false, refusal))
            };
            let (absent, refusal) =
                self.lives.repeatable(step).map_err(|fault| problem(format!("cannot unplug {} from domain `{name}`", nic.name), fault))?;
            if absent {
                return Ok(());
            }
            if ask {
                asked = Some(Instant::now());
                refused = refusal.or(refused);
            }
            if Instant::now() >= deadline {
                let limit = RELEASE_LIMIT.as_secs();
                let message = format!("domain `{name}` did not let go of {} within {limit} s", nic.name);
                let late = Problem::new(Code::Timeout, message).hint(
                    "its kernel must answer to ACPI hot-plug; `testbed up` asks again, `testbed up --provision` makes the guests anew",
                );
                return Err(match refused {
                    Some(words) => late.cause(words),
                    None => late,
                });
            }
            if cancel.wait(pause) {
                return cancel.check();
            }
            pause = (pause * 2).min(Duration::from_millis(300));
        }
    }

    /// Notes in the domain's metadata which network configuration the guest took up.
    pub fn note_network(&self, name: &str, uuid: Uuid, network: &str, owner: &Owner) -> Result<(), Problem> {
        let note = |connect: &Connect| {
            let Some(handle) = find(connect, uuid)? else { return Ok(()) };
            let mut mark = owned(&handle, name, owner)?;
            if mark.network == network {
                return Ok(());
            }
            mark.network = network.to_string();
            let live = if state(&handle)?.is_active() { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
            let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
            let flags = live | sys::VIR_DOMAIN_AFFECT_CONFIG;
            handle.set_metadata(kind, Some(&mark.xml()), Some("testbedos"), Some(METADATA_NAMESPACE), flags)?;
            Ok(())
        };
        self.lives.repeatable(note).map_err(|fault| problem(format!("cannot note the network of domain `{name}`"), fault))
    }
}

/// What libvirt finds a NIC by: the MAC address and the alias. Slots may differ between the running guest and its definition.
fn unplugged(nic: &NicDevice) -> String {
    let (mac, alias) = (quick_xml::escape::escape(&nic.mac), quick_xml::escape::escape(&nic.alias));
    format!("<interface type='bridge'><mac address='{mac}'/><source bridge='br-int'/><alias name='{alias}'/></interface>")
}
