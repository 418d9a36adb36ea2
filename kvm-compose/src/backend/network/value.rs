//! Columns of the northbound database: which we manage, and how their values read and write.
//!
//! The convention, which `plan::lower` follows so that what is written equals what is read back:
//!
//! - a column of exactly one string is `Text`, and so is one of a whole number, in digits;
//! - an optional string or boolean is `Text` or `Flag` when it is there and absent from the map when it is not;
//! - a set of strings is `Set`, sorted, also when empty;
//! - a map is `Map`, also when empty;
//! - references are `Refs`, sorted by key, also when empty; `?<uuid>` stands for a row that is not the deployment's;
//! - `external_ids` is a `Map` of everything but our four marks.
//!
//! Pure. Must not know sockets.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    error::Problem,
    plan::blueprint::{Column, RowKey, Table},
};

/// How a column's values look (RFC 7047 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Exactly one string.
    Text,
    /// Exactly one whole number; its digits are the `Text`.
    Integer,
    /// None or one string.
    OptionalText,
    /// None or one boolean.
    OptionalFlag,
    /// Any number of strings.
    Set,
    /// Strings by string.
    Map,
    /// References.
    Refs,
}

/// The columns that a blueprint may manage, `external_ids` apart, which every table has.
pub const fn managed(table: Table) -> &'static [(&'static str, Kind)] {
    match table {
        Table::LogicalSwitch => {
            &[("name", Kind::Text), ("other_config", Kind::Map), ("dns_records", Kind::Refs), ("load_balancer", Kind::Refs)]
        }
        Table::LogicalSwitchPort => &[
            ("name", Kind::Text),
            ("type", Kind::Text),
            ("addresses", Kind::Set),
            ("port_security", Kind::Set),
            ("options", Kind::Map),
            ("enabled", Kind::OptionalFlag),
            ("dhcpv4_options", Kind::Refs),
            ("dhcpv6_options", Kind::Refs),
        ],
        Table::LogicalRouter => {
            &[("name", Kind::Text), ("options", Kind::Map), ("enabled", Kind::OptionalFlag), ("load_balancer", Kind::Refs)]
        }
        Table::LogicalRouterPort => &[
            ("name", Kind::Text),
            ("mac", Kind::Text),
            ("networks", Kind::Set),
            ("options", Kind::Map),
            ("ipv6_ra_configs", Kind::Map),
            ("enabled", Kind::OptionalFlag),
            ("peer", Kind::OptionalText),
        ],
        Table::StaticRoute => {
            &[("ip_prefix", Kind::Text), ("nexthop", Kind::Text), ("policy", Kind::OptionalText), ("output_port", Kind::OptionalText)]
        }
        Table::DhcpOptions => &[("cidr", Kind::Text), ("options", Kind::Map)],
        Table::Dns => &[("records", Kind::Map)],
        Table::LoadBalancer => &[("name", Kind::Text), ("vips", Kind::Map), ("protocol", Kind::OptionalText)],
        Table::Acl => &[("direction", Kind::Text), ("priority", Kind::Integer), ("match", Kind::Text), ("action", Kind::Text)],
        Table::Nat => &[("type", Kind::Text), ("external_ip", Kind::Text), ("logical_ip", Kind::Text), ("options", Kind::Map)],
        Table::GatewayChassis => &[("name", Kind::Text), ("chassis_name", Kind::Text), ("priority", Kind::Integer)],
    }
}

/// The columns of a table that list rows of other tables as their parts.
pub const fn lists(table: Table) -> &'static [&'static str] {
    match table {
        Table::LogicalSwitch => &["ports", "acls"],
        Table::LogicalRouter => &["ports", "static_routes", "nat"],
        Table::LogicalRouterPort => &["gateway_chassis"],
        _ => &[],
    }
}

/// The column that holds our marks.
pub const EXTERNAL_IDS: &str = "external_ids";

/// Reads a value; `None` when the column is absent or is not what the schema says.
pub fn read(kind: Kind, value: &Value, key_of: &dyn Fn(Uuid) -> RowKey) -> Option<Column> {
    match kind {
        Kind::Text => value.as_str().map(|text| Column::Text(text.to_string())),
        Kind::Integer => value.as_i64().map(|number| Column::Text(number.to_string())),
        Kind::OptionalText => elements(value).first()?.as_str().map(|text| Column::Text(text.to_string())),
        Kind::OptionalFlag => elements(value).first()?.as_bool().map(Column::Flag),
        Kind::Set => {
            let mut texts: Vec<String> = elements(value).iter().filter_map(|element| element.as_str().map(str::to_string)).collect();
            texts.sort();
            Some(Column::Set(texts))
        }
        Kind::Map => read_map(value).map(Column::Map),
        Kind::Refs => {
            let mut keys: Vec<RowKey> = read_refs(value).into_iter().map(key_of).collect();
            keys.sort();
            Some(Column::Refs(keys))
        }
    }
}

/// Reads a map of strings.
pub fn read_map(value: &Value) -> Option<BTreeMap<String, String>> {
    let [tag, Value::Array(pairs)] = value.as_array()?.as_slice() else { return None };
    (tag == "map").then(|| {
        let pair = |pair: &Value| Some((pair.get(0)?.as_str()?.to_string(), pair.get(1)?.as_str()?.to_string()));
        pairs.iter().filter_map(pair).collect()
    })
}

/// Reads references.
pub fn read_refs(value: &Value) -> Vec<Uuid> {
    elements(value).iter().filter_map(read_uuid).collect()
}

/// Reads one reference.
pub fn read_uuid(value: &Value) -> Option<Uuid> {
    match value.as_array()?.as_slice() {
        [tag, Value::String(uuid)] if tag == "uuid" => Uuid::parse_str(uuid).ok(),
        _ => None,
    }
}

/// The elements of a set; a set of one may stand without its brackets.
pub fn elements(value: &Value) -> &[Value] {
    match value.as_array().map(Vec::as_slice) {
        Some([tag, Value::Array(elements)]) if tag == "set" => elements,
        _ => std::slice::from_ref(value),
    }
}

/// Writes a value. Fails when the blueprint's value is not what the column holds, or names a row that is not there.
pub fn write(kind: Kind, column: &Column, reference: &dyn Fn(&RowKey) -> Result<Value, Problem>) -> Result<Value, Problem> {
    Ok(match (kind, column) {
        (Kind::Text | Kind::OptionalText, Column::Text(text)) => json!(text),
        (Kind::Integer, Column::Text(digits)) => {
            let number: i64 = digits.parse().map_err(|_| Problem::internal(format!("`{digits}` is not a whole number")))?;
            json!(number)
        }
        (Kind::OptionalFlag, Column::Flag(flag)) => json!(flag),
        (Kind::OptionalText | Kind::OptionalFlag, Column::Set(none)) if none.is_empty() => json!(["set", []]),
        (Kind::Set, Column::Set(texts)) => json!(["set", texts]),
        (Kind::Map, Column::Map(map)) => write_map(map),
        (Kind::Refs, Column::Refs(keys)) => {
            let references: Result<Vec<Value>, Problem> = keys.iter().map(reference).collect();
            json!(["set", references?])
        }
        _ => return Err(Problem::internal(format!("a column of kind {kind:?} cannot hold {column:?}"))),
    })
}

/// Writes a map of strings.
pub fn write_map(map: &BTreeMap<String, String>) -> Value {
    json!(["map", map.iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>()])
}

/// Writes a row of managed columns as a JSON object.
pub fn write_columns(
    table: Table,
    columns: &BTreeMap<String, Column>,
    reference: &dyn Fn(&RowKey) -> Result<Value, Problem>,
) -> Result<Map<String, Value>, Problem> {
    let mut row = Map::new();
    for (name, column) in columns.iter().filter(|(name, _)| *name != EXTERNAL_IDS) {
        let Some((_, kind)) = managed(table).iter().find(|(managed, _)| managed == name) else {
            return Err(Problem::internal(format!("column `{name}` of `{}` is not managed", table.name())));
        };
        row.insert(name.clone(), write(*kind, column, reference)?);
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(uuid: Uuid) -> RowKey {
        RowKey(format!("k/{}", uuid.as_u128()))
    }

    fn reference(key: &RowKey) -> Result<Value, Problem> {
        let number = key.0.trim_start_matches("k/").parse().map(Uuid::from_u128).map_err(|_| Problem::internal("no such row"))?;
        Ok(json!(["uuid", number.to_string()]))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let map = BTreeMap::from([("a".to_string(), "1".to_string())]);
        for (kind, column) in [
            (Kind::Text, Column::Text(String::new())),
            (Kind::Integer, Column::Text("1000".into())),
            (Kind::OptionalText, Column::Text("x".into())),
            (Kind::OptionalFlag, Column::Flag(true)),
            (Kind::Set, Column::Set(vec![])),
            (Kind::Set, Column::Set(vec!["a".into(), "b".into()])),
            (Kind::Map, Column::Map(BTreeMap::new())),
            (Kind::Map, Column::Map(map)),
            (Kind::Refs, Column::Refs(vec![])),
            (Kind::Refs, Column::Refs(vec![RowKey("k/1".into()), RowKey("k/2".into())])),
        ] {
            let written = write(kind, &column, &reference).expect("writable");
            assert_eq!(read(kind, &written, &key_of), Some(column), "{written}");
        }
    }

    #[test]
    fn a_set_of_one_without_brackets_is_a_set() {
        assert_eq!(read(Kind::Set, &json!("a"), &key_of), Some(Column::Set(vec!["a".into()])));
        let bare = json!(["uuid", Uuid::from_u128(3).to_string()]);
        assert_eq!(read(Kind::Refs, &bare, &key_of), Some(Column::Refs(vec![RowKey("k/3".into())])));
        assert_eq!(read(Kind::OptionalFlag, &json!(["set", []]), &key_of), None);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        assert!(write(Kind::Map, &Column::Text("x".into()), &reference).is_err());
        assert!(write(Kind::Refs, &Column::Refs(vec![RowKey("other".into())]), &reference).is_err());
        let unknown = BTreeMap::from([("up".to_string(), Column::Flag(true))]);
        assert!(write_columns(Table::LogicalSwitchPort, &unknown, &reference).is_err());
    }
}
