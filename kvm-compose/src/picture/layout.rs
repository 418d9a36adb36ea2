//! Where everything stands.
//!
//! ```text
//!        ⬡ r1     ☁ lab          above each shelf: its routers and outside networks
//!    ┌────┴───────────┐          lanes: one net a lane, so that lines cross but never run into each other
//! ══ clients ══   ══ servers ══  a shelf: a bar for each switch
//!   │    └─ ─ ─ ─ ─ ─ ─┘         lanes: guests' further interfaces, wires
//!  |a|  |b|  |c|     |web|       few guests hang in a row, many beside a line for each column
//! ```
//!
//! What leads to another shelf runs down at the left or the right edge.

use std::collections::BTreeMap;

use super::{
    graph::Graph,
    lanes::free,
    measure::{Font, shortened, width},
    route::{self, Shelf, TOPS},
    shapes::{Anchor, Box, Kind, Layout, Node, Text},
    shelves::{self, BAR, Group, HEAD, INDENT, LINE, flow, groups, widen},
};

/// Between routers and outside networks.
const NODES_APART: i32 = 26;
/// Characters of their names.
const FITS: usize = 22;

/// Where things stand before heights are known.
pub struct Standing {
    pub groups: Vec<Group>,
    /// Guest → its group and its place there.
    pub place_of: Vec<(usize, usize)>,
    /// Switch → its group.
    pub group_of: Vec<usize>,
    pub tops: Vec<Top>,
    /// Switch → what comes to its bar from above, from left to right.
    pub pins: Vec<Vec<Pin>>,
    pub shelves: usize,
    pub width: i32,
}

/// What stands above the bars: a router or an outside network.
pub struct Top {
    pub kind: Kind,
    pub switches: Vec<usize>,
    pub shelf: usize,
    pub x: i32,
    pub width: i32,
    /// Where its line begins.
    pub pin: i32,
}

/// Where a line from above meets a bar.
pub struct Pin {
    /// The index of the top it comes from.
    pub top: usize,
    pub x: i32,
    pub labels: Vec<String>,
}

impl Pin {
    /// The room from the line to the end of its labels.
    fn room(&self) -> i32 {
        14 + self.labels.iter().map(|label| width(label, Font::SmallMono)).max().unwrap_or(0)
    }
}

/// Decides where everything stands, in about the width that is wished.
pub fn lay_out(graph: &Graph, wished: Option<i32>) -> Layout {
    let mut groups = groups(graph);
    let (mut place_of, mut group_of) = (vec![(0, 0); graph.guests.len()], vec![0; graph.switches.len()]);
    for (index, group) in groups.iter().enumerate() {
        group.guests.iter().enumerate().for_each(|(place, guest)| place_of[*guest] = (index, place));
        group.switch.into_iter().for_each(|switch| group_of[switch] = index);
    }
    let unders = route::unders(graph);
    route::add_risers(&unders, &mut groups, &place_of);
    let mut tops = tops(graph);
    let mut pins = pins(graph, &tops);
    for group in &mut groups {
        let bar = group.switch.map_or(0, |switch| bar_needs(graph, switch, &pins[switch]));
        widen(group, bar);
    }
    let (shelves, mut width) = flow(&mut groups, wished);
    let shelves = shelves.max(usize::from(!tops.is_empty()));
    for here in homes(&mut tops, shelves, &groups, &group_of) {
        width = width.max(place_tops(&mut tops, here, width));
    }
    for (switch, pins) in pins.iter_mut().enumerate() {
        place_pins(pins, &tops, &groups[group_of[switch]]);
    }
    place_tops_pins(&mut tops, &pins, &groups, &group_of);
    let standing = Standing { groups, place_of, group_of, tops, pins, shelves, width };
    let (nets, rooms) = route::route(graph, &unders, &standing);
    let mut layout = Layout { width: rooms.width, height: rooms.height, nets, ..Layout::default() };
    draw_up(graph, &standing, &rooms.shelves, rooms.left, &mut layout);
    layout
}

fn tops(graph: &Graph) -> Vec<Top> {
    let top = |kind, name: &str, switches| {
        let name = width(&shortened(name, FITS), Font::Name) + 44;
        Top { kind, switches, shelf: 0, x: 0, width: name.max(96), pin: 0 }
    };
    let routers = graph.routers.iter().enumerate();
    let routers =
        routers.map(|(index, router)| top(Kind::Trunk(index), &router.name, router.ports.iter().map(|port| port.switch).collect()));
    let outsides = graph.outsides.iter().enumerate();
    let outsides = outsides
        .map(|(index, outside)| top(Kind::Exit(index), &outside.name, outside.switches.iter().map(|(switch, _)| *switch).collect()));
    routers.chain(outsides).collect()
}

fn pins(graph: &Graph, tops: &[Top]) -> Vec<Vec<Pin>> {
    let mut pins: Vec<Vec<Pin>> = graph.switches.iter().map(|_| Vec::new()).collect();
    for (index, top) in tops.iter().enumerate() {
        match top.kind {
            Kind::Trunk(router) => {
                for port in &graph.routers[router].ports {
                    pins[port.switch].push(Pin { top: index, x: 0, labels: port.addresses.clone() });
                }
            }
            _ => top.switches.iter().for_each(|switch| pins[*switch].push(Pin { top: index, x: 0, labels: Vec::new() })),
        }
    }
    pins
}

/// The texts of a bar, without their places: name, conditions, subnets.
fn bar_texts(graph: &Graph, switch: usize) -> [(&'static str, Font, String); 3] {
    let switch = &graph.switches[switch];
    [
        ("name", Font::Name, shortened(&switch.name, FITS)),
        ("note", Font::SmallMono, shortened(&switch.note, 2 * FITS)),
        ("subnet", Font::Mono, switch.subnets.join(" ")),
    ]
}

fn bar_needs(graph: &Graph, switch: usize, pins: &[Pin]) -> i32 {
    let texts: i32 = bar_texts(graph, switch).iter().map(|(_, font, words)| width(words, *font) + 14).sum();
    (texts + 20).max(24 + pins.iter().map(Pin::room).sum::<i32>())
}

/// What stands above each shelf, with the middle of its switches there: where most of its switches are; the uppermost shelf
/// when that is nowhere in particular.
fn homes(tops: &mut [Top], shelves: usize, groups: &[Group], group_of: &[usize]) -> Vec<Vec<(i32, usize)>> {
    let mut homes = vec![Vec::new(); shelves];
    for (index, top) in tops.iter_mut().enumerate() {
        // Shelf → how many switches are there, and the sum of their middles.
        let mut on: BTreeMap<usize, (i64, i64)> = BTreeMap::new();
        for group in top.switches.iter().map(|switch| &groups[group_of[*switch]]) {
            let (count, sum) = on.entry(group.shelf).or_default();
            (*count, *sum) = (*count + 1, *sum + i64::from(group.x + group.width / 2));
        }
        let (home, middle) = on
            .iter()
            .max_by_key(|(shelf, (count, _))| (*count, std::cmp::Reverse(**shelf)))
            .map_or((0, 0), |(shelf, (count, sum))| (*shelf, sum / count));
        top.shelf = home;
        if let Some(here) = homes.get_mut(home) {
            here.push((i32::try_from(middle).unwrap_or(i32::MAX), index));
        }
    }
    homes
}

/// Puts what stands above a shelf over the middle of its switches there; returns how far to the right that reaches.
fn place_tops(tops: &mut [Top], mut here: Vec<(i32, usize)>, width: i32) -> i32 {
    here.sort_unstable();
    let mut free = 0;
    for &(middle, index) in &here {
        tops[index].x = (middle - tops[index].width / 2).max(free);
        free = tops[index].x + tops[index].width + NODES_APART;
    }
    let needs: i32 = here.iter().map(|(_, index)| tops[*index].width + NODES_APART).sum::<i32>() - NODES_APART;
    let mut limit = width.max(needs);
    for &(_, index) in here.iter().rev() {
        tops[index].x = tops[index].x.min(limit - tops[index].width);
        limit = tops[index].x - NODES_APART;
    }
    needs
}

/// Puts the ends of lines on a bar, each near what it comes from and with room for its labels.
fn place_pins(pins: &mut [Pin], tops: &[Top], group: &Group) {
    pins.sort_by_key(|pin| (tops[pin.top].shelf != group.shelf, tops[pin.top].x, pin.top));
    let mut free = group.x + 14;
    for pin in pins.iter_mut() {
        let top = &tops[pin.top];
        pin.x = if top.shelf == group.shelf { (top.x + top.width / 2).max(free) } else { free };
        free = pin.x + pin.room();
    }
    let mut limit = group.x + group.width - 10;
    for pin in pins.iter_mut().rev() {
        pin.x = pin.x.min(limit - pin.room());
        limit = pin.x;
    }
}

/// Where the line of a top begins: in its middle, or so near to it that it runs into no other line to a bar.
fn place_tops_pins(tops: &mut [Top], pins: &[Vec<Pin>], groups: &[Group], group_of: &[usize]) {
    let mut below: Vec<Vec<(usize, i32)>> = vec![Vec::new(); tops.len()];
    let mut standing: Vec<(usize, i32, usize)> = tops.iter().enumerate().map(|(index, top)| (top.shelf, top.x, index)).collect();
    standing.sort_unstable();
    for (switch, pins) in pins.iter().enumerate() {
        let shelf = groups[group_of[switch]].shelf;
        for pin in pins {
            // They stand apart from each other: only the last that begins before it can be above it.
            let after = standing.partition_point(|(at, x, _)| (*at, *x) <= (shelf, pin.x));
            let Some((at, x, index)) = after.checked_sub(1).and_then(|before| standing.get(before)) else { continue };
            if *at == shelf && pin.x <= x + tops[*index].width {
                below[*index].push((pin.top, pin.x));
            }
        }
    }
    for (index, top) in tops.iter_mut().enumerate() {
        let others: Vec<i32> = below[index].iter().filter(|(other, _)| *other != index).map(|(_, x)| *x).collect();
        let own =
            below[index].iter().filter(|(other, _)| *other == index).map(|(_, x)| *x).min_by_key(|x| (x - top.x - top.width / 2).abs());
        let middle = top.x + top.width / 2;
        let wished = own.filter(|x| (x - middle).abs() <= 12).unwrap_or(middle);
        top.pin = free(wished, (top.x + 18, top.x + top.width - 18), others, 5);
    }
}

/// Makes boxes and texts of it, `left` further to the right.
fn draw_up(graph: &Graph, standing: &Standing, shelves: &[Shelf], left: i32, layout: &mut Layout) {
    layout.switches = vec![Node::default(); graph.switches.len()];
    layout.guests = vec![Node::default(); graph.guests.len()];
    for top in &standing.tops {
        let y = shelves[top.shelf].tops;
        let place = Box { x: left + top.x, y, width: top.width, height: TOPS };
        let words = match top.kind {
            Kind::Trunk(router) => &graph.routers[router].name,
            Kind::Exit(outside) => &graph.outsides[outside].name,
            _ => continue,
        };
        let name = Text::new("name", Font::Name, (place.middle(), y + TOPS / 2 + 5), shortened(words, FITS)).anchored(Anchor::Middle);
        let list = if matches!(top.kind, Kind::Trunk(_)) { &mut layout.routers } else { &mut layout.outsides };
        list.push(Node { place, texts: vec![name] });
    }
    for (group, shelf) in standing.groups.iter().map(|group| (group, &shelves[group.shelf])) {
        if let Some(switch) = group.switch {
            let place = Box { x: left + group.x, y: shelf.bars, width: group.width, height: BAR };
            let [name, note, subnet] =
                bar_texts(graph, switch).map(|(class, font, words)| Text::new(class, font, (0, place.y + 21), words));
            let (from, to) = (place.x + 16, place.right() - 16);
            let note_at = from + name.width() + 14;
            let mut texts = vec![Text { at: (from, name.at.1), ..name }, Text { at: (note_at, note.at.1), ..note }];
            texts.push(Text { at: (to, subnet.at.1), ..subnet }.anchored(Anchor::End));
            texts.retain(|text| !text.words.is_empty());
            layout.switches[switch] = Node { place, texts };
            for pin in &standing.pins[switch] {
                for (label, above) in pin.labels.iter().rev().zip(0..) {
                    layout.labels.push(Text::new("port", Font::SmallMono, (left + pin.x + 5, place.y - 6 - 14 * above), label));
                }
            }
        }
        for (index, &guest) in group.guests.iter().enumerate() {
            let Box { x, y, width, height } = route::tile(group, index, shelf);
            let place = Box { x: left + x, y, width, height };
            let mut texts = vec![Text::new("name", Font::Name, (place.x + INDENT, y + 21), shelves::name(graph, guest))];
            for ((is_note, line), down) in shelves::lines(graph, guest).into_iter().zip(0..) {
                let class = if is_note { "note" } else { "address" };
                texts.push(Text::new(class, Font::Mono, (place.x + INDENT, y + HEAD + 9 + LINE * down), line));
            }
            layout.guests[guest] = Node { place, texts };
        }
    }
}
