//! What must hold for every picture: nothing overlaps, lines can be followed, no word breaks out.

use super::{
    d2, dot,
    draw::{self, Dress},
    graph::{End, Graph, Guest, Nic, Outside, Port, Router, Switch, Wire},
    layout::lay_out,
    mermaid,
    shapes::{Box, Layout},
};

/// Numbers that look random and are the same every time (a linear congruential generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % most.max(1)
    }
}

/// A testbed of so many guests: routers in a chain and a star, guests with several interfaces, wires, an outside network.
fn generated(guests: usize, seed: u64) -> Graph {
    let mut dice = Dice(seed);
    let switches = 1 + guests / (3 + dice.below(20));
    let routers = if switches == 1 { dice.below(2) } else { 1 + switches / (2 + dice.below(4)) };
    let mut graph = Graph { name: "lab".to_string(), ..Graph::default() };
    for index in 0..switches {
        let note = if dice.below(6) == 0 { "25 ms, 2 % loss".to_string() } else { String::new() };
        graph.switches.push(Switch { name: format!("switch-{index}"), subnets: vec![format!("10.{index}.0.0/24")], note });
    }
    for index in 0..routers {
        let mut router = Router { name: format!("router-{index}"), ..Router::default() };
        for port in 0..1 + dice.below(4) {
            let switch = if port == 0 { index % switches } else { dice.below(switches) };
            if router.ports.iter().all(|other| other.switch != switch) {
                let addresses = (0..=dice.below(8) / 7).map(|n| format!("10.{switch}.{n}.{index}/24")).collect();
                router.ports.push(Port { name: format!("p{index}-{port}"), addresses, switch });
            }
        }
        graph.routers.push(router);
    }
    if switches > 2 {
        let switches = vec![(0, "up".to_string()), (switches - 1, "up2".to_string())];
        graph.outsides.push(Outside { name: "internet".to_string(), switches });
    }
    for index in 0..guests {
        let mut nics: Vec<Nic> = Vec::new();
        for nic in 0..match dice.below(12) {
            0 => 0,
            1 | 2 => 2,
            3 => 3 + dice.below(3),
            _ => 1,
        } {
            let end = Some(End::Switch(dice.below(switches)));
            let note = if dice.below(9) == 0 { "5±1 ms".to_string() } else { String::new() };
            nics.push(Nic { name: format!("eth{nic}"), end, addresses: vec![format!("10.9.{index}.{nic}")], note });
        }
        graph.guests.push(Guest { name: format!("guest-{index:02}"), kind: "micro".to_string(), nics });
    }
    for wire in 0..guests / 8 {
        let (one, other) = (dice.below(guests), dice.below(guests));
        if one != other {
            let mut end = |guest: usize| {
                let nics = &mut graph.guests[guest].nics;
                let name = format!("eth{}", nics.len());
                nics.push(Nic { name, end: Some(End::Wire(graph.wires.len())), addresses: Vec::new(), note: String::new() });
                (guest, nics.len() - 1)
            };
            let ends = [end(one), end(other)];
            graph.wires.push(Wire { ends, note: if wire == 0 { "1 Mbit/s".to_string() } else { String::new() } });
        }
    }
    graph
}

fn apart(one: &Box, other: &Box) -> bool {
    one.right() <= other.x || other.right() <= one.x || one.bottom() <= other.y || other.bottom() <= one.y
}

fn boxes(layout: &Layout) -> Vec<Box> {
    let nodes = [&layout.routers, &layout.outsides, &layout.switches, &layout.guests].into_iter().flatten();
    nodes.map(|node| node.place).collect()
}

/// A straight piece of a line: net, from, to.
type Piece = (usize, (i32, i32), (i32, i32));

fn pieces(layout: &Layout) -> Vec<Piece> {
    let of_net = |(net, lines): (usize, &Vec<Vec<(i32, i32)>>)| {
        lines.iter().flat_map(move |line| line.windows(2).map(move |pair| (net, pair[0], pair[1]))).collect::<Vec<_>>()
    };
    layout.nets.iter().map(|net| &net.lines).enumerate().flat_map(of_net).collect()
}

fn check(graph: &Graph, wished: Option<i32>, what: &str) {
    let layout = lay_out(graph, wished);
    let frame = |place: &Box| place.x >= 0 && place.y >= 0 && place.right() <= layout.width && place.bottom() <= layout.height;
    // Boxes and the labels between them.
    let mut all = boxes(&layout);
    all.extend(layout.labels.iter().map(super::shapes::Text::place));
    for (index, one) in all.iter().enumerate() {
        assert!(frame(one), "{what}: {one:?} is outside");
        assert!(one.width > 0 && one.height > 0, "{what}: {one:?} is nothing");
        for other in &all[index + 1..] {
            assert!(apart(one, other), "{what}: {one:?} and {other:?}");
        }
    }
    // Texts in boxes: inside, and apart from each other.
    for node in [&layout.routers, &layout.outsides, &layout.switches, &layout.guests].into_iter().flatten() {
        for (index, text) in node.texts.iter().enumerate() {
            let place = text.place();
            let inside = place.x >= node.place.x
                && place.y >= node.place.y
                && place.right() <= node.place.right()
                && place.bottom() <= node.place.bottom();
            assert!(inside, "{what}: `{}` leaves its box: {place:?} {:?}", text.words, node.place);
            assert!(node.texts[index + 1..].iter().all(|other| apart(&place, &other.place())), "{what}: `{}` is written over", text.words);
        }
    }
    // Lines go through no box and no label, and only lines of one net lie on each other.
    let pieces = pieces(&layout);
    for (_, from, to) in &pieces {
        assert!(from.0 == to.0 || from.1 == to.1, "{what}: {from:?} {to:?} is askew");
        let (x, y) = (from.0.min(to.0), from.1.min(to.1));
        let line = Box { x, y, width: (from.0 - to.0).abs(), height: (from.1 - to.1).abs() };
        assert!(frame(&line), "{what}: {line:?} is outside");
        for place in &all {
            let through = line.x < place.right() && line.right() > place.x && line.y < place.bottom() && line.bottom() > place.y;
            assert!(!through, "{what}: {line:?} runs through {place:?}");
        }
    }
    for (index, (net, from, to)) in pieces.iter().enumerate() {
        for (other_net, other_from, other_to) in &pieces[index + 1..] {
            let side_by_side = |a: (i32, i32), b: (i32, i32)| a.0.min(a.1) <= b.0.max(b.1) && b.0.min(b.1) <= a.0.max(a.1);
            let level = from.1 == to.1 && other_from.1 == other_to.1 && (from.1 - other_from.1).abs() < 4;
            let upright = from.0 == to.0 && other_from.0 == other_to.0 && (from.0 - other_from.0).abs() < 4;
            let runs = (level && side_by_side((from.0, to.0), (other_from.0, other_to.0)))
                || (upright && side_by_side((from.1, to.1), (other_from.1, other_to.1)));
            assert!(net == other_net || !runs, "{what}: {from:?} {to:?} on {other_from:?} {other_to:?}");
        }
    }
}

#[test]
fn nothing_overlaps_and_every_line_can_be_followed() {
    for guests in [0, 1, 5, 20, 50, 200] {
        for seed in 0..12 {
            check(&generated(guests, seed), [None, Some(1240)][seed as usize % 2], &format!("{guests} guests, seed {seed}"));
        }
    }
    // Many ports on one switch, many interfaces on one guest.
    let mut graph = generated(20, 1);
    for index in 0..30 {
        let port = Port { name: String::new(), addresses: vec![format!("2001:db8:0:{index}::1/64"), "10.0.0.1/8".to_string()], switch: 0 };
        graph.routers.push(Router { name: "r".repeat(50), facts: Vec::new(), ports: vec![port] });
    }
    let nic = |name| Nic {
        name,
        end: Some(End::Switch(0)),
        addresses: vec!["2001:db8:1234:5678:9abc:def0:1234:5678".to_string()],
        note: String::new(),
    };
    graph.guests.push(Guest { name: "W".repeat(50), kind: String::new(), nics: (0..20).map(|n| nic(format!("eth{n}"))).collect() });
    check(&graph, None, "crowded");
}

/// What somebody might put into a name to break out of it.
const HOSTILE: &[&str] = &[
    "\"]; evil [label=\"",
    "end",
    "graph",
    "</text><script>alert(1)</script>",
    "a\\",
    "\\N",
    "${x}",
    "#quot;",
    "%% no",
    "`**b**`",
    "a\nb",
    "]]>",
    "&amp;",
    "\" }",
    "|x|",
    "style",
    "click g0 href",
    "'",
    "<b>",
    "--",
    "a\u{0}b",
    "日本",
];

fn hostile() -> Graph {
    let mut graph = Graph { name: HOSTILE.concat(), ..generated(HOSTILE.len(), 3) };
    for (index, name) in HOSTILE.iter().enumerate() {
        graph.guests[index].name = (*name).to_string();
        let (switches, routers, wires) = (graph.switches.len(), graph.routers.len(), graph.wires.len());
        graph.switches[index % switches].name = (*name).to_string();
        graph.switches[index % switches].note = (*name).to_string();
        graph.routers[index % routers].name = (*name).to_string();
        graph.wires[index % wires].note = (*name).to_string();
    }
    graph
}

#[test]
fn no_name_breaks_out_of_a_picture() {
    let graph = hostile();
    let picture = draw::svg(&graph, &Dress::default(), &lay_out(&graph, None), Some("x"));
    assert!(!picture.contains("<script") && !picture.contains("<b>"), "{picture}");
    let mut reader = quick_xml::Reader::from_str(&picture);
    while !matches!(reader.read_event().expect("well-formed"), quick_xml::events::Event::Eof) {}
    // As many lines as a graph of the same shape with harmless names: no name adds one.
    let harmless = generated(HOSTILE.len(), 3);
    for write in [mermaid::write, dot::write, d2::write] {
        let (hostile, harmless) = (write(&graph), write(&harmless));
        assert_eq!(hostile.lines().count(), harmless.lines().count(), "{hostile}");
        for (hostile, harmless) in hostile.lines().zip(harmless.lines()) {
            let words = |line: &str| line.split_whitespace().take(1).collect::<String>();
            let id = |line: &str| words(line).chars().take_while(|c| c.is_ascii_alphanumeric()).collect::<String>();
            assert_eq!(id(hostile), id(harmless), "{hostile}");
        }
    }
}
