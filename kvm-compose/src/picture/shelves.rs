//! Which switches stand on which shelf, from left to right, and how large everything is.
//!
//! A group is a switch with the guests that hang from it. Groups stand on shelves as words in lines; neighbours in the
//! network are neighbours here as far as that goes.

use super::{
    graph::{End, Graph, HOST},
    measure::{Font, shortened, width},
};

/// The height of a switch's bar.
pub const BAR: i32 = 32;
/// One line of text in a guest.
pub const LINE: i32 = 15;
/// Above the first line of addresses in a guest.
pub const HEAD: i32 = 30;
/// Left of a guest's texts.
pub const INDENT: i32 = 30;
/// Between groups on a shelf.
const BETWEEN: i32 = 36;
/// Left of a column of guests, for the line that they hang from.
const BESIDE: i32 = 24;
/// Between lines that run side by side.
pub const APART: i32 = 8;
/// Up to so many guests stand in one row.
const ROW: usize = 4;
/// Between the rows of guests on a switch.
const ROWS_APART: i32 = 12;
/// Lines in a guest; more are counted.
const LINES: usize = 7;
/// Characters in a line of a guest, and of a name.
const FITS: usize = 30;
const NARROWEST: (i32, i32) = (132, 200);
const NARROWEST_SHELF: i32 = 1100;

/// A switch with the guests that hang from it; none is the place of guests that hang from no switch.
#[derive(Debug, Default)]
pub struct Group {
    pub switch: Option<usize>,
    pub guests: Vec<usize>,
    pub columns: usize,
    /// The width of its guests' tiles.
    pub tile: i32,
    /// For each row of guests, how far below the first it begins, and how high it is.
    pub rows: Vec<(i32, i32)>,
    /// For each column, the nets that run down beside it.
    pub risers: Vec<Vec<usize>>,
    pub shelf: usize,
    pub x: i32,
    pub width: i32,
}

impl Group {
    /// In one row guests hang straight from the bar; in several, beside a line for each column.
    pub fn in_rows(&self) -> bool {
        self.guests.len() > self.columns
    }

    fn room_right(&self, column: usize) -> i32 {
        match self.risers.get(column).map_or(0, Vec::len) {
            0 => 0,
            count => 8 + APART * i32::try_from(count).unwrap_or(0),
        }
    }

    fn content(&self) -> i32 {
        (0..self.columns).map(|column| BESIDE + self.tile + self.room_right(column)).sum()
    }

    /// The left edge of a column's tiles.
    pub fn column(&self, column: usize) -> i32 {
        let before: i32 = (0..column).map(|column| BESIDE + self.tile + self.room_right(column)).sum();
        let inset = (self.width - self.content()) / 2;
        self.x + inset + before + if self.in_rows() { BESIDE } else { BESIDE / 2 }
    }

    /// From the first row's upper edge to the last one's lower edge.
    pub fn depth(&self) -> i32 {
        self.rows.last().map_or(0, |(down, height)| down + height)
    }
}

/// The lines in a guest's tile, and whether each is about conditions.
pub fn lines(graph: &Graph, guest: usize) -> Vec<(bool, String)> {
    let home = graph.home(guest);
    let mut lines = Vec::new();
    for (index, nic) in graph.guests[guest].nics.iter().enumerate() {
        let mut words: Vec<String> = nic.addresses.clone();
        match nic.end {
            Some(End::Switch(switch)) if Some(switch) != home => match words.first_mut() {
                Some(first) => *first = format!("{first} {}", graph.switches[switch].name),
                None => words.push(format!("{} {}", nic.name, graph.switches[switch].name)),
            },
            Some(End::Wire(wire)) => {
                let (far, _) = graph.far(wire, guest, index);
                words.push(format!("{} – {}", nic.name, graph.guests[far].name));
            }
            _ if words.is_empty() => words.push(format!("{} no address", nic.name)),
            _ => {}
        }
        lines.extend(words.iter().map(|words| (false, shortened(words, FITS))));
        lines.extend((!nic.note.is_empty()).then(|| (true, shortened(&nic.note, FITS))));
    }
    if lines.is_empty() {
        lines.push((false, "no network".to_string()));
    }
    if graph.guests[guest].kind == HOST {
        lines.push((false, "of the host".to_string()));
    }
    if lines.len() > LINES {
        let hidden = lines.len() - (LINES - 1);
        lines.truncate(LINES - 1);
        lines.push((false, format!("and {hidden} more")));
    }
    lines
}

/// A name as a tile shows it.
pub fn name(graph: &Graph, guest: usize) -> String {
    shortened(&graph.guests[guest].name, FITS - 8)
}

/// The groups, each with its guests and the size of their tiles.
pub fn groups(graph: &Graph) -> Vec<Group> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); graph.switches.len()];
    let mut loose = Vec::new();
    for guest in 0..graph.guests.len() {
        match graph.home(guest) {
            Some(switch) => members[switch].push(guest),
            None => loose.push(guest),
        }
    }
    let mut groups: Vec<Group> =
        order(graph).into_iter().map(|switch| group(graph, Some(switch), std::mem::take(&mut members[switch]))).collect();
    if !loose.is_empty() {
        groups.push(group(graph, None, loose));
    }
    groups
}

fn group(graph: &Graph, switch: Option<usize>, guests: Vec<usize>) -> Group {
    let count = guests.len();
    // Tiles are twice as wide as high: more rows than columns make a picture that fits a screen.
    let columns = if count <= ROW { count } else { (count * 7 / 10).isqrt() + 1 };
    let (mut tile, mut rows, mut down) = (NARROWEST.0, Vec::new(), 0);
    for row in guests.chunks(columns.max(1)) {
        let mut height = HEAD + LINE + 6;
        for &guest in row {
            let lines = lines(graph, guest);
            let widest =
                lines.iter().map(|(_, line)| width(line, Font::Mono)).max().unwrap_or(0).max(width(&name(graph, guest), Font::Name));
            // Every interface has a place on the edge where its line ends.
            let edge = 8 * (i32::try_from(graph.guests[guest].nics.len()).unwrap_or(0) + 1);
            tile = tile.max(INDENT + widest + 10).max(edge);
            height = height.max(HEAD + LINE * i32::try_from(lines.len()).unwrap_or(1) + 6).max(edge);
        }
        rows.push((down, height));
        down += height + ROWS_APART;
    }
    Group { switch, guests, columns, tile, rows, risers: vec![Vec::new(); columns], ..Group::default() }
}

/// Switches in an order in which those of one router stand together: from a switch through its routers to the next.
fn order(graph: &Graph) -> Vec<usize> {
    let mut routers_on: Vec<Vec<usize>> = vec![Vec::new(); graph.switches.len()];
    for (router, index) in graph.routers.iter().zip(0..) {
        for port in &router.ports {
            if routers_on[port.switch].last() != Some(&index) {
                routers_on[port.switch].push(index);
            }
        }
    }
    let mut starts: Vec<usize> = (0..graph.switches.len()).collect();
    // Outermost ones first; switches without a router stand last.
    starts.sort_by_key(|switch| match routers_on[*switch].len() {
        0 => usize::MAX,
        count => count,
    });
    let (mut order, mut placed, mut walked) = (Vec::new(), vec![false; graph.switches.len()], vec![false; graph.routers.len()]);
    for start in starts {
        let mut open = vec![start];
        while let Some(switch) = open.pop() {
            if std::mem::replace(&mut placed[switch], true) {
                continue;
            }
            order.push(switch);
            for &router in routers_on[switch].iter().rev() {
                if std::mem::replace(&mut walked[router], true) {
                    continue;
                }
                let mut next: Vec<usize> = graph.routers[router].ports.iter().map(|port| port.switch).collect();
                // Taken from the end: dead ends first, then what leads on.
                next.sort_by_key(|switch| std::cmp::Reverse((routers_on[*switch].len(), *switch)));
                open.extend(next);
            }
        }
    }
    order
}

/// Widens a group to what its bar needs.
pub fn widen(group: &mut Group, bar: i32) {
    group.width = group.content().max(bar).max(if group.switch.is_some() { NARROWEST.1 } else { 0 });
}

/// Puts groups onto shelves, from left to right; returns how many shelves there are and how wide they are. Without a width
/// that is wished, shelves are as wide as makes the picture fit a screen.
pub fn flow(groups: &mut [Group], wished: Option<i32>) -> (usize, i32) {
    let area: i64 = groups.iter().map(|group| i64::from(group.width) * i64::from(group.depth() + 130)).sum();
    let widest = groups.iter().map(|group| group.width).max().unwrap_or(0);
    let balanced = || i32::try_from((area * 3).isqrt()).unwrap_or(i32::MAX / 4).max(NARROWEST_SHELF);
    let wished = wished.unwrap_or_else(balanced).max(widest);
    let shelves = fill(groups, wished);
    // The narrowest that needs no more shelves: they are then about equally full.
    let (mut low, mut high) = (widest, wished);
    while low < high {
        let middle = low + (high - low) / 2;
        if fill(groups, middle) <= shelves { high = middle } else { low = middle + 1 }
    }
    fill(groups, high);
    let mut ends = vec![0; shelves];
    for group in groups.iter() {
        ends[group.shelf] = ends[group.shelf].max(group.x + group.width);
    }
    let width = ends.iter().copied().max().unwrap_or(0);
    for group in groups.iter_mut() {
        group.x += (width - ends[group.shelf]) / 2;
    }
    (shelves, width)
}

fn fill(groups: &mut [Group], width: i32) -> usize {
    let (mut shelf, mut x) = (0, 0);
    for group in groups.iter_mut() {
        if x > 0 && x + group.width > width {
            (shelf, x) = (shelf + 1, 0);
        }
        (group.shelf, group.x) = (shelf, x);
        x += group.width + BETWEEN;
    }
    if groups.is_empty() { 0 } else { shelf + 1 }
}
