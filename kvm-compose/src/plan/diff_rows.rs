//! Rows wanted against rows observed → one change of the northbound database.
//!
//! Pure. Only columns that the blueprint manages are compared; others are not ours.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    blueprint::{Column, Row, RowKey, Table},
    observed::ObservedRow,
    step::{NetworkChange, RowDelete, RowMove, RowUpdate},
};

/// The column of a parent that lists rows of a table.
fn parent_column(table: Table) -> &'static str {
    match table {
        Table::StaticRoute => "static_routes",
        Table::Acl => "acls",
        Table::Nat => "nat",
        Table::GatewayChassis => "gateway_chassis",
        _ => "ports",
    }
}

/// The difference, deletes and adds together, in the order in which one transaction can carry it out.
pub fn diff_rows(wanted: &[Row], observed: &[ObservedRow]) -> NetworkChange {
    let mut there: BTreeMap<&RowKey, &ObservedRow> = BTreeMap::new();
    let mut twice: BTreeSet<&RowKey> = BTreeSet::new();
    for row in observed {
        if there.insert(&row.key, row).is_some() {
            twice.insert(&row.key);
        }
    }
    let keys: BTreeSet<&RowKey> = wanted.iter().map(|row| &row.key).collect();
    let mut change = NetworkChange::default();
    for row in wanted {
        match there.get(&row.key) {
            None => change.insert.push(row.clone()),
            // A row cannot change its table, and there is one of each: it is made again.
            Some(old) if twice.contains(&row.key) || old.table != row.table || old.parent.is_some() != row.parent.is_some() => {
                change.delete.push(delete(old));
                change.insert.push(row.clone());
            }
            Some(old) => {
                let differs = |(name, value): &(&String, &Column)| !same(old.columns.get(*name), value);
                let to: BTreeMap<String, Column> =
                    row.columns.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect();
                let moved = match (&old.parent, &row.parent) {
                    (Some(from), Some(to)) if from != &to.0 => Some(RowMove { from: (from.clone(), to.1.clone()), to: to.clone() }),
                    _ => None,
                };
                if !to.is_empty() || moved.is_some() {
                    let from = to
                        .iter()
                        .map(|(name, value)| (name.clone(), old.columns.get(name).cloned().unwrap_or_else(|| empty_like(value))))
                        .collect();
                    change.update.push(RowUpdate { key: row.key.clone(), table: row.table, to, from, moved });
                }
            }
        }
    }
    // Children first: a switch takes its ports along.
    let mut gone: Vec<&ObservedRow> = observed.iter().filter(|row| !keys.contains(&row.key)).collect();
    gone.sort_by_key(|row| (row.parent.is_none(), row.key.clone()));
    change.delete.extend(gone.into_iter().map(delete));
    change
}

fn delete(row: &ObservedRow) -> RowDelete {
    let (key, table) = (row.key.clone(), row.table);
    let parent = row.parent.clone().map(|key| (key, parent_column(row.table).to_string()));
    // A reference to what is not ours cannot be written again.
    let ours = |column: &Column| !matches!(column, Column::Refs(keys) if keys.iter().any(|key| key.0.starts_with('?')));
    let columns = row.columns.iter().filter(|(_, column)| ours(column)).map(|(name, column)| (name.clone(), column.clone())).collect();
    let was = Some(Row { key: key.clone(), table, columns, parent: parent.clone() });
    RowDelete { key, table, parent, was }
}

/// An absent column and an empty one are the same.
fn same(observed: Option<&Column>, wanted: &Column) -> bool {
    match observed {
        Some(column) => column == wanted || (is_empty(column) && is_empty(wanted)),
        None => is_empty(wanted),
    }
}

fn is_empty(column: &Column) -> bool {
    match column {
        Column::Text(text) => text.is_empty(),
        Column::Flag(_) => false,
        Column::Set(items) => items.is_empty(),
        Column::Map(map) => map.is_empty(),
        Column::Refs(refs) => refs.is_empty(),
    }
}

fn empty_like(column: &Column) -> Column {
    match column {
        Column::Text(_) => Column::Text(String::new()),
        Column::Flag(_) => Column::Flag(false),
        Column::Set(_) => Column::Set(Vec::new()),
        Column::Map(_) => Column::Map(BTreeMap::new()),
        Column::Refs(_) => Column::Refs(Vec::new()),
    }
}
