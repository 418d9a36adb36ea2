//! The style of a picture that stands alone: the pages' style sheet with the light colours put in. Not every program that
//! shows SVG knows CSS variables.

const SHEET: &str = include_str!("../../../templates/static/picture.css");

const COLOURS: &[(&str, &str)] = &[
    ("ink", "#1b1f27"),
    ("dim", "#5a6270"),
    ("line", "#98a1ae"),
    ("paper", "#ffffff"),
    ("link", "#1f55b5"),
    ("good", "#1d7a46"),
    ("busy", "#2359b8"),
    ("bad", "#b3261e"),
    ("half", "#8f5a00"),
    ("idle", "#5a6270"),
    ("unsure", "#6b4fa0"),
    ("good-soft", "#e3f3e9"),
    ("busy-soft", "#e4ecfa"),
    ("bad-soft", "#fbe7e5"),
    ("half-soft", "#faefd9"),
    ("unsure-soft", "#efe9f8"),
    ("mono", "\"DejaVu Sans Mono\", Menlo, Consolas, monospace"),
];

/// The style sheet without variables.
pub fn style() -> String {
    COLOURS.iter().fold(SHEET.to_string(), |sheet, (name, colour)| sheet.replace(&format!("var(--{name})"), colour))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_variable_has_a_value() {
        let style = super::style();
        assert!(!style.contains("var(") && style.contains("#2359b8"), "{style}");
    }
}
