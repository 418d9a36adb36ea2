//! The lines themselves, once every height is known.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    graph::{End, Graph},
    layout::Standing,
    route::{Shelf, TOPS, Tap, To, share, tile},
    shapes::{Box, Kind, Net},
    shelves::{BAR, Group},
};

/// What lines are drawn between.
pub struct Drawing<'a> {
    pub graph: &'a Graph,
    pub standing: &'a Standing,
    pub shelves: &'a [Shelf],
}

impl Drawing<'_> {
    fn tile(&self, guest: usize) -> Box {
        let (group, place) = self.standing.place_of[guest];
        let group = &self.standing.groups[group];
        tile(group, place, &self.shelves[group.shelf])
    }

    /// How high an interface is on the side of its tile.
    fn side(&self, (guest, nic): (usize, usize)) -> i32 {
        let tile = self.tile(guest);
        tile.y + share(tile.height, nic, self.graph.guests[guest].nics.len())
    }
}

/// The lines of a net, given the height of its level line in each zone.
pub fn drawn(kind: Kind, taps: &[Tap], levels: &[(usize, i32)], edge: Option<i32>, drawing: &Drawing<'_>) -> Net {
    let mut net = Net { kind, lines: Vec::new(), joints: Vec::new() };
    let mut by_zone: BTreeMap<usize, Vec<&Tap>> = BTreeMap::new();
    taps.iter().for_each(|tap| by_zone.entry(tap.zone).or_default().push(tap));
    for &(zone, level) in levels {
        let shelf = &drawing.shelves[zone / 2];
        let here = by_zone.remove(&zone).unwrap_or_default();
        let mut at: BTreeMap<i32, usize> = BTreeMap::new();
        here.iter().for_each(|tap| *at.entry(tap.x).or_default() += 1);
        let mut joined = BTreeSet::new();
        let places = || here.iter().map(|tap| tap.x).chain(edge);
        let (low, high) = (places().min().unwrap_or(0), places().max().unwrap_or(0));
        if low < high {
            net.lines.push(vec![(low, level), (high, level)]);
        }
        for tap in &here {
            let branches = usize::from(tap.x > low) + usize::from(tap.x < high) + at.get(&tap.x).copied().unwrap_or(0);
            if branches > 2 && joined.insert(tap.x) {
                net.joints.push((tap.x, level));
            }
            let end = match &tap.to {
                To::Top => shelf.tops + TOPS,
                To::BarTop => shelf.bars,
                To::BarBottom => shelf.bars + BAR,
                To::Guest(guest) => drawing.tile(*guest).y,
                To::Beside(ends) => {
                    let sides: Vec<i32> = ends.iter().map(|end| drawing.side(*end)).collect();
                    let lowest = sides.iter().copied().max().unwrap_or(level);
                    for (end, side) in ends.iter().zip(sides) {
                        net.lines.push(vec![(tap.x, side), (drawing.tile(end.0).right(), side)]);
                        net.joints.extend((side < lowest).then_some((tap.x, side)));
                    }
                    lowest
                }
            };
            net.lines.push(vec![(tap.x, level), (tap.x, end)]);
        }
    }
    if let (Some(edge), Some((_, first)), Some((_, last))) = (edge, levels.first(), levels.last()) {
        net.lines.push(vec![(edge, *first), (edge, *last)]);
        net.joints.extend(levels[1..levels.len() - 1].iter().map(|(_, level)| (edge, *level)));
    }
    net
}

/// The lines from a bar to its own guests.
pub fn feeder(graph: &Graph, group: &Group, shelf: &Shelf) -> Option<Net> {
    let switch = group.switch.filter(|_| !group.guests.is_empty())?;
    let bar = shelf.bars + BAR;
    let mut net = Net { kind: Kind::Feeder(switch), lines: Vec::new(), joints: Vec::new() };
    let mut deepest = vec![bar; group.columns];
    for (place, &guest) in group.guests.iter().enumerate() {
        let tile = tile(group, place, shelf);
        let nics = &graph.guests[guest].nics;
        for index in (0..nics.len()).filter(|index| nics[*index].end == Some(End::Switch(switch))) {
            if group.in_rows() {
                let (line, side) = (tile.x - 12, tile.y + share(tile.height, index, nics.len()));
                net.lines.push(vec![(line, side), (tile.x, side)]);
                deepest[place % group.columns] = side;
            } else {
                let x = tile.x + share(tile.width, index, nics.len());
                net.lines.push(vec![(x, bar), (x, tile.y)]);
            }
        }
    }
    if group.in_rows() {
        net.lines.extend(
            deepest.iter().enumerate().map(|(column, depth)| vec![(group.column(column) - 12, bar), (group.column(column) - 12, *depth)]),
        );
    }
    Some(net)
}
