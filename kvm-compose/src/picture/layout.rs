//! Where everything stands. Whole numbers only, so that the same topology gives the same bytes everywhere.
//!
//! ```text
//!        ⬡ r1                    routers, each above the middle of its switches
//!    ┌────┴───────────┐          a lane per router
//! ══ clients ══   ══ servers ══  a bar per switch, as wide as its guests
//!   │a  │b  │c       │web        few guests hang in a row, many in columns beside a line each
//! ```

use std::collections::BTreeMap;

use crate::{
    names::NetworkName,
    topology::{Guest, Topology},
};

/// A guest's width.
pub const GUEST_WIDTH: i32 = 152;
/// A switch's bar.
pub const BAR_HEIGHT: i32 = 32;
/// A router.
pub const ROUTER: (i32, i32) = (128, 36);
/// One line of text in a guest.
pub const LINE: i32 = 15;

const GUEST_HEAD: i32 = 30;
const GAP: (i32, i32) = (26, 12);
const MARGIN: i32 = 14;
const BETWEEN: i32 = 36;
const HANG: i32 = 20;
const WIDEST: i32 = 1240;
const NARROWEST_BAR: i32 = 240;
/// More guests than this on a switch stand in columns.
const ROW: usize = 6;
/// Columns of a switch with many guests.
const COLUMNS: usize = 6;
/// Lines of addresses in a guest; more are counted.
pub const ADDRESSES: usize = 3;

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Box {
    pub x: i32,
    pub y: i32,
    pub width: i32,
    pub height: i32,
}

impl Box {
    pub fn middle(&self) -> i32 {
        self.x + self.width / 2
    }

    pub fn bottom(&self) -> i32 {
        self.y + self.height
    }
}

/// A line that turns at right angles.
pub type Path = Vec<(i32, i32)>;

/// Everything with its place.
#[derive(Debug, Default)]
pub struct Layout {
    pub width: i32,
    pub height: i32,
    /// In the topology's order.
    pub routers: Vec<Box>,
    /// In the topology's order.
    pub switches: Vec<Box>,
    /// In the topology's order.
    pub guests: Vec<Option<Box>>,
    /// From switches to their guests.
    pub wires: Vec<Path>,
    /// From guests to further switches: two ends.
    pub further: Vec<((i32, i32), (i32, i32))>,
    /// From routers to switches: the line, and (router, port) for its label.
    pub trunks: Vec<(Path, (usize, usize))>,
}

/// A switch with the guests that hang from it; none is the place of guests without a network.
struct Group {
    switch: Option<usize>,
    guests: Vec<usize>,
    columns: usize,
    place: (usize, i32),
    width: i32,
}

/// Decides where everything stands.
pub fn lay_out(topology: &Topology) -> Layout {
    let lines = topology.guests.iter().map(|guest| guest.nics.len().clamp(1, ADDRESSES)).max().unwrap_or(1);
    let tall = GUEST_HEAD + LINE * i32::try_from(lines).unwrap_or(1);
    let mut groups = groups(topology);
    let rows = flow(&mut groups);
    let mut layout = Layout {
        routers: Vec::new(),
        switches: vec![Box { x: 0, y: 0, width: 0, height: 0 }; topology.switches.len()],
        guests: vec![None; topology.guests.len()],
        ..Layout::default()
    };
    let lanes = i32::try_from(topology.routers.len()).unwrap_or(0);
    let gutter = if rows > 1 { 10 * lanes } else { 0 };
    let head = if topology.routers.is_empty() { MARGIN } else { MARGIN + ROUTER.1 };
    let channel = if lanes == 0 { 8 } else { 26 + 9 * lanes };
    let mut top = head;
    let mut tops = Vec::new();
    for row in 0..rows {
        tops.push(top);
        let mut lowest = top + channel + BAR_HEIGHT;
        for group in groups.iter().filter(|group| group.place.0 == row) {
            lowest = lowest.max(hang(&mut layout, group, (MARGIN + gutter + group.place.1, top + channel), tall));
            layout.width = layout.width.max(MARGIN + gutter + group.place.1 + group.width + MARGIN);
        }
        top = lowest + BETWEEN / 2;
    }
    layout.height = top - BETWEEN / 2 + MARGIN;
    connect_further(topology, &mut layout, &groups);
    place_routers(topology, &mut layout);
    connect_routers(topology, &mut layout, &tops, &groups, channel);
    layout
}

/// Switches with their guests, those of a router beside each other. A guest hangs from the switch of its first interface.
fn groups(topology: &Topology) -> Vec<Group> {
    let mut order: Vec<usize> = (0..topology.switches.len()).collect();
    let router_of = |name: &NetworkName| topology.routers.iter().position(|router| router.ports.iter().any(|port| port.switch == *name));
    order.sort_by_key(|&index| (router_of(&topology.switches[index].name).unwrap_or(usize::MAX), index));
    let mut groups: Vec<Group> = order.into_iter().map(|index| group(Some(index), Vec::new())).collect();
    let mut loose = Vec::new();
    for (index, guest) in topology.guests.iter().enumerate() {
        let home = home(topology, guest);
        match home.and_then(|home| groups.iter_mut().find(|group| group.switch == Some(home))) {
            Some(group) => group.guests.push(index),
            None => loose.push(index),
        }
    }
    if !loose.is_empty() {
        groups.push(group(None, loose));
    }
    for group in &mut groups {
        let count = group.guests.len();
        group.columns = if count <= ROW { count.max(1) } else { COLUMNS };
        let columns = i32::try_from(group.columns).unwrap_or(1);
        group.width = (columns * (GUEST_WIDTH + GAP.0)).max(NARROWEST_BAR);
    }
    groups
}

fn group(switch: Option<usize>, guests: Vec<usize>) -> Group {
    Group { switch, guests, columns: 1, place: (0, 0), width: 0 }
}

fn home(topology: &Topology, guest: &Guest) -> Option<usize> {
    let first = guest.nics.first()?;
    topology.switches.iter().position(|switch| switch.name == first.switch)
}

/// Puts groups into rows, as words into lines; returns how many rows there are.
fn flow(groups: &mut [Group]) -> usize {
    let (mut row, mut x) = (0, 0);
    for group in groups.iter_mut() {
        if x > 0 && x + group.width > WIDEST {
            (row, x) = (row + 1, 0);
        }
        group.place = (row, x);
        x += group.width + BETWEEN;
    }
    if groups.is_empty() { 0 } else { row + 1 }
}

/// Places a switch and what hangs from it; returns how far down that reaches.
fn hang(layout: &mut Layout, group: &Group, (x, y): (i32, i32), tall: i32) -> i32 {
    if let Some(switch) = group.switch {
        layout.switches[switch] = Box { x, y, width: group.width, height: BAR_HEIGHT };
    }
    let bar = y + BAR_HEIGHT;
    let mut lowest = bar;
    let in_columns = group.guests.len() > group.columns;
    let columns = i32::try_from(group.columns).unwrap_or(1);
    // Centred below its bar.
    let inset = (group.width - columns * (GUEST_WIDTH + GAP.0)) / 2;
    let mut deepest: BTreeMap<i32, i32> = BTreeMap::new();
    for (place, &guest) in group.guests.iter().enumerate() {
        let column = i32::try_from(place % group.columns).unwrap_or(0);
        let row = i32::try_from(place / group.columns).unwrap_or(0);
        let left = x + inset + column * (GUEST_WIDTH + GAP.0) + if in_columns { GAP.0 } else { GAP.0 / 2 };
        let tile = Box { x: left, y: bar + HANG + row * (tall + GAP.1), width: GUEST_WIDTH, height: tall };
        layout.guests[guest] = Some(tile);
        lowest = lowest.max(tile.bottom());
        if group.switch.is_none() {
            continue;
        }
        if in_columns {
            let line = left - GAP.0 / 2;
            let middle = tile.y + tall / 2;
            layout.wires.push(vec![(line, middle), (left, middle)]);
            deepest.insert(line, middle);
        } else {
            layout.wires.push(vec![(tile.middle(), bar), (tile.middle(), tile.y)]);
        }
    }
    layout.wires.extend(deepest.into_iter().map(|(line, depth)| vec![(line, bar), (line, depth)]));
    lowest
}

/// Lines from guests with several interfaces to the switches that they do not hang from.
fn connect_further(topology: &Topology, layout: &mut Layout, groups: &[Group]) {
    for group in groups {
        for &index in &group.guests {
            let Some(tile) = layout.guests[index] else { continue };
            for nic in topology.guests[index].nics.iter().skip(1) {
                let Some(switch) = topology.switches.iter().position(|switch| switch.name == nic.switch) else { continue };
                if Some(switch) == group.switch {
                    continue;
                }
                let bar = layout.switches[switch];
                let end_x = tile.middle().clamp(bar.x + 10, bar.x + bar.width - 10);
                let ends = if bar.y > tile.y {
                    ((tile.middle(), tile.bottom()), (end_x, bar.y))
                } else {
                    ((tile.x + tile.width, tile.y + tile.height / 2), (end_x, bar.bottom()))
                };
                layout.further.push(ends);
            }
        }
    }
}

/// Each router above the middle of its switches, none over another.
fn place_routers(topology: &Topology, layout: &mut Layout) {
    let wanted = topology.routers.iter().map(|router| {
        let bars = router.ports.iter().filter_map(|port| bar_of(topology, layout, &port.switch));
        let (sum, count) = bars.fold((0, 0), |(sum, count), bar| (sum + bar.middle(), count + 1));
        if count == 0 { ROUTER.0 } else { sum / count }
    });
    let mut wanted: Vec<(i32, usize)> = wanted.zip(0..).collect();
    layout.routers = vec![Box { x: MARGIN, y: MARGIN, width: ROUTER.0, height: ROUTER.1 }; wanted.len()];
    wanted.sort_unstable();
    let mut free = MARGIN;
    for (middle, index) in wanted {
        let x = (middle - ROUTER.0 / 2).max(free);
        layout.routers[index].x = x;
        free = x + ROUTER.0 + 24;
        layout.width = layout.width.max(x + ROUTER.0 + MARGIN);
    }
}

fn bar_of(topology: &Topology, layout: &Layout, switch: &NetworkName) -> Option<Box> {
    let index = topology.switches.iter().position(|found| found.name == *switch)?;
    layout.switches.get(index).copied()
}

/// Lines from routers to bars, each router in a lane of its own; those to a lower row go down at the left edge.
fn connect_routers(topology: &Topology, layout: &mut Layout, tops: &[i32], groups: &[Group], channel: i32) {
    let mut taken: BTreeMap<usize, i32> = BTreeMap::new();
    let ports_on =
        |switch: &NetworkName| topology.routers.iter().flat_map(|router| &router.ports).filter(|port| port.switch == *switch).count();
    for (index, router) in topology.routers.iter().enumerate() {
        let lane = i32::try_from(index).unwrap_or(0) * 9 + 8;
        let from = layout.routers[index];
        for (port_index, port) in router.ports.iter().enumerate() {
            let Some(switch) = topology.switches.iter().position(|switch| switch.name == port.switch) else { continue };
            let Some(row) = groups.iter().find(|group| group.switch == Some(switch)).map(|group| group.place.0) else { continue };
            let bar = layout.switches[switch];
            let place = taken.entry(switch).or_default();
            *place += 1;
            let to = bar.x + bar.width * *place / (i32::try_from(ports_on(&port.switch)).unwrap_or(1) + 1);
            let mut path = vec![(from.middle(), from.bottom()), (from.middle(), tops[0] + lane)];
            if row > 0 {
                let edge = 6 + i32::try_from(index).unwrap_or(0) * 10;
                path.extend([(edge, tops[0] + lane), (edge, tops[row] + lane)]);
            }
            path.extend([(to, tops[row] + lane), (to, tops[row] + channel)]);
            layout.trunks.push((path, (index, port_index)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        names::DeploymentName,
        topology::{Leases, load},
    };

    fn topology(guests: usize) -> Topology {
        let mut yaml = String::from(if guests == 0 { "machines: []\n" } else { "machines:\n" });
        for index in 0..guests {
            yaml.push_str(&format!(
                "  - {{name: g{index}, micro: {{}}, network: [{{switch: s{}}}, {{switch: s{}}}]}}\n",
                index % 4,
                index % 5
            ));
        }
        yaml.push_str("network:\n  ovn:\n    switches:\n");
        (0..6).for_each(|index| yaml.push_str(&format!("      s{index}: {{subnet: 10.0.{index}.0/24}}\n")));
        yaml.push_str("    routers:\n");
        for router in 0..3 {
            yaml.push_str(&format!("      r{router}:\n        ports:\n"));
            for index in router..6 {
                yaml.push_str(&format!(
                    "          - {{name: r{router}-{index}, gateway_ip: 10.0.{index}.{}/24, switch: s{index}}}\n",
                    router + 1
                ));
            }
        }
        let name = DeploymentName::new("lab").expect("a name");
        load("f", &yaml, &name, &Leases::new()).unwrap_or_else(|problem| panic!("{problem:?}")).topology
    }

    #[test]
    fn nothing_overlaps_and_nothing_is_outside() {
        for guests in [0, 1, 6, 7, 50, 120] {
            let topology = topology(guests);
            let layout = lay_out(&topology);
            let guests = layout.guests.iter().map(|place| place.expect("every guest has a place"));
            let all: Vec<Box> = guests.chain(layout.switches.iter().copied()).chain(layout.routers.iter().copied()).collect();
            for (index, one) in all.iter().enumerate() {
                assert!(one.x >= 0 && one.y >= 0 && one.x + one.width <= layout.width && one.bottom() <= layout.height, "{one:?}");
                for other in &all[index + 1..] {
                    let apart = one.x + one.width <= other.x
                        || other.x + other.width <= one.x
                        || one.bottom() <= other.y
                        || other.bottom() <= one.y;
                    assert!(apart, "{one:?} {other:?}");
                }
            }
            for (path, _) in &layout.trunks {
                assert!(path.iter().all(|(x, y)| (0..=layout.width).contains(x) && (0..=layout.height).contains(y)), "{path:?}");
            }
        }
    }
}
