//! The documentation says what the code says. `UPDATE_DOCS=1` writes the generated pages anew.

use std::path::PathBuf;

use kvm_compose::{
    error::Code,
    names::DeploymentName,
    spec::{node, reader::Reader},
    topology::{self, Leases},
};
use serde_json::Value;

fn docs(page: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).join(page)
}

#[test]
fn the_error_page_is_the_table_of_codes() {
    let mut page = "# Error codes\n\nGenerated from `kvm-compose/src/error.rs` by the test `docs`.\n\n\
        Every error has one of these codes: in the body of an HTTP response, in `<name>-logs.json` as `error_code` (the\n\
        number; 0 is success), and as the exit status of `testbed`. Faults of a testbed file have codes of their own, listed in\n\
        [yaml.md](yaml.md#codes).\n\n| code | `error_code` | HTTP | exit | meaning |\n| --- | ---: | ---: | ---: | --- |\n"
        .to_string();
    for code in Code::ALL {
        let meaning = code.meaning().trim();
        page.push_str(&format!("| `{code}` | {} | {} | {} | {meaning} |\n", code.number(), code.http_status(), code.exit_status()));
    }
    page.push_str(
        "\n## Exit status of `testbed`\n\n| status | meaning |\n| ---: | --- |\n| 0 | success |\n| 1 | the action failed |\n\
        | 2 | wrong use or an invalid file |\n| 3 | not found |\n| 4 | busy or conflict |\n| 5 | the server cannot be reached |\n\
        | 6 | not allowed |\n| 7 | checks failed |\n| 130 | cancelled |\n\n`testbed exec` ends with the status of the command it ran.\n\n\
        ## Failures with `-o json` and `-o ndjson`\n\nStandard output holds results only; a failure is one line of JSON on standard \
        error, and nothing else stands there\nbut warnings (`{\"warning\": …}`, one a line):\n\n```json\n\
        {\"code\":\"not_found\",\"message\":\"deployment `lab` does not exist\",\"hint\":\"`testbed list` shows those that do; \
        `testbed up` makes one\"}\n```\n\n`code` and `message` are always there; `hint`, `causes` (a list, outermost first), `at` \
        (`file`, `line`, `column`) and\n`diagnostics` (the faults of a testbed file) are left out when empty. An action that failed also has \
        its record on standard\noutput, with the same problem in `entry.problem`.\n",
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(docs("errors.md"), &page).expect("written");
    }
    assert_eq!(std::fs::read_to_string(docs("errors.md")).expect("docs/errors.md"), page, "run the test with UPDATE_DOCS=1");
}

/// The pages of the language.
fn language() -> String {
    let mut pages: Vec<PathBuf> = ["yaml.md", "checks.md"].map(docs).into();
    let folder = std::fs::read_dir(docs("yaml")).expect("docs/yaml");
    pages.extend(folder.map(|entry| entry.expect("an entry").path()));
    pages.sort();
    pages.iter().map(|page| std::fs::read_to_string(page).expect("a page")).collect()
}

fn blocks(page: &str) -> Vec<&str> {
    page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_example_of_the_language_loads_is_printed_back_and_fits_the_schema() {
    let (page, schema) = (language(), kvm_compose::spec::schema());
    let readme = std::fs::read_to_string(docs("../README.md")).expect("README.md");
    let all: Vec<&str> = blocks(&page).into_iter().chain(blocks(&readme).into_iter().take(1)).collect();
    assert!(all.len() >= 15);
    let name = DeploymentName::new("docs").expect("valid");
    for block in all {
        let loaded = topology::load("docs", block, &name, &Leases::new()).unwrap_or_else(|problem| panic!("{block}\n{problem:#?}"));
        let printed = loaded.resolved().to_string();
        let again = topology::load("docs", &printed, &name, &Leases::new()).unwrap_or_else(|problem| panic!("{printed}\n{problem:#?}"));
        assert_eq!(loaded.resolved(), again.resolved());
        let mut reader = Reader::new("docs", block);
        let written = json(&node::parse(block, 0, &mut node::Budget::default(), &mut reader).expect("YAML"));
        for document in [written, again.resolved()] {
            let misfit = fault::of(&document, &schema, &schema, "");
            assert_eq!(misfit, None, "{document:#}");
        }
    }
}

#[test]
fn every_file_of_the_examples_fits_the_schema() {
    let schema = kvm_compose::spec::schema();
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"))];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.extension().and_then(|kind| kind.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("yaml" | "yml") => {
                    let text = std::fs::read_to_string(&path).expect("a text");
                    let name = path.display().to_string();
                    let mut reader = Reader::new(&name, &text);
                    let written = json(&node::parse(&text, 0, &mut node::Budget::default(), &mut reader).expect("YAML"));
                    // What it leaves out the file that it extends may have.
                    let schema = if written.get("extends").is_some() { lenient(&schema) } else { schema.clone() };
                    assert_eq!(fault::of(&written, &schema, &schema, ""), None, "{name}: {written:#}");
                    seen += 1;
                }
                _ => {}
            }
        }
    }
    assert!(seen >= 12, "{seen} files");
}

/// The schema without the keys that must be there.
fn lenient(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(key, value)| *key != "required" || !value.is_array())
                .map(|(key, value)| (key.clone(), lenient(value)))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(lenient).collect(),
        other => other.clone(),
    }
}

/// A tree as JSON, with the types of YAML's core schema.
fn json(node: &node::Node) -> Value {
    match &node.value {
        node::Value::List(items) => items.iter().map(json).collect(),
        node::Value::Map(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.text().expect("a text").to_string(), json(value))).collect())
        }
        node::Value::Scalar { text, plain: true } if !node.is_null() => {
            serde_json::from_str(text).ok().filter(|value: &Value| !value.is_object()).unwrap_or_else(|| Value::from(text.as_str()))
        }
        node::Value::Scalar { .. } if node.is_null() => Value::Null,
        node::Value::Scalar { text, .. } => Value::from(text.as_str()),
    }
}

mod fault {
    //! As much of JSON Schema as ours uses.
    use serde_json::Value;

    /// Where and why a value does not fit.
    pub fn of(value: &Value, schema: &Value, root: &Value, path: &str) -> Option<String> {
        if let Some(name) = schema["$ref"].as_str() {
            let target = root.pointer(name.strip_prefix('#').expect("a reference within")).expect("it is there");
            return of(value, target, root, path);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let faults: Vec<String> = any.iter().filter_map(|one| of(value, one, root, path)).collect();
            if faults.len() == any.len() {
                return Some(faults.join("; or "));
            }
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let is = |kind: &str| match kind {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => value.is_null(),
        };
        if !types.is_empty() && !types.iter().any(|kind| is(kind)) {
            return Some(format!("{path} is {value}, not {types:?}"));
        }
        let allowed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
        if !allowed || schema.get("const").is_some_and(|word| word != value) {
            return Some(format!("{path} may not be {value}"));
        }
        if let (Value::Array(items), Some(each)) = (value, schema.get("items")) {
            return items.iter().enumerate().find_map(|(n, item)| of(item, each, root, &format!("{path}/{n}")));
        }
        let Value::Object(map) = value else { return None };
        let missing = schema["required"].as_array().into_iter().flatten().find(|key| !map.contains_key(key.as_str().unwrap_or_default()));
        if let Some(key) = missing {
            return Some(format!("{path} has no {key}"));
        }
        map.iter().find_map(|(key, value)| match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(each), _) => of(value, each, root, &format!("{path}/{key}")),
            (None, Value::Bool(false)) => Some(format!("{path} may not have {key}")),
            (None, each @ Value::Object(_)) => of(value, each, root, &format!("{path}/{key}")),
            (None, _) => None,
        })
    }
}

#[test]
fn every_key_of_the_language_is_explained_and_has_an_example() {
    let page = language() + &std::fs::read_to_string(docs("composition.md")).expect("docs/composition.md");
    let examples: String = blocks(&page).concat();
    let schema = kvm_compose::spec::schema();
    let mut keys = std::collections::BTreeSet::new();
    let mut open = vec![&schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                keys.extend(map.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.as_str()));
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    assert!(keys.len() > 90, "{keys:?}");
    let words: std::collections::BTreeSet<&str> =
        page.split('`').flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
    let unexplained: Vec<&&str> = keys.iter().filter(|key| !words.contains(**key)).collect();
    assert!(unexplained.is_empty(), "no page explains {unexplained:?}");
    let used =
        |key: &str| examples.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').any(|word| word.strip_suffix(':') == Some(key));
    let unused: Vec<&&str> = keys.iter().filter(|key| !used(key)).collect();
    assert!(unused.is_empty(), "no example has {unused:?}");
}

#[test]
fn every_fault_code_in_the_source_is_on_the_language_page() {
    let page = std::fs::read_to_string(docs("yaml.md")).expect("docs/yaml.md");
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap_or_default();
            for code in source.split('"').filter(|part| {
                part.len() == 4 && (part.starts_with('E') || part.starts_with('W')) && part[1..].chars().all(|c| c.is_ascii_digit())
            }) {
                found += 1;
                assert!(page.contains(&format!("| {code} |")), "{code} of {} is not in docs/yaml.md", path.display());
            }
        }
    }
    assert!(found > 30);
}
