//! Where one JSON-RPC message ends and the next begins: they follow each other with nothing between (RFC 7047 section 4).
//!
//! Pure. Must not know what messages say.

/// Finds where a JSON object ends without parsing it; messages follow each other with nothing between.
#[derive(Debug, Default)]
pub struct Scan {
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// The length of the first whole message of `bytes`, which must only have grown since the last call.
    pub fn end_of_message(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(&byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_its_last_bracket_however_it_arrives() {
        let text = br#" {"a":["}\"]",{}],"b":"\\"}{"next":1}"#;
        let end = text.len() - br#"{"next":1}"#.len();
        for step in 1..text.len() {
            let mut scan = Scan::default();
            let found = (1..=text.len()).step_by(step).chain([text.len()]).find_map(|length| scan.end_of_message(&text[..length]));
            assert_eq!(found, Some(end), "in pieces of {step}");
        }
    }
}
