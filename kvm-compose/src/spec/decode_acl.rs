//! From nodes to what the user wrote: who may talk to whom.
//!
//! Pure. A rule's `match` is OVN's language and is passed on as it is; OVN itself judges it, before anything changes.

use super::{
    decode_network::named,
    model::{AclAction, AclDirection, AclRule, AclSection, SwitchAcl},
    node::Node,
    reader::{Reader, Spanned},
};

/// The longest expression, in bytes.
const LONGEST_MATCH: usize = 64 << 10;

/// Decodes `acl`.
pub fn section(node: &Node, reader: &mut Reader) -> Option<AclSection> {
    let mut fields = reader.fields(node, "`acl`")?;
    let apply_deny_all = fields.get("apply_deny_all").and_then(|node| reader.boolean(node, "`apply_deny_all`"));
    let mut switches = Vec::new();
    if let Some(node) = fields.get("switches") {
        for (switch, node) in named(node, "`switches` of `acl`", reader) {
            let rules =
                if node.is_null() { &[] } else { reader.list(node, &format!("the rules of `{}`", switch.value)).unwrap_or_default() };
            switches.push(SwitchAcl { switch, rules: rules.iter().filter_map(|node| rule(node, reader)).collect() });
        }
    }
    fields.finish(reader);
    Some(AclSection { apply_deny_all, switches })
}

fn rule(node: &Node, reader: &mut Reader) -> Option<AclRule> {
    let mut fields = reader.fields(node, "a rule")?;
    let at = fields.at;
    let rule = AclRule {
        direction: fields.require(reader, "direction").and_then(|node| reader.word(node, "`direction`", &AclDirection::WORDS)),
        priority: fields.require(reader, "priority").and_then(|node| reader.integer(node, "`priority`", 0, 32767)),
        matches: fields.require(reader, "match").and_then(|node| expression(node, reader)),
        action: fields.require(reader, "action").and_then(|node| reader.word(node, "`action`", &AclAction::WORDS)),
        at,
    };
    fields.finish(reader);
    Some(rule)
}

fn expression(node: &Node, reader: &mut Reader) -> Option<Spanned<String>> {
    let text = reader.text(node, "`match`")?;
    let empty = text.value.trim().is_empty();
    if empty || text.value.len() > LONGEST_MATCH {
        let (message, hint) = match empty {
            true => ("`match` is empty".to_string(), "write an expression such as `ip4.src == 10.0.0.10 && tcp.dst == 80`".to_string()),
            false => {
                let message = format!("`match` has {} bytes, the most is {LONGEST_MATCH}", text.value.len());
                (message, "make several rules of it; sets of addresses may be written as subnets".to_string())
            }
        };
        reader.error(node.at, "E006", message, Some(hint));
        return None;
    }
    Some(text)
}
