//! From nodes to what the user wrote: the `checks` section.
//!
//! Pure. Reports every fault and goes on.

use super::{
    checks::{Check, Dns, Exec, Expect, Http, Ping, Tcp},
    decode::address,
    node::{Node, Value},
    reader::{Reader, Spanned},
};

/// The kinds of a check.
const KINDS: [&str; 5] = ["ping", "tcp", "http", "dns", "exec"];

/// The longest name of a check, in characters.
const LONGEST_NAME: usize = 100;

/// Decodes `checks`.
pub fn checks(node: &Node, reader: &mut Reader) -> Vec<Check> {
    let items = reader.list(node, "`checks`").unwrap_or_default();
    items.iter().filter_map(|node| check(node, reader)).collect()
}

fn check(node: &Node, reader: &mut Reader) -> Option<Check> {
    let mut fields = reader.fields(node, "a check")?;
    let at = fields.at;
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| fields.key_at(kind).is_some()).collect();
    let message = match given.as_slice() {
        [_] => None,
        [] => Some((at, format!("a check needs one of `{}`", KINDS.join("`, `")))),
        [_, second, ..] => Some((fields.key_at(second).unwrap_or(at), format!("a check is one of {}, not several", KINDS.join(", ")))),
    };
    if let Some((at, message)) = message {
        let hint = "write each on an item of its own, such as `- ping: {from: a, to: b}`";
        reader.error(at, "E007", message, Some(hint.to_string()));
    }
    let name = fields.get("name").and_then(|node| reader.parsed(node, "`name` of a check", "E010", name));
    // `get` takes an empty value for an absent one; a kind with nothing after it says nothing.
    for (key, _) in fields.entries().iter().filter(|(_, value)| value.is_null()) {
        if let Some(kind) = given.iter().find(|kind| key.text() == Some(kind)) {
            reader.error(key.at, "E004", format!("`{kind}` says nothing"), Some(format!("write what is asked, as in `{}`", example(kind))));
        }
    }
    let ping = fields.get("ping").and_then(|node| ping(node, reader));
    let tcp = fields.get("tcp").and_then(|node| tcp(node, reader));
    let http = fields.get("http").and_then(|node| http(node, reader));
    let dns = fields.get("dns").and_then(|node| dns(node, reader));
    let exec = fields.get("exec").and_then(|node| exec(node, reader));
    let words = [("pass", Expect::Pass), ("fail", Expect::Fail)];
    let expect = fields.get("expect").and_then(|node| reader.word(node, "`expect`", &words));
    let timeout_s = fields.get("timeout_s").and_then(|node| reader.integer(node, "`timeout_s`", 1, 3600));
    fields.finish(reader);
    Some(Check { name, ping, tcp, http, dns, exec, expect, timeout_s, at })
}

fn example(kind: &str) -> &'static str {
    match kind {
        "ping" => "ping: {from: a, to: b}",
        "tcp" => "tcp: {from: a, to: b, port: 80}",
        "http" => "http: {from: a, url: \"http://b/\"}",
        "dns" => "dns: {from: a, name: b}",
        _ => "exec: {guest: a, command: [test, -f, /etc/hostname]}",
    }
}

fn name(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    let good = (1..=LONGEST_NAME).contains(&length) && !text.contains(char::is_control) && text.trim() == text;
    good.then(|| text.to_string()).ok_or_else(|| format!("write 1 to {LONGEST_NAME} characters on one line, without blanks at its ends"))
}

fn ping(node: &Node, reader: &mut Reader) -> Option<Ping> {
    let mut fields = reader.fields(node, "`ping`")?;
    let from = fields.require(reader, "from").and_then(|node| reader.name(node, "`from`"));
    let to = fields.require(reader, "to").and_then(|node| reader.text(node, "`to`"));
    let count = fields.get("count").and_then(|node| reader.integer(node, "`count`", 1, 100));
    fields.finish(reader);
    Some(Ping { from, to, count })
}

fn tcp(node: &Node, reader: &mut Reader) -> Option<Tcp> {
    let mut fields = reader.fields(node, "`tcp`")?;
    let from = fields.require(reader, "from").and_then(|node| reader.name(node, "`from`"));
    let to = fields.require(reader, "to").and_then(|node| reader.text(node, "`to`"));
    let port = fields.require(reader, "port").and_then(|node| reader.integer(node, "`port`", 1, 65535));
    fields.finish(reader);
    Some(Tcp { from, to, port })
}

fn http(node: &Node, reader: &mut Reader) -> Option<Http> {
    let mut fields = reader.fields(node, "`http`")?;
    let from = fields.require(reader, "from").and_then(|node| reader.name(node, "`from`"));
    let url = fields.require(reader, "url").and_then(|node| reader.text(node, "`url`"));
    let status = fields.get("status").and_then(|node| reader.integer(node, "`status` of an answer", 100, 599));
    let contains = fields.get("contains").and_then(|node| reader.text(node, "`contains`"));
    fields.finish(reader);
    Some(Http { from, url, status, contains })
}

fn dns(node: &Node, reader: &mut Reader) -> Option<Dns> {
    let mut fields = reader.fields(node, "`dns`")?;
    let from = fields.require(reader, "from").and_then(|node| reader.name(node, "`from`"));
    let name = fields.require(reader, "name").and_then(|node| reader.parsed(node, "`name` in `dns`", "E010", host_name));
    let address = fields.get("address").and_then(|node| reader.parsed(node, "`address`", "E030", address));
    fields.finish(reader);
    Some(Dns { from, name, address })
}

/// A name as the DNS has them (RFC 1035 section 2.3.1), with `_`, which some use.
pub fn host_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let whole = text.strip_suffix('.').unwrap_or(text);
    let good = whole.len() <= 253 && whole.split('.').all(is_label);
    good.then(|| text.to_string())
        .ok_or_else(|| "write a name of letters, digits, `-` and dots, such as web or www.example.org".to_string())
}

fn exec(node: &Node, reader: &mut Reader) -> Option<Exec> {
    let mut fields = reader.fields(node, "`exec`")?;
    let guest = fields.require(reader, "guest").and_then(|node| reader.name(node, "`guest`"));
    let command = fields.require(reader, "command").and_then(|node| command(node, reader));
    let status = fields.get("status").and_then(|node| reader.integer(node, "`status` of a command", 0, 255));
    let stdout_contains = fields.get("stdout_contains").and_then(|node| reader.text(node, "`stdout_contains`"));
    fields.finish(reader);
    Some(Exec { guest, command, status, stdout_contains })
}

fn command(node: &Node, reader: &mut Reader) -> Option<Vec<Spanned<String>>> {
    let words = match &node.value {
        Value::Scalar { .. } => {
            let line = reader.text(node, "`command`")?;
            let word = |text: &str| Spanned { value: text.to_string(), at: line.at };
            if line.value.trim().is_empty() { Vec::new() } else { vec![word("sh"), word("-c"), line] }
        }
        _ => {
            let items = reader.list(node, "`command`")?;
            let words: Vec<_> = items.iter().filter_map(|node| reader.text(node, "a word of `command`")).collect();
            if words.len() < items.len() {
                return None;
            }
            words
        }
    };
    if words.first().is_none_or(|program| program.value.is_empty()) {
        let hint = Some("write the program and its arguments, such as `[test, -f, /etc/hostname]`".to_string());
        reader.error(node.at, "E006", "`command` names no program".to_string(), hint);
        return None;
    }
    Some(words)
}
