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
    /// The network configuration that it took up last.
    pub network: String,
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
                        network: network(xml),
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

/// What stands in the element of the network configuration, whatever its prefix: text alone.
fn network(xml: &str) -> String {
    let text = xml.split("network>").nth(1).and_then(|text| text.rsplit_once("</")).map_or("", |(text, _)| text);
    quick_xml::escape::unescape(text).map(|text| text.into_owned()).unwrap_or_default()
}

impl Mark {
    /// The element as libvirt takes it for our namespace, which it adds itself.
    pub fn xml(&self) -> String {
        let e = |text: &str| quick_xml::escape::escape(text).into_owned();
        format!(
            "<guest installation=\"{}\" deployment=\"{}\" guest=\"{}\" digest=\"{}\" operation=\"{}\"><network>{}</network></guest>",
            e(&self.installation),
            e(&self.deployment),
            e(&self.guest),
            e(&self.digest),
            e(&self.operation),
            e(&self.network)
        )
    }
}

/// A NIC in a domain's XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// libvirt's alias; empty without one.
    pub alias: String,
    /// Its MAC address.
    pub mac: String,
    /// The `interfaceid` of its port.
    pub port: Option<Uuid>,
    /// The element.
    pub xml: String,
}

/// A domain's NICs, in the order of the XML, which is libvirt's own.
pub fn interfaces(xml: &str) -> Vec<Interface> {
    const END: &str = "</interface>";
    let elements = xml.split("<interface ").skip(1).filter_map(|rest| rest.split_once(END));
    elements
        .map(|(inner, _)| {
            let xml = format!("<interface {inner}{END}");
            let (mut reader, mut alias, mut mac, mut port) = (Reader::from_str(&xml), None, None, None);
            loop {
                match reader.read_event() {
                    Ok(Event::Empty(element) | Event::Start(element)) => match element.local_name().as_ref() {
                        "mac" => mac = attribute(&element, "address"),
                        "alias" => alias = attribute(&element, "name"),
                        "parameters" => port = attribute(&element, "interfaceid").and_then(|text| Uuid::parse_str(&text).ok()),
                        _ => {}
                    },
                    Ok(Event::Eof) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            Interface { alias: alias.unwrap_or_default(), mac: mac.unwrap_or_default(), port, xml }
        })
        .collect()
}

/// Memory in MiB and virtual CPUs of a domain; 0 where libvirt does not say so as usual.
pub fn size(xml: &str) -> (u64, u32) {
    let text = |name: &str| xml.split(&format!("<{name} ")).nth(1)?.split_once('>')?.1.split('<').next();
    let memory = text("memory").and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    (memory / 1024, text("vcpu").and_then(|text| text.parse().ok()).unwrap_or_default())
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
    fn interfaces_keep_their_order_and_what_is_missing_is_told() {
        let (a, b) = (Uuid::from_u128(2), Uuid::from_u128(1));
        let one = |port: &str, alias: &str| {
            format!(
                "<interface type='bridge'><mac address='02:00:00:00:00:01'/><virtualport type='openvswitch'><parameters interfaceid='{port}'/></virtualport>{alias}</interface>"
            )
        };
        let (first, second) = (one(&a.to_string(), "<alias name='ua-nic-x'/>"), one("no", ""));
        let xml = format!(
            "<domain><memory unit='KiB'>131072</memory><vcpu placement='static'>3</vcpu>{first}{second}{}</domain>",
            one(&b.to_string(), "")
        );
        let found = interfaces(&xml);
        assert_eq!(found.iter().map(|nic| nic.port).collect::<Vec<_>>(), [Some(a), None, Some(b)]);
        assert_eq!((found[0].alias.as_str(), found[0].mac.as_str(), &found[0].xml), ("ua-nic-x", "02:00:00:00:00:01", &first));
        assert_eq!(size(&xml), (128, 3));
        assert_eq!(size("<domain/>"), (0, 0));
    }

    #[test]
    fn a_mark_keeps_the_network_configuration() {
        let mark = Mark {
            installation: "i".into(),
            deployment: "d".into(),
            guest: "a&b".into(),
            digest: "x".into(),
            operation: "o".into(),
            network: "version: 2\nethernets:\n  eth0:\n    addresses:\n      - \"10.0.0.1/24\" # <&'\n".into(),
        };
        assert_eq!(Mark::parse(&mark.xml()), Some(mark.clone()));
        assert_eq!(Mark::parse(&mark.xml().replace("network>", "t:network>")), Some(mark));
    }

    #[test]
    fn the_user_of_qemu_is_read() {
        let xml = "<secmodel><model>apparmor</model></secmodel><secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+108</baselabel><baselabel type='qemu'>+1:+1</baselabel></secmodel>";
        assert_eq!(qemu_ids(xml), Some((64055, 108)));
        assert_eq!(qemu_ids("<capabilities/>"), None);
    }
}
