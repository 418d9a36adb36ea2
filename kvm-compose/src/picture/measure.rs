//! How wide text is at most, in whichever font a viewer has: upper bounds, after DejaVu, the widest of the usual ones.

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Font {
    /// Bold, 13 px.
    Name,
    /// Fixed width, 12 px.
    Mono,
    /// Fixed width, 11 px.
    SmallMono,
}

/// How wide a text is at most.
pub fn width(text: &str, font: Font) -> i32 {
    let hundredths = |c: char| match font {
        Font::Name => 13 * bold(c),
        Font::Mono => 12 * mono(c),
        Font::SmallMono => 11 * mono(c),
    };
    (text.chars().map(hundredths).sum::<i32>() + 99) / 100
}

fn mono(c: char) -> i32 {
    if c.is_ascii() { 61 } else { 130 }
}

fn bold(c: char) -> i32 {
    match c {
        'i' | 'j' | 'l' | 'f' | 't' | 'r' | '.' | ',' | ':' | '-' | ' ' | '(' | ')' | '\'' | '!' => 50,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 111,
        'A'..='Z' => 88,
        'a'..='z' | '0'..='9' => 73,
        c if c.is_ascii() => 85,
        _ => 130,
    }
}

/// A text without its middle, as far as so many characters allow: what tells clones apart is at the end. The whole stands in the
/// title.
pub fn shortened(text: &str, fits: usize) -> String {
    if text.chars().count() <= fits {
        return text.to_string();
    }
    let tail = fits / 3;
    let (head, count) = (fits.saturating_sub(tail + 1), text.chars().count());
    text.chars().take(head).chain(['…']).chain(text.chars().skip(count - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_grow_with_the_text_and_what_is_too_long_is_cut() {
        assert_eq!(width("", Font::Mono), 0);
        assert_eq!(width("10.0.0.1", Font::Mono), 59);
        assert!(width("mmm", Font::Name) > width("iii", Font::Name));
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abc…fg");
    }
}
