//! Our mark in a domain's `<metadata>`, and the ports in its XML.
//!
//! Pure text work. Must not know connections.

use quick_xml::{Reader, events::BytesStart, events::Event};
use uuid::Uuid;

use crate::backend::Owner;

/// The attributes of our metadata element, as found. A foreign or broken element is no mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The installation that made the domain.
    pub installation: String,
    /// The deployment it belongs to.
    pub deployment: String,
    /// The guest it is.
    pub guest: String,
    /// The digest of what its XML says.
    pub digest: String,
    /// The operation that made it.
    pub operation: String,
}

impl Mark {
    /// Reads the element that libvirt returns for our namespace.
    pub fn parse(xml: &str) -> Option<Mark> {
        let mut reader = Reader::from_str(xml);
        loop {
            match reader.read_event() {
                Ok(Event::Empty(element) | Event::Start(element)) => {
                    if element.local_name().as_ref() != "guest" {
                        return None;
                    }
                    return Some(Mark {
                        installation: attribute(&element, "installation")?,
                        deployment: attribute(&element, "deployment")?,
                        guest: attribute(&element, "guest")?,
                        digest: attribute(&element, "digest")?,
                        operation: attribute(&element, "operation").unwrap_or_default(),
                    });
                }
                Ok(Event::Eof) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// True when the mark is this owner's.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.deployment == owner.deployment.as_str() && self.installation == owner.installation.to_string()
    }
}

/// The `interfaceid`s of a domain's NICs, in the order of the XML.
pub fn interface_ids(xml: &str) -> Vec<Uuid> {
    let mut reader = Reader::from_str(xml);
    let mut found = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Empty(element) | Event::Start(element)) if element.local_name().as_ref() == "parameters" => {
                found.extend(attribute(&element, "interfaceid").and_then(|text| Uuid::parse_str(&text).ok()));
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

/// The user and group that QEMU runs as, from libvirt's capabilities (`<secmodel><model>dac</model><baselabel …>+64055:+108`).
pub fn qemu_ids(capabilities: &str) -> Option<(u32, u32)> {
    let label = capabilities.split("<model>dac</model>").nth(1)?.split("</baselabel>").next()?.rsplit('>').next()?;
    let (user, group) = label.split_once(':')?;
    Some((user.strip_prefix('+')?.parse().ok()?, group.strip_prefix('+')?.parse().ok()?))
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    Some(quick_xml::escape::unescape(&attribute.value).ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_whatever_its_prefix() {
        let xml = r#"<t:guest xmlns:t="https://testbedos.dev/xmlns/domain/1" installation="i" deployment="d" guest="a&amp;b" digest="x" operation="o"/>"#;
        let mark = Mark::parse(xml).expect("a mark");
        assert_eq!((mark.installation.as_str(), mark.guest.as_str()), ("i", "a&b"));
    }

    #[test]
    fn what_is_not_our_element_is_no_mark() {
        for xml in ["", "<x/>", "<guest/>", "<guest installation='i'", "<guest installation='i' deployment='d' guest='g'/>", "\u{0}"] {
            assert_eq!(Mark::parse(xml), None, "{xml:?}");
        }
    }

    #[test]
    fn interface_ids_keep_their_order() {
        let (a, b) = (Uuid::from_u128(2), Uuid::from_u128(1));
        let xml =
            format!("<domain><parameters interfaceid='{a}'/><parameters interfaceid='no'/><parameters interfaceid=\"{b}\"/></domain>");
        assert_eq!(interface_ids(&xml), [a, b]);
    }

    #[test]
    fn the_user_of_qemu_is_read() {
        let xml = "<secmodel><model>apparmor</model></secmodel><secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+108</baselabel><baselabel type='qemu'>+1:+1</baselabel></secmodel>";
        assert_eq!(qemu_ids(xml), Some((64055, 108)));
        assert_eq!(qemu_ids("<capabilities/>"), None);
    }
}
