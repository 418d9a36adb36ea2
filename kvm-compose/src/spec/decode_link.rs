//! From nodes to what the user wrote: wires, and the conditions of links.
//!
//! Pure. Reports every fault and goes on.

use super::{
    decode_network::{labels, subnet},
    model::{Conditions, Impairment, Link, LinkEnd, LinkImpairment},
    node::Node,
    reader::{Fields, Reader, Spanned},
};

/// Decodes a wire: `[a:eth1, b:eth1]`, or a map with `ends`.
pub fn link(node: &Node, reader: &mut Reader) -> Option<Link> {
    if matches!(node.value, super::node::Value::List(_)) {
        return Some(Link { ends: ends(node, reader)?, subnet: None, impairment: None, labels: Default::default(), at: node.at });
    }
    let mut fields = reader.fields(node, "a link")?;
    let at = fields.at;
    let ends = fields.require(reader, "ends").and_then(|node| ends(node, reader));
    let subnet = fields.get("subnet").and_then(|node| subnet(node, "`subnet` of a link", reader));
    let impairment = fields.get("impairment").and_then(|node| link_impairment(node, reader));
    let labels = labels(&mut fields, reader);
    fields.finish(reader);
    Some(Link { ends: ends?, subnet, impairment, labels, at })
}

fn ends(node: &Node, reader: &mut Reader) -> Option<Vec<Spanned<LinkEnd>>> {
    let items = reader.list(node, "the ends of a link")?;
    if items.len() != 2 {
        let hint = Some("write two, as in `[a:eth1, b:eth1]`; more guests need a switch".to_string());
        reader.error(node.at, "E007", format!("a link has two ends, not {}", items.len()), hint);
        return None;
    }
    let ends: Vec<_> = items.iter().filter_map(|node| reader.parsed(node, "an end of a link", "E010", str::parse::<LinkEnd>)).collect();
    (ends.len() == 2).then_some(ends)
}

/// Decodes the conditions of an interface's or a switch's links.
pub fn impairment(node: &Node, reader: &mut Reader) -> Option<Impairment> {
    let mut fields = reader.fields(node, "`impairment`")?;
    let (to_guest, from_guest) = (direction(&mut fields, "to_guest", reader), direction(&mut fields, "from_guest", reader));
    let both = conditions(&mut fields, reader);
    fields.finish(reader);
    Some(Impairment { both, to_guest, from_guest })
}

fn link_impairment(node: &Node, reader: &mut Reader) -> Option<LinkImpairment> {
    let mut fields = reader.fields(node, "`impairment` of a link")?;
    let (forward, backward) = (direction(&mut fields, "forward", reader), direction(&mut fields, "backward", reader));
    let both = conditions(&mut fields, reader);
    fields.finish(reader);
    Some(LinkImpairment { both, forward, backward })
}

fn direction(fields: &mut Fields<'_>, key: &'static str, reader: &mut Reader) -> Option<Conditions> {
    let node = fields.get(key)?;
    let mut fields = reader.fields(node, &format!("`{key}`"))?;
    let conditions = conditions(&mut fields, reader);
    fields.finish(reader);
    Some(conditions)
}

fn conditions(fields: &mut Fields<'_>, reader: &mut Reader) -> Conditions {
    let mut number = |key: &'static str, from, to| fields.get(key).and_then(|node| reader.number(node, &format!("`{key}`"), from, to));
    Conditions {
        delay_ms: number("delay_ms", 0.0, 60_000.0),
        jitter_ms: number("jitter_ms", 0.0, 60_000.0),
        loss_percent: number("loss_percent", 0.0, 100.0),
        duplicate_percent: number("duplicate_percent", 0.0, 100.0),
        reorder_percent: number("reorder_percent", 0.0, 100.0),
        rate_mbit: number("rate_mbit", 0.008, 100_000.0),
    }
}
