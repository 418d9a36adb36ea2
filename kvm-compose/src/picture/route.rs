//! Which way lines go. Every net has lanes of its own; nothing runs through a box.
//!
//! A zone is the room between two rows of boxes: for each shelf one above its bars and one below them. In a zone a net is
//! one level line with ends that go up or down; zones of one net are joined at the left or the right edge.

use std::collections::BTreeMap;

use super::{
    graph::{End, Graph},
    lanes::{free, lanes},
    layout::{Standing, Top},
    shapes::{Box, Kind, Net},
    shelves::{APART, BAR, Group},
    wiring::{Drawing, drawn, feeder},
};

const MARGIN: i32 = 16;
/// The height of routers and outside networks.
pub const TOPS: i32 = 36;
/// One line of a label.
const LABEL: i32 = 14;
/// Below a shelf.
const BELOW: i32 = 30;

/// A net that runs below bars, and the interfaces that it reaches: (guest, interface).
pub type Under = (Kind, Vec<(usize, usize)>);

/// How high everything of a shelf stands.
#[derive(Debug, Default, Clone, Copy)]
pub struct Shelf {
    /// Its routers.
    pub tops: i32,
    over: i32,
    /// Its bars.
    pub bars: i32,
    under: i32,
    tiles: i32,
}

/// All shelves, and the room that the picture takes.
pub struct Rooms {
    pub shelves: Vec<Shelf>,
    pub left: i32,
    pub width: i32,
    pub height: i32,
}

/// Where a net leaves its level line.
pub struct Tap {
    pub zone: usize,
    pub x: i32,
    pub to: To,
}

/// What it ends at.
pub enum To {
    /// A router or an outside network.
    Top,
    /// A bar, from above.
    BarTop,
    /// A bar, from below.
    BarBottom,
    /// The upper edge of a guest in a single row.
    Guest(usize),
    /// Down beside a column of guests to the right edges of these interfaces, the lowest last.
    Beside(Vec<(usize, usize)>),
}

/// The nets below bars: further interfaces by their switch, and wires.
pub fn unders(graph: &Graph) -> Vec<Under> {
    let mut further: Vec<Vec<(usize, usize)>> = vec![Vec::new(); graph.switches.len()];
    for guest in 0..graph.guests.len() {
        let home = graph.home(guest);
        for (nic, interface) in graph.guests[guest].nics.iter().enumerate() {
            if let Some(End::Switch(switch)) = interface.end.filter(|end| home.map(End::Switch) != Some(*end)) {
                further[switch].push((guest, nic));
            }
        }
    }
    let further = further.into_iter().enumerate().filter(|(_, taps)| !taps.is_empty()).map(|(switch, taps)| (Kind::Further(switch), taps));
    let wires = graph.wires.iter().enumerate().map(|(index, wire)| (Kind::Wire(index), wire.ends.to_vec()));
    further.chain(wires).collect()
}

/// Makes room beside the columns whose guests are reached by nets below bars.
pub fn add_risers(unders: &[Under], groups: &mut [Group], place_of: &[(usize, usize)]) {
    for (net, (_, taps)) in unders.iter().enumerate() {
        for &(guest, _) in taps {
            let (group, place) = place_of[guest];
            let group = &mut groups[group];
            if group.in_rows() {
                let risers = &mut group.risers[place % group.columns];
                if risers.last() != Some(&net) {
                    risers.push(net);
                }
            }
        }
    }
    for risers in groups.iter_mut().flat_map(|group| &mut group.risers) {
        risers.sort_unstable();
        risers.dedup();
    }
}

/// A guest's tile, before the picture's left edge is known.
pub fn tile(group: &Group, place: usize, shelf: &Shelf) -> Box {
    let (down, height) = group.rows[place / group.columns.max(1)];
    Box { x: group.column(place % group.columns.max(1)), y: shelf.tiles + down, width: group.tile, height }
}

/// A place on the edge of something that is so long, for one of so many.
pub fn share(length: i32, index: usize, count: usize) -> i32 {
    let number = |number: usize| i32::try_from(number).unwrap_or(0);
    let share = i64::from(length) * (i64::from(number(index)) + 1) / (i64::from(number(count)) + 1);
    i32::try_from(share).unwrap_or(length)
}

/// All nets, and how high the shelves stand with the lanes that these need.
pub fn route(graph: &Graph, unders: &[Under], standing: &Standing) -> (Vec<Net>, Rooms) {
    let mut nets: Vec<(Kind, Vec<Tap>)> = overs(standing);
    nets.extend(unders_taps(graph, unders, standing));
    nets.retain(|(_, taps)| taps.len() > 1);
    let edges = edges(&nets, standing.width);
    let tracks = |side: bool| edges.iter().flatten().filter(|(right, _)| *right == side).map(|(_, track)| track + 1).max().unwrap_or(0);
    let margin = |tracks: i32| MARGIN + if tracks > 0 { APART * tracks + 6 } else { 0 };
    let (left, right) = (margin(tracks(false)), margin(tracks(true)));
    let edge_of =
        |net: usize| edges[net].map(|(right, track)| if right { standing.width + 14 + APART * track } else { -14 - APART * track });
    // A lane in each zone that a net comes to.
    let mut zones: Vec<Vec<(usize, (i32, i32))>> = vec![Vec::new(); standing.shelves * 2];
    for (net, (_, taps)) in nets.iter().enumerate() {
        let mut of_net: BTreeMap<usize, (i32, i32)> = BTreeMap::new();
        for tap in taps {
            let (low, high) = of_net.entry(tap.zone).or_insert_with(|| edge_of(net).map_or((tap.x, tap.x), |edge| (edge, edge)));
            (*low, *high) = (tap.x.min(*low), tap.x.max(*high));
        }
        of_net.into_iter().for_each(|(zone, run)| zones[zone].push((net, run)));
    }
    let mut lane_of: Vec<Vec<(usize, usize)>> = vec![Vec::new(); nets.len()];
    let mut counts = Vec::new();
    for (zone, runs) in zones.iter().enumerate() {
        let (chosen, count) = lanes(&runs.iter().map(|(_, run)| *run).collect::<Vec<_>>(), APART);
        counts.push(i32::try_from(count).unwrap_or(0));
        runs.iter().zip(chosen).for_each(|((net, _), lane)| lane_of[*net].push((zone, lane)));
    }
    let (shelves, height) = heights(standing, &counts);
    let level = |zone: usize, lane: usize| {
        let shelf = &shelves[zone / 2];
        (if zone.is_multiple_of(2) { shelf.over } else { shelf.under }) + APART * i32::try_from(lane).unwrap_or(0)
    };
    let lines = nets.iter().enumerate().map(|(net, (kind, taps))| {
        let levels: Vec<(usize, i32)> = lane_of[net].iter().map(|(zone, lane)| (*zone, level(*zone, *lane))).collect();
        drawn(*kind, taps, &levels, edge_of(net), &Drawing { graph, standing, shelves: &shelves })
    });
    let mut all: Vec<Net> = standing.groups.iter().filter_map(|group| feeder(graph, group, &shelves[group.shelf])).collect();
    all.extend(lines);
    for (x, _) in all.iter_mut().flat_map(|net| net.lines.iter_mut().flatten().chain(&mut net.joints)) {
        *x += left;
    }
    (all, Rooms { shelves, left, width: left + standing.width + right, height })
}

/// From routers and outside networks to bars.
fn overs(standing: &Standing) -> Vec<(Kind, Vec<Tap>)> {
    let start = |top: &Top| (top.kind, vec![Tap { zone: top.shelf * 2, x: top.pin, to: To::Top }]);
    let mut nets: Vec<(Kind, Vec<Tap>)> = standing.tops.iter().map(start).collect();
    for (switch, pins) in standing.pins.iter().enumerate() {
        let zone = standing.groups[standing.group_of[switch]].shelf * 2;
        for pin in pins {
            nets[pin.top].1.push(Tap { zone, x: pin.x, to: To::BarTop });
        }
    }
    nets
}

/// From bars to guests that hang elsewhere, and between guests.
fn unders_taps(graph: &Graph, unders: &[Under], standing: &Standing) -> Vec<(Kind, Vec<Tap>)> {
    let mut nets = Vec::new();
    // Where lines leave the lower side of bars; no two at one place.
    let mut taken: Vec<Vec<i32>> = standing.groups.iter().map(|group| feeder_lines(graph, group)).collect();
    for (net, (kind, ends)) in unders.iter().enumerate() {
        let mut taps: Vec<Tap> = Vec::new();
        let mut beside_at: BTreeMap<(usize, i32), usize> = BTreeMap::new();
        for &(guest, nic) in ends {
            let (index, place) = standing.place_of[guest];
            let group = &standing.groups[index];
            let (zone, column) = (group.shelf * 2 + 1, place % group.columns.max(1));
            if !group.in_rows() {
                let x = group.column(column) + share(group.tile, nic, graph.guests[guest].nics.len());
                taps.push(Tap { zone, x, to: To::Guest(guest) });
                continue;
            }
            let beside = group.risers[column].binary_search(&net).unwrap_or(0);
            let x = group.column(column) + group.tile + 8 + APART * i32::try_from(beside).unwrap_or(0);
            match beside_at.get(&(zone, x)).and_then(|at| taps.get_mut(*at)) {
                Some(Tap { to: To::Beside(ends), .. }) => ends.push((guest, nic)),
                _ => {
                    beside_at.insert((zone, x), taps.len());
                    taps.push(Tap { zone, x, to: To::Beside(vec![(guest, nic)]) });
                }
            }
        }
        if let Kind::Further(switch) = kind {
            let index = standing.group_of[*switch];
            let group = &standing.groups[index];
            let mean = taps.iter().map(|tap| i64::from(tap.x)).sum::<i64>() / i64::try_from(taps.len().max(1)).unwrap_or(1);
            let inside = (group.x + 12, group.x + group.width - 12);
            let x = free(i32::try_from(mean).unwrap_or(0), inside, risers_of(group, &taken[index]), 5);
            taken[index].push(x);
            taps.push(Tap { zone: group.shelf * 2 + 1, x, to: To::BarBottom });
        }
        nets.push((*kind, taps));
    }
    nets
}

/// What is taken below a group's bar, the room for its risers included.
fn risers_of(group: &Group, taken: &[i32]) -> Vec<i32> {
    let mut all = taken.to_vec();
    for (column, risers) in group.risers.iter().enumerate() {
        let first = group.column(column) + group.tile + 8;
        all.extend((0..risers.len()).map(|riser| first + APART * i32::try_from(riser).unwrap_or(0)));
    }
    all
}

/// Where lines go down from a bar to its own guests, and where those guests' other interfaces are.
fn feeder_lines(graph: &Graph, group: &Group) -> Vec<i32> {
    if group.in_rows() {
        return (0..group.columns).map(|column| group.column(column) - 12).collect();
    }
    let pins = |(place, guest): (usize, &usize)| {
        let count = graph.guests[*guest].nics.len();
        (0..count).map(move |nic| group.column(place) + share(group.tile, nic, count))
    };
    group.guests.iter().enumerate().flat_map(pins).collect()
}

/// For nets in several zones: the edge at which they are joined (the right one?) and the track there.
fn edges(nets: &[(Kind, Vec<Tap>)], width: i32) -> Vec<Option<(bool, i32)>> {
    let mut edges = vec![None; nets.len()];
    for right in [false, true] {
        let mut here = Vec::new();
        for (net, (_, taps)) in nets.iter().enumerate() {
            let (from, to) = taps.iter().fold((usize::MAX, 0), |(from, to), tap| (from.min(tap.zone), to.max(tap.zone)));
            let sum: i64 = taps.iter().map(|tap| i64::from(tap.x)).sum();
            let is_right = sum * 2 > i64::from(width) * i64::try_from(taps.len()).unwrap_or(0);
            if from != to && is_right == right {
                here.push((net, (i32::try_from(from).unwrap_or(0), i32::try_from(to).unwrap_or(0))));
            }
        }
        let (chosen, _) = lanes(&here.iter().map(|(_, run)| *run).collect::<Vec<_>>(), 0);
        here.iter().zip(chosen).for_each(|((net, _), track)| edges[*net] = Some((right, i32::try_from(track).unwrap_or(0))));
    }
    edges
}

fn heights(standing: &Standing, counts: &[i32]) -> (Vec<Shelf>, i32) {
    let mut y = MARGIN;
    let mut shelves = Vec::new();
    let mut on: Vec<(bool, Vec<&Group>)> = vec![(false, Vec::new()); standing.shelves];
    standing.tops.iter().for_each(|top| on[top.shelf].0 = true);
    standing.groups.iter().for_each(|group| on[group.shelf].1.push(group));
    for (index, (is_topped, groups)) in on.iter().enumerate() {
        let tops = if *is_topped { TOPS + 12 } else { 0 };
        let groups = || groups.iter();
        let pins = groups().filter_map(|group| group.switch).flat_map(|switch| &standing.pins[switch]);
        let labels = pins.map(|pin| pin.labels.len()).max().unwrap_or(0);
        let labels = i32::try_from(labels).unwrap_or(0) * LABEL;
        let over = y + tops;
        let bars = over + if counts[index * 2] > 0 { APART * (counts[index * 2] - 1) + labels + 14 } else { 0 };
        // A shelf of guests without a switch has no bars.
        let under = if groups().any(|group| group.switch.is_some()) { bars + BAR + 12 } else { bars };
        let tiles = under + if counts[index * 2 + 1] > 0 { APART * (counts[index * 2 + 1] - 1) + 12 } else { (under - bars).min(10) };
        shelves.push(Shelf { tops: y, over, bars, under, tiles });
        let lowest = groups().filter(|group| !group.guests.is_empty()).map(|group| tiles + group.depth()).max();
        y = lowest.unwrap_or(if counts[index * 2 + 1] > 0 { tiles } else { bars + BAR }) + BELOW;
    }
    let height = if shelves.is_empty() { 2 * MARGIN } else { y - BELOW + MARGIN };
    (shelves, height)
}
