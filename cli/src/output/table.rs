//! Tables: columns with two spaces between them; as wide as the terminal on one, else as wide as they are.

use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table, presets};
use kvm_compose::{api::GuestState, orchestrate::event::clean};

/// A table with a heading and rows. No heading at all when there are no rows and `empty` says so instead.
pub fn table(heading: &[&str], rows: Vec<Vec<String>>, empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_string();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let arrangement = if std::io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
    table.set_header(heading.iter().map(|word| word.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| clean(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

/// `name: value` lines, aligned.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    pairs.iter().map(|(name, value)| format!("{:width$} {}\n", format!("{name}:"), clean(value))).collect()
}

/// Guests, as `ps` and `up` show them.
pub fn guests<'a>(guests: impl IntoIterator<Item = &'a GuestState>) -> String {
    let rows = guests.into_iter().map(guest_row).collect();
    table(&GUEST_HEADING, rows, "no guests")
}

pub const GUEST_HEADING: [&str; 8] = ["name", "kind", "state", "ready", "host", "addresses", "cpus", "memory"];

/// One guest's row.
pub fn guest_row(guest: &GuestState) -> Vec<String> {
    let addresses: Vec<String> = guest.nics.iter().filter_map(|nic| nic.address.map(|address| address.to_string())).collect();
    let state = if guest.wanted { guest.state.clone() } else { format!("{} (not in the file)", guest.state) };
    vec![
        guest.name.to_string(),
        guest.kind.clone(),
        state,
        if guest.ready { "yes" } else { "no" }.to_string(),
        or_dash(&guest.host),
        or_dash(&addresses.join(", ")),
        // A container has no number of its own.
        if guest.cpus == 0 { "-".to_string() } else { guest.cpus.to_string() },
        if guest.memory_mb == 0 { "-".to_string() } else { format!("{} MiB", guest.memory_mb) },
    ]
}

/// An empty cell is drawn as `-`, so that columns can be counted.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_string() } else { text.to_string() }
}

/// A number of bytes in words.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = count as f64 / 1024.0;
    let mut unit = 0;
    if count < 1024 {
        return format!("{count} B");
    }
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_trailing_blanks_and_no_control_characters() {
        let rows = vec![vec!["a\x1b[2J".into(), "1".into()], vec!["longer".into(), String::new()]];
        assert_eq!(table(&["name", "n"], rows, "none"), "NAME    N\na[2J    1\nlonger");
        assert_eq!(table(&["name"], Vec::new(), "none"), "none");
    }

    #[test]
    fn sizes() {
        assert_eq!((bytes(0), bytes(1536), bytes(5 << 30)), ("0 B".into(), "1.5 KiB".into(), "5.0 GiB".into()));
    }
}
