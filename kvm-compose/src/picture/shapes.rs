//! What a laid out picture consists of: boxes with their texts, and nets of straight lines. Whole numbers only, so that the
//! same topology gives the same bytes everywhere.

use super::measure::{Font, width};

/// A rectangle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

    pub fn right(&self) -> i32 {
        self.x + self.width
    }

    pub fn bottom(&self) -> i32 {
        self.y + self.height
    }
}

/// Where a text's `x` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A text and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub class: &'static str,
    pub font: Font,
    pub anchor: Anchor,
    /// The anchor on the baseline.
    pub at: (i32, i32),
    pub words: String,
}

impl Text {
    /// A text that begins at `at`.
    pub fn new(class: &'static str, font: Font, at: (i32, i32), words: impl Into<String>) -> Self {
        Text { class, font, anchor: Anchor::Start, at, words: words.into() }
    }

    pub fn anchored(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }

    pub fn width(&self) -> i32 {
        width(&self.words, self.font)
    }
}

#[cfg(test)]
impl Text {
    /// The most room that it takes.
    pub fn place(&self) -> Box {
        let width = self.width();
        let x = match self.anchor {
            Anchor::Start => self.at.0,
            Anchor::Middle => self.at.0 - width / 2,
            Anchor::End => self.at.0 - width,
        };
        // Eleven above the baseline, three below it.
        Box { x, y: self.at.1 - 11, width, height: 14 }
    }
}

/// A thing with its place and what is written in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    pub place: Box,
    pub texts: Vec<Text>,
}

/// What a net connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A switch and the guests that hang from it; by switch.
    Feeder(usize),
    /// A router and its switches; by router.
    Trunk(usize),
    /// An outside network and its switches; by outside network.
    Exit(usize),
    /// A switch and the guests that hang from another; by switch.
    Further(usize),
    /// Two guests; by wire.
    Wire(usize),
}

/// Lines that are one: what they touch is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    pub kind: Kind,
    /// Each turns at right angles only.
    pub lines: Vec<Vec<(i32, i32)>>,
    /// Where more than two lines meet. Lines that cross without one are not connected.
    pub joints: Vec<(i32, i32)>,
}

/// Everything with its place; things in the graph's order.
#[derive(Debug, Default)]
pub struct Layout {
    pub width: i32,
    pub height: i32,
    pub routers: Vec<Node>,
    pub outsides: Vec<Node>,
    pub switches: Vec<Node>,
    pub guests: Vec<Node>,
    pub nets: Vec<Net>,
    /// Addresses of router ports.
    pub labels: Vec<Text>,
}
