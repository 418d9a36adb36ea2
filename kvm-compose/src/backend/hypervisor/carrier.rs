//! The carrier of a guest's interface: up or down, as a cable is plugged in or pulled out.
//!
//! Pure text work on a domain's XML (<https://libvirt.org/formatdomain.html#modifying-virtual-link-state>). Must not know
//! connections.

use std::io::Cursor;

use quick_xml::{
    Reader, Writer,
    events::{BytesStart, Event},
};
use uuid::Uuid;

/// An interface in a domain's XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its `interfaceid`: the OVN port.
    pub port: Uuid,
    /// Its host device, while the domain runs.
    pub tap: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// False when its link was taken down.
    pub up: bool,
    /// The whole element.
    xml: String,
}

/// The interfaces of a domain that have an OVN port, in the order of the XML.
pub fn interfaces(xml: &str) -> Vec<Interface> {
    let mut reader = Reader::from_str(xml);
    let mut found = Vec::new();
    let mut open: Option<(usize, Parts)> = None;
    loop {
        let begins = reader.buffer_position() as usize;
        let event = match reader.read_event() {
            Ok(Event::Eof) | Err(_) => return found,
            Ok(event) => event,
        };
        match (&event, &mut open) {
            (Event::Start(element), None) if element.local_name().as_ref() == "interface" => open = Some((begins, Parts::default())),
            (Event::End(element), Some((from, parts))) if element.local_name().as_ref() == "interface" => {
                let text = xml.get(*from..reader.buffer_position() as usize).unwrap_or_default().to_string();
                found.extend(parts.port.map(|port| Interface {
                    port,
                    tap: parts.tap.take(),
                    mac: parts.mac.take(),
                    up: !parts.down,
                    xml: text,
                }));
                open = None;
            }
            (Event::Empty(element) | Event::Start(element), Some((_, parts))) => parts.take(element),
            _ => {}
        }
    }
}

#[derive(Default)]
struct Parts {
    port: Option<Uuid>,
    tap: Option<String>,
    mac: Option<String>,
    down: bool,
}

impl Parts {
    fn take(&mut self, element: &BytesStart<'_>) {
        let value = |name: &str| {
            let attribute = element.try_get_attribute(name).ok()??;
            Some(quick_xml::escape::unescape(&attribute.value).ok()?.into_owned())
        };
        match element.local_name().as_ref() {
            "parameters" => self.port = value("interfaceid").and_then(|text| Uuid::parse_str(&text).ok()),
            "target" => self.tap = value("dev"),
            "mac" => self.mac = value("address"),
            "link" => self.down = value("state").is_some_and(|state| state == "down"),
            _ => {}
        }
    }
}

impl Interface {
    /// The element with its link in this state, everything else as it is: what libvirt is told.
    pub fn with_link(&self, up: bool) -> Option<String> {
        let mut reader = Reader::from_str(&self.xml);
        let mut writer = Writer::new(Cursor::new(Vec::new()));
        let mut depth = 0;
        loop {
            let event = reader.read_event().ok()?;
            match &event {
                Event::Eof => break,
                Event::Empty(element) if depth == 1 && element.local_name().as_ref() == "link" => continue,
                Event::Start(_) => depth += 1,
                Event::End(_) => {
                    depth -= 1;
                    if depth == 0 {
                        let mut link = BytesStart::new("link");
                        link.push_attribute(("state", if up { "up" } else { "down" }));
                        writer.write_event(Event::Empty(link)).ok()?;
                    }
                }
                _ => {}
            }
            writer.write_event(event).ok()?;
        }
        String::from_utf8(writer.into_inner().into_inner()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<domain><devices>
      <interface type='bridge'><mac address='02:00:00:00:00:01'/>
        <virtualport type='openvswitch'><parameters interfaceid='00000000-0000-0000-0000-000000000007'/></virtualport>
        <target dev='vnet3'/><link state='down'/><driver name='qemu'><host csum='off'/></driver></interface>
      <interface type='network'><target dev='vnet4'/></interface>
      <interface type='bridge'><virtualport><parameters interfaceid='00000000-0000-0000-0000-000000000008'/></virtualport></interface>
    </devices></domain>";

    #[test]
    fn interfaces_with_a_port_are_found_with_their_link() {
        let found = interfaces(XML);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].port, found[0].up, found[0].tap.as_deref()), (Uuid::from_u128(7), false, Some("vnet3")));
        assert_eq!(found[0].mac.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!((found[1].port, found[1].up, found[1].tap.as_deref()), (Uuid::from_u128(8), true, None));
        assert!(interfaces("<domain><interface>").is_empty() && interfaces("\0").is_empty());
    }

    #[test]
    fn the_link_alone_is_changed() {
        let found = interfaces(XML);
        let up = found[0].with_link(true).expect("XML");
        assert!(up.contains("<link state=\"up\"/></interface>") && !up.contains("down"), "{up}");
        assert!(up.contains("dev='vnet3'") && up.contains("csum='off'"), "{up}");
        let down = found[1].with_link(false).expect("XML");
        assert_eq!(interfaces(&down).first().map(|interface| interface.up), Some(false));
    }
}
