//! From a change of the network to the operations of one transaction.
//!
//! Pure: rows that were seen and a change in, operations out. Each operation comes with the key it is about. An insert of a
//! row that is there is an update; a delete of a row that is not is nothing. Must not know sockets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    seen::{DEPLOYMENT, INSTALLATION, KEY, OPERATION, Seen},
    value::{self, EXTERNAL_IDS},
};
use crate::{
    backend::Owner,
    error::{Code, Problem},
    plan::{
        blueprint::{Column, Row, RowKey, Table},
        step::{NetworkChange, RowMove},
    },
};

/// The operations, each with a label for messages.
pub fn operations(owner: &Owner, operation: Uuid, change: &NetworkChange, seen: &[Seen]) -> Result<Vec<(String, Value)>, Problem> {
    let builder = Builder::new(owner, operation, change, seen);
    let mut operations: Vec<(String, Value)> = builder.gone.iter().flat_map(|seen| builder.delete(seen)).collect();
    for row in &change.insert {
        match builder.there.get(&row.key) {
            Some(seen) => operations.extend(builder.align(row, seen)?),
            None => operations.push(builder.insert(row)?),
        }
    }
    operations.extend(builder.list_new_rows()?);
    for update in &change.update {
        let Some(seen) = builder.there.get(&update.key) else { return Err(vanished(&update.key)) };
        operations.push(builder.set(&update.key, update.table, &update.to, seen)?);
        operations.extend(update.moved.as_ref().and_then(|moved| builder.leave(&update.key, moved, seen)));
    }
    Ok(operations)
}

fn vanished(key: &RowKey) -> Problem {
    Problem::new(Code::Ovn, format!("the network row `{key}` is not there"))
        .hint("something else changed the network; run the command again")
}

struct Builder<'a> {
    owner: &'a Owner,
    operation: Uuid,
    /// Rows that are there, by their ids.
    by_id: BTreeMap<Uuid, &'a Seen>,
    /// Rows that are there and stay.
    there: BTreeMap<&'a RowKey, &'a Seen>,
    /// Rows that are there and go.
    gone: Vec<&'a Seen>,
    /// Rows that this transaction makes, with the names it knows them by.
    new: BTreeMap<&'a RowKey, String>,
    /// (parent, column) → parts that this transaction makes.
    parts: BTreeMap<(&'a RowKey, &'a str), Vec<&'a RowKey>>,
}

impl<'a> Builder<'a> {
    fn new(owner: &'a Owner, operation: Uuid, change: &'a NetworkChange, seen: &'a [Seen]) -> Self {
        let wanted: BTreeMap<&RowKey, &Row> = change.insert.iter().map(|row| (&row.key, row)).collect();
        let deleted: BTreeSet<&RowKey> = change.delete.iter().map(|row| &row.key).collect();
        // A row that is to be made again in another place may stand there already, when the change is repeated.
        let mut in_place: BTreeMap<&RowKey, Vec<Uuid>> = BTreeMap::new();
        for row in seen.iter().filter(|row| wanted.get(&row.row.key).is_some_and(|wanted| is_in_place(row, wanted))) {
            in_place.entry(&row.row.key).or_default().push(row.row.uuid);
        }
        let stays = |row: &&Seen| {
            !deleted.contains(&row.row.key) || in_place.get(&row.row.key).and_then(|rows| rows.first()) == Some(&row.row.uuid)
        };
        let (kept, gone): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(stays);
        let there: BTreeMap<&RowKey, &Seen> = kept.into_iter().map(|seen| (&seen.row.key, seen)).collect();
        let made = wanted.keys().filter(|key| !there.contains_key(*key));
        let new: BTreeMap<&RowKey, String> = made.enumerate().map(|(n, key)| (*key, format!("row{n}"))).collect();
        let mut parts: BTreeMap<(&RowKey, &str), Vec<&RowKey>> = BTreeMap::new();
        for row in change.insert.iter().filter(|row| new.contains_key(&row.key)) {
            if let Some((parent, column)) = &row.parent {
                parts.entry((parent, column)).or_default().push(&row.key);
            }
        }
        // A row that moves is listed where it goes, unless it is there already.
        for (update, moved) in change.update.iter().filter_map(|update| Some((update, update.moved.as_ref()?))) {
            let listed = there.get(&update.key).and_then(|seen| seen.row.parent.as_ref());
            if listed != Some(&moved.to.0) {
                parts.entry((&moved.to.0, &moved.to.1)).or_default().push(&update.key);
            }
        }
        let by_id = seen.iter().map(|seen| (seen.row.uuid, seen)).collect();
        Builder { owner, operation, by_id, there, gone, new, parts }
    }

    fn reference(&self, key: &RowKey) -> Result<Value, Problem> {
        if let Some(seen) = self.there.get(key) {
            return Ok(json!(["uuid", seen.row.uuid.to_string()]));
        }
        if let Some(name) = self.new.get(key) {
            return Ok(json!(["named-uuid", name]));
        }
        match key.0.strip_prefix('?').and_then(|text| Uuid::parse_str(text).ok()) {
            Some(uuid) => Ok(json!(["uuid", uuid.to_string()])),
            None => Err(vanished(key)),
        }
    }

    /// `external_ids` of a row: the blueprint's own, and our marks over them.
    fn external_ids(&self, key: &RowKey, own: Option<&Column>) -> Value {
        let mut ids = match own {
            Some(Column::Map(own)) => own.clone(),
            _ => BTreeMap::new(),
        };
        ids.insert(INSTALLATION.to_string(), self.owner.installation.to_string());
        ids.insert(DEPLOYMENT.to_string(), self.owner.deployment.to_string());
        ids.insert(KEY.to_string(), key.to_string());
        ids.insert(OPERATION.to_string(), self.operation.to_string());
        value::write_map(&ids)
    }

    fn insert(&self, row: &Row) -> Result<(String, Value), Problem> {
        let mut columns = value::write_columns(row.table, &row.columns, &|key| self.reference(key))?;
        columns.insert(EXTERNAL_IDS.to_string(), self.external_ids(&row.key, row.columns.get(EXTERNAL_IDS)));
        // Parts of a row that this transaction makes too are listed from the start.
        let own = self.parts.range((&row.key, "")..).take_while(|((parent, _), _)| **parent == row.key);
        for ((_, column), parts) in own {
            let parts: Result<Vec<Value>, Problem> = parts.iter().map(|part| self.reference(part)).collect();
            columns.insert((*column).to_string(), json!(["set", parts?]));
        }
        let name = &self.new[&row.key];
        Ok((format!("insert `{}`", row.key), json!({"op": "insert", "table": row.table.name(), "row": columns, "uuid-name": name})))
    }

    /// Lists new rows in parents that are there already.
    fn list_new_rows(&self) -> Result<Vec<(String, Value)>, Problem> {
        let mut operations = Vec::new();
        for ((parent, column), parts) in self.parts.iter().filter(|((parent, _), _)| !self.new.contains_key(*parent)) {
            let seen = self.there.get(*parent).ok_or_else(|| vanished(parent))?;
            let parts: Result<Vec<Value>, Problem> = parts.iter().map(|part| self.reference(part)).collect();
            operations.push((format!("parts of `{parent}`"), mutate(seen.row.table, seen.row.uuid, column, "insert", &parts?)));
        }
        Ok(operations)
    }

    /// Makes a row that is there already what an insert of it would have made.
    fn align(&self, row: &Row, seen: &Seen) -> Result<Vec<(String, Value)>, Problem> {
        let mut operations = vec![self.set(&row.key, row.table, &row.columns, seen)?];
        if let Some((parent, column)) = &row.parent {
            let part = [self.reference(&row.key)?];
            let right = self.there.get(parent);
            let is_right = right.is_some_and(|parent| seen.listed_in == Some((parent.row.uuid, column)));
            if let (Some((old, old_column)), false) = (seen.listed_in, is_right)
                && let Some(old) = self.there.values().find(|row| row.row.uuid == old)
            {
                operations.push((format!("parts of `{}`", old.row.key), mutate(old.row.table, old.row.uuid, old_column, "delete", &part)));
            }
            if let (Some(parent), false) = (right, is_right) {
                let listing = mutate(parent.row.table, parent.row.uuid, column, "insert", &part);
                operations.push((format!("parts of `{}`", parent.row.key), listing));
            }
        }
        Ok(operations)
    }

    /// Takes a row that moves out of the list where it is; a list that goes needs nothing.
    fn leave(&self, key: &RowKey, moved: &RowMove, seen: &Seen) -> Option<(String, Value)> {
        let (old, column) = seen.listed_in?;
        let parent = self.there.values().find(|row| row.row.uuid == old && row.row.key != moved.to.0)?;
        let part = [json!(["uuid", seen.row.uuid.to_string()])];
        Some((format!("parts of `{}` without `{key}`", parent.row.key), mutate(parent.row.table, old, column, "delete", &part)))
    }

    fn set(&self, key: &RowKey, table: Table, to: &BTreeMap<String, Column>, seen: &Seen) -> Result<(String, Value), Problem> {
        let mut columns = value::write_columns(table, to, &|key| self.reference(key))?;
        // Without a wish of the blueprint, what others wrote there stays.
        let kept = Column::Map(seen.external_ids.clone());
        columns.insert(EXTERNAL_IDS.to_string(), self.external_ids(key, Some(to.get(EXTERNAL_IDS).unwrap_or(&kept))));
        let what = json!({"op": "update", "table": table.name(), "where": is(seen.row.uuid), "row": columns});
        Ok((format!("update `{key}`"), what))
    }

    /// Takes a row out of the row that lists it, then away; OVN removes an unlisted part by itself, a root row not.
    fn delete(&self, gone: &Seen) -> Vec<(String, Value)> {
        let row = &gone.row;
        let mut operations = Vec::new();
        if let Some((parent, column)) = gone.listed_in
            && let Some(parent) = self.by_id.get(&parent).map(|seen| &seen.row)
        {
            let part = [json!(["uuid", row.uuid.to_string()])];
            operations.push((format!("parts of `{}`", parent.key), mutate(parent.table, parent.uuid, column, "delete", &part)));
        }
        operations.push((format!("delete `{}`", row.key), json!({"op": "delete", "table": row.table.name(), "where": is(row.uuid)})));
        operations
    }
}

/// Is a row that is there of the wanted kind and under the wanted parent?
fn is_in_place(seen: &Seen, wanted: &Row) -> bool {
    seen.row.table == wanted.table && seen.row.parent.as_ref() == wanted.parent.as_ref().map(|(parent, _)| parent)
}

fn is(uuid: Uuid) -> Value {
    json!([["_uuid", "==", ["uuid", uuid.to_string()]]])
}

fn mutate(table: Table, uuid: Uuid, column: &str, how: &str, parts: &[Value]) -> Value {
    json!({"op": "mutate", "table": table.name(), "where": is(uuid), "mutations": [[column, how, ["set", parts]]]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        names::{DeploymentName, InstallationId},
        plan::{
            observed::ObservedRow,
            step::{RowDelete, RowUpdate},
        },
    };

    fn owner() -> Owner {
        Owner { installation: InstallationId(Uuid::from_u128(1)), deployment: DeploymentName::new("d").expect("valid") }
    }

    fn seen(key: &str, table: Table, uuid: u128, listed_in: Option<(u128, &'static str)>) -> Seen {
        let row = ObservedRow { uuid: Uuid::from_u128(uuid), key: RowKey(key.into()), table, columns: BTreeMap::new(), parent: None };
        let external_ids = BTreeMap::from([("theirs".to_string(), "1".to_string())]);
        Seen { row, external_ids, listed_in: listed_in.map(|(uuid, column)| (Uuid::from_u128(uuid), column)) }
    }

    fn port(key: &str, parent: &str) -> Row {
        let columns = BTreeMap::from([("name".to_string(), Column::Text(key.into()))]);
        Row { key: RowKey(key.into()), table: Table::LogicalSwitchPort, columns, parent: Some((RowKey(parent.into()), "ports".into())) }
    }

    fn switch(key: &str) -> Row {
        let columns = BTreeMap::from([("name".to_string(), Column::Text(key.into()))]);
        Row { key: RowKey(key.into()), table: Table::LogicalSwitch, columns, parent: None }
    }

    fn shape(change: &NetworkChange, seen: &[Seen]) -> Vec<String> {
        let operations = operations(&owner(), Uuid::nil(), change, seen).expect("operations");
        operations.iter().map(|(label, op)| format!("{} {label}", op["op"].as_str().unwrap_or("?"))).collect()
    }

    #[test]
    fn a_new_port_of_a_new_switch_is_listed_by_its_insert() {
        let change = NetworkChange { insert: vec![switch("s"), port("p", "s")], ..Default::default() };
        let operations = operations(&owner(), Uuid::nil(), &change, &[]).expect("operations");
        assert_eq!(operations.len(), 2);
        let named = &operations[1].1["uuid-name"];
        assert_eq!(operations[0].1["row"]["ports"], json!(["set", [["named-uuid", named]]]));
        assert!(operations[1].1["row"]["external_ids"].to_string().contains("testbedos-operation"));
    }

    #[test]
    fn a_new_port_of_an_old_switch_is_listed_by_a_mutation() {
        let change = NetworkChange { insert: vec![port("p", "s")], ..Default::default() };
        assert_eq!(shape(&change, &[seen("s", Table::LogicalSwitch, 9, None)]), ["insert insert `p`", "mutate parts of `s`"]);
        assert!(operations(&owner(), Uuid::nil(), &change, &[]).is_err(), "its switch is not there");
    }

    #[test]
    fn an_insert_of_what_is_there_is_an_update_and_moves_it() {
        let change = NetworkChange { insert: vec![port("p", "s")], ..Default::default() };
        let (s, t) = (seen("s", Table::LogicalSwitch, 9, None), seen("t", Table::LogicalSwitch, 8, None));
        let right = seen("p", Table::LogicalSwitchPort, 7, Some((9, "ports")));
        assert_eq!(shape(&change, &[s.clone(), right]), ["update update `p`"]);
        let wrong = seen("p", Table::LogicalSwitchPort, 7, Some((8, "ports")));
        assert_eq!(shape(&change, &[s, t, wrong]), ["update update `p`", "mutate parts of `t`", "mutate parts of `s`"]);
    }

    #[test]
    fn deletes_of_what_is_not_there_are_nothing() {
        let delete = vec![RowDelete { key: RowKey("p".into()), table: Table::LogicalSwitchPort, parent: None, was: None }];
        let change = NetworkChange { delete, ..Default::default() };
        assert!(shape(&change, &[]).is_empty());
        let rows = [seen("s", Table::LogicalSwitch, 9, None), seen("p", Table::LogicalSwitchPort, 7, Some((9, "ports")))];
        assert_eq!(shape(&change, &rows), ["mutate parts of `s`", "delete delete `p`"]);
    }

    #[test]
    fn a_row_that_moves_or_stands_twice_is_made_again_once() {
        let delete = vec![RowDelete { key: RowKey("p".into()), table: Table::LogicalSwitchPort, parent: None, was: None }];
        let change = NetworkChange { insert: vec![port("p", "s")], delete, ..Default::default() };
        let (s, t) = (seen("s", Table::LogicalSwitch, 9, None), seen("t", Table::LogicalSwitch, 8, None));
        let under = |parent: &str, uuid, listed_in| {
            let mut port = seen("p", Table::LogicalSwitchPort, uuid, Some((listed_in, "ports")));
            port.row.parent = Some(RowKey(parent.into()));
            port
        };
        let anew = ["mutate parts of `t`", "delete delete `p`", "insert insert `p`", "mutate parts of `s`"];
        assert_eq!(shape(&change, &[s.clone(), t.clone(), under("t", 7, 8)]), anew);
        assert_eq!(shape(&change, &[s.clone(), under("s", 7, 9)]), ["update update `p`"], "repeated after it was done");
        let twice = [s, under("s", 7, 9), under("s", 6, 9)];
        assert_eq!(shape(&change, &twice), ["mutate parts of `s`", "delete delete `p`", "update update `p`"]);
    }

    #[test]
    fn a_row_that_goes_to_another_list_stays_the_same_row() {
        let at = |parent: &str| (RowKey(parent.into()), "ports".to_string());
        let moved = Some(RowMove { from: at("t"), to: at("s") });
        let update =
            RowUpdate { key: RowKey("p".into()), table: Table::LogicalSwitchPort, to: BTreeMap::new(), from: BTreeMap::new(), moved };
        let change = NetworkChange { update: vec![update.clone()], ..Default::default() };
        let (s, t) = (seen("s", Table::LogicalSwitch, 9, None), seen("t", Table::LogicalSwitch, 8, None));
        let under = |parent: &str, listed_in| {
            let mut port = seen("p", Table::LogicalSwitchPort, 7, Some((listed_in, "ports")));
            port.row.parent = Some(RowKey(parent.into()));
            port
        };
        let there = ["mutate parts of `s`", "update update `p`", "mutate parts of `t` without `p`"];
        assert_eq!(shape(&change, &[s.clone(), t.clone(), under("t", 8)]), there);
        assert_eq!(shape(&change, &[s, t.clone(), under("s", 9)]), ["update update `p`"], "repeated after it was done");
        // To a switch that the same transaction makes, from one that it takes away.
        let delete = vec![RowDelete { key: RowKey("t".into()), table: Table::LogicalSwitch, parent: None, was: None }];
        let change = NetworkChange { insert: vec![switch("s")], update: vec![update], delete };
        assert_eq!(shape(&change, &[t.clone(), under("t", 8)]), ["delete delete `t`", "insert insert `s`", "update update `p`"]);
        let made = operations(&owner(), Uuid::nil(), &change, &[t, under("t", 8)]).expect("operations");
        assert_eq!(made[1].1["row"]["ports"], json!(["set", [["uuid", Uuid::from_u128(7).to_string()]]]));
    }

    #[test]
    fn an_update_keeps_what_others_wrote_and_needs_its_row() {
        let to = BTreeMap::from([("name".to_string(), Column::Text("x".into()))]);
        let update = vec![RowUpdate { key: RowKey("s".into()), table: Table::LogicalSwitch, to, from: BTreeMap::new(), moved: None }];
        let change = NetworkChange { update, ..Default::default() };
        assert!(operations(&owner(), Uuid::nil(), &change, &[]).is_err());
        let done = operations(&owner(), Uuid::nil(), &change, &[seen("s", Table::LogicalSwitch, 9, None)]).expect("operations");
        assert!(done[0].1["row"]["external_ids"].to_string().contains("theirs"));
    }
}
