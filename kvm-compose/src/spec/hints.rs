//! "did you mean": what to write instead of a name that nobody has.
//!
//! Pure. A file may have tens of thousands of names, and as many that nobody has: what is said of them is bounded.

/// How many names are listed.
const LISTED: usize = 20;
/// Longer names are not guessed at, in characters.
const LONGEST: usize = 60;
/// How many names are compared for all faults of a testbed: far more than anybody mistypes.
const COMPARED: usize = 50_000;

/// The known word that was meant, when one is close enough.
pub fn suggestion(text: &str, known: &[&str]) -> Option<String> {
    Guesses::default().near(text, known.iter().copied())
}

/// How many names may still be compared with what somebody wrote.
#[derive(Debug)]
pub struct Guesses(usize);

impl Default for Guesses {
    fn default() -> Self {
        Guesses(COMPARED)
    }
}

impl Guesses {
    /// The known word that was meant, when one is close enough and there was time to look.
    pub fn near<'a>(&mut self, text: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
        let text = text.to_lowercase();
        let length = text.chars().count();
        if length > LONGEST {
            return None;
        }
        let mut closest: Option<(usize, &str)> = None;
        for word in known {
            let other = word.chars().count();
            let far = 1 + other / 4;
            // Each character that one has more is a step apart.
            if other.abs_diff(length) > far {
                continue;
            }
            self.0 = self.0.checked_sub(1)?;
            let distance = strsim::damerau_levenshtein(&text, &word.to_lowercase());
            if distance <= far && closest.is_none_or(|known| (distance, word) < known) {
                closest = Some((distance, word));
            }
        }
        closest.map(|(_, word)| did_you_mean(word))
    }

    /// The same, or else the names that there are.
    pub fn near_or_listed<'a>(&mut self, text: &str, known: impl Iterator<Item = &'a str> + Clone, what: &str) -> String {
        self.near(text, known.clone()).unwrap_or_else(|| format!("{what}: {}", listed(known)))
    }
}

/// The hint of a word that was meant.
pub fn did_you_mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}

/// Names in a row; of many the first.
pub fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut some: Vec<&str> = names.take(LISTED + 1).collect();
    if some.len() > LISTED {
        some.truncate(LISTED);
        some.push("…");
    }
    some.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_meant_when_it_is_close() {
        assert_eq!(suggestion("memroy_mb", &["memory_mb", "cpus"]).as_deref(), Some("did you mean `memory_mb`?"));
        assert_eq!(suggestion("LAN", &["wan", "lan"]).as_deref(), Some("did you mean `lan`?"));
        assert_eq!(suggestion("disk", &["cpus", "memory_mb"]), None);
        assert_eq!(suggestion("", &["cpus"]), None);
        assert_eq!(suggestion(&"a".repeat(61), &["a".repeat(61).as_str()]), None);
    }

    #[test]
    fn who_has_no_time_left_guesses_nothing() {
        let mut guesses = Guesses(3);
        assert!(guesses.near("lin", ["lan", "wan"].into_iter()).is_some());
        assert_eq!(guesses.near("lin", ["lan", "wan"].into_iter()), None);
    }

    #[test]
    fn of_many_names_the_first_are_listed() {
        assert_eq!(listed(["a", "b"].into_iter()), "a, b");
        assert_eq!(listed(std::iter::repeat_n("a", 20)).matches('a').count(), 20);
        assert!(listed(std::iter::repeat_n("a", 21)).ends_with("a, …"));
    }
}
