//! The schema of the language with what composition adds: variables in the place of values, and files that stand on others.
//!
//! Pure.

use serde_json::{Map, Value, json};

/// The schema of the whole document, made that of a file.
pub fn composed(mut schema: Value) -> Value {
    for part in ["properties", "$defs"] {
        if let Some(map) = schema.get_mut(part).and_then(Value::as_object_mut) {
            map.values_mut().for_each(with_variables);
        }
    }
    let Some(root) = schema.as_object_mut() else { return schema };
    let file = json!({"type": "string", "minLength": 1});
    let files = json!({"description": "Files whose content is added to this one's.", "anyOf": [file, {"type": "array", "items": file}]});
    let base = json!({"description": "A file that this one is laid over.", "type": "string", "minLength": 1});
    if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("include".to_string(), files);
        properties.insert("extends".to_string(), base);
    }
    root.insert("patternProperties".to_string(), json!({"^x-": {"description": "Your own; read by nobody."}}));
    // What a file needs may stand in the files that it names.
    if let Some(required) = root.remove("required") {
        root.insert(
            "anyOf".to_string(),
            json!([{"required": required}, {"required": ["machines", "bridges"]}, {"required": ["include"]}, {"required": ["extends"]}]),
        );
    }
    let variable = json!({"description": "A text with a variable: `${NAME}`, `${NAME:-default}`.", "type": "string", "pattern": r"\$\{"});
    if let Some(definitions) = root.entry("$defs").or_insert_with(|| Value::Object(Map::new())).as_object_mut() {
        definitions.insert("Variable".to_string(), variable);
    }
    schema
}

/// Lets a variable stand wherever a single value does that is not any text.
fn with_variables(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if is_narrow(object) {
        let mut inner = Map::new();
        for key in ["description", "title", "default"] {
            inner.extend(object.remove(key).map(|value| (key.to_string(), value)));
        }
        let alternatives = json!([Value::Object(std::mem::take(object)), {"$ref": "#/$defs/Variable"}]);
        inner.insert("anyOf".to_string(), alternatives);
        *object = inner;
        return;
    }
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "$defs", Value::Object(map)) => map.values_mut().for_each(with_variables),
            ("items" | "additionalProperties", value) => with_variables(value),
            ("anyOf" | "oneOf" | "allOf", Value::Array(all)) => all.iter_mut().for_each(with_variables),
            _ => {}
        }
    }
}

/// True for numbers, booleans and texts of a certain form.
fn is_narrow(schema: &Map<String, Value>) -> bool {
    let is = |wanted: &str| match schema.get("type") {
        Some(Value::String(kind)) => kind == wanted,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == wanted),
        _ => false,
    };
    let formed = ["pattern", "format", "enum", "const", "anyOf", "oneOf"].iter().any(|key| schema.contains_key(*key));
    is("integer") || is("number") || is("boolean") || (is("string") && formed) || (schema.contains_key("const") && !is("object"))
}
