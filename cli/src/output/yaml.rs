//! Prints a JSON value as YAML 1.2 that YAML 1.1 readers understand the same way.
//!
//! A string that could be read as something else, or that holds more than plain words, is written as in JSON, which is
//! valid YAML.

use serde_json::Value;

/// The value as a YAML document.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut text),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut text),
        scalar => text.push_str(&format!("{}\n", inline(scalar))),
    }
    text
}

fn block(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (index, (key, value)) in map.iter().enumerate() {
                // After a dash the first key stands on the dash's line.
                let pad = if index == 0 && text.ends_with("- ") { "" } else { pad.as_str() };
                text.push_str(&format!("{pad}{}:", string(key)));
                child(value, indent, text);
            }
        }
        Value::Array(list) => {
            for item in list {
                text.push_str(&format!("{pad}- "));
                match item {
                    Value::Object(map) if !map.is_empty() => block(item, indent + 2, text),
                    scalar_or_list => {
                        text.push_str(&inline(scalar_or_list));
                        text.push('\n');
                    }
                }
            }
        }
        scalar => text.push_str(&inline(scalar)),
    }
}

fn child(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            block(value, indent + 2, text);
        }
        Value::Array(list) if !list.is_empty() => {
            text.push('\n');
            block(value, indent + 2, text);
        }
        scalar => text.push_str(&format!(" {}\n", inline(scalar))),
    }
}

/// A value on one line; lists within lists are written as in JSON.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

fn string(text: &str) -> String {
    const WORDS: [&str; 10] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "~"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./ ".contains(c)) && !text.ends_with(' ');
    let word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if starts && plain && !word { text.to_string() } else { quoted(text) }
}

/// JSON allows DEL and the C1 controls as they are; YAML does not.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    json.chars().map(|c| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_lists_and_scalars() {
        let value = json!({
            "version": 1,
            "machines": [{"name": "web", "micro": {"cpus": 1}, "network": [{"ip": "10.0.0.2"}]}, {"name": "db", "micro": {}}],
            "list": ["a", 2, [1, "x"]], "empty": [], "none": null,
        });
        let expected = "\
version: 1
machines:
  - name: web
    micro:
      cpus: 1
    network:
      - ip: \"10.0.0.2\"
  - name: db
    micro: {}
list:
  - a
  - 2
  - [1,\"x\"]
empty: []
none: null
";
        assert_eq!(to_yaml(&value), expected);
        assert_eq!(to_yaml(&json!({})), "{}\n");
    }

    #[test]
    fn strings_that_mean_something_else_are_quoted() {
        for text in ["", "no", "True", "~", "1", "1e3", "0x10", "-", "- a", "a: b", "a #b", "@a", "*a", "a\nb", " a", "a ", "é", "\u{7f}"]
        {
            assert!(string(text).starts_with('"'), "{text:?}");
        }
        for text in ["web", "./a.sh", "/a/b", "a b", "_x"] {
            assert_eq!(string(text), if text.starts_with('.') { format!("\"{text}\"") } else { text.to_string() });
        }
    }
}
