//! Shows an action's events while it runs: bars on a terminal, lines otherwise. All of it goes to standard error.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvm_compose::{
    names::GuestName,
    orchestrate::event::{Event, EventKind, clean},
};

use crate::{
    output::{self, unicode},
    terminal::WithoutEcho,
};

/// How many running steps are shown at a time.
const ROWS: usize = 6;

/// What the events are shown on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    Bars,
    Lines,
}

/// Shows events.
pub struct Progress {
    display: Display,
    verbose: bool,
}

enum Display {
    None(Talk),
    Lines,
    Bars(Box<Bars>),
}

/// Whether notes are printed where events are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    Notes,
    Nothing,
}

impl Progress {
    /// Shows events on a terminal that can draw, or as lines.
    pub fn new(terminal: Terminal, verbose: bool) -> Progress {
        let display = match terminal {
            Terminal::Bars => Display::Bars(Box::new(Bars::new())),
            Terminal::Lines => Display::Lines,
        };
        Progress { display, verbose }
    }

    /// Shows no events; what this command itself has to say only when it is `Talk::Notes`.
    pub fn none(talk: Talk) -> Progress {
        Progress { display: Display::None(talk), verbose: false }
    }

    /// Takes one event. What a command prints is printed by whoever runs it.
    pub fn event(&mut self, event: &Event) {
        if matches!(event.kind, EventKind::Output { .. }) {
            return;
        }
        match &mut self.display {
            Display::None(_) => {}
            Display::Lines if self.verbose || !from_guest(&event.kind) => output::error_line(&event.line()),
            Display::Lines => {}
            Display::Bars(bars) => {
                if self.verbose {
                    bars.above(&event.line());
                }
                bars.event(&event.kind, self.verbose);
            }
        }
    }

    /// Says something of its own.
    pub fn note(&mut self, text: &str) {
        match &mut self.display {
            Display::None(Talk::Nothing) => {}
            Display::None(Talk::Notes) | Display::Lines => output::error_line(text),
            Display::Bars(bars) => bars.above(text),
        }
    }

    /// Takes what is drawn away. Notes still work.
    pub fn finish(&mut self) {
        if let Display::Bars(bars) = &mut self.display {
            bars.clear();
            self.display = Display::Lines;
        }
    }
}

/// What a guest printed is for `-v`.
fn from_guest(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Line { guest: Some(_), .. })
}

/// One bar for all steps, and a row for each that runs.
struct Bars {
    screen: MultiProgress,
    overall: ProgressBar,
    command: String,
    what: BTreeMap<String, (String, Vec<GuestName>)>,
    rows: Vec<(String, ProgressBar)>,
    waiting: Vec<Waiting>,
    _without_echo: WithoutEcho,
}

/// A step that runs and has no row.
struct Waiting {
    step: String,
    words: String,
    since: Instant,
}

impl Bars {
    fn new() -> Bars {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15));
        let overall = screen.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed}")));
        overall.set_message("waiting for the server");
        overall.enable_steady_tick(TICK);
        Bars {
            screen,
            overall,
            command: String::new(),
            what: BTreeMap::new(),
            rows: Vec::new(),
            waiting: Vec::new(),
            _without_echo: WithoutEcho::begin(),
        }
    }

    fn event(&mut self, kind: &EventKind, verbose: bool) {
        match kind {
            EventKind::Started { command } => {
                self.command = clean(command);
                self.overall.set_message(format!("{}: making the plan", self.command));
            }
            EventKind::Planned { steps } => {
                self.what = steps.iter().map(|step| (step.id.clone(), (clean(&step.what), step.guests.clone()))).collect();
                self.count(steps.len(), "");
                // The plan itself says so in its result.
                if steps.is_empty() && self.command != "plan" {
                    self.above(&format!("{}: nothing to do", self.command));
                }
            }
            EventKind::StepStarted { step } => self.start(step, self.words(step)),
            EventKind::UndoStarted { step } => self.start(step, format!("undo: {}", self.words(step))),
            EventKind::StepDone { step, .. } | EventKind::UndoDone { step } => self.end(step),
            EventKind::StepFailed { step, .. } | EventKind::UndoFailed { step, .. } => {
                self.end(step);
                self.failed(kind, verbose);
            }
            EventKind::Unwinding { steps } => self.count(*steps, ", undoing"),
            EventKind::Line { guest: Some(guest), text } => self.say(guest, text),
            EventKind::Line { guest: None, text } => self.overall.set_message(format!("{}: {}", self.command, clean(text))),
            EventKind::Progress { what, done, total, .. } => self.download(what, *done, *total),
            EventKind::Warning { .. } if !verbose => self.above(&kind.text()),
            EventKind::Warning { .. } | EventKind::Output { .. } | EventKind::Finished { .. } => {}
        }
    }

    /// The bar counts bytes.
    fn download(&mut self, what: &str, done: u64, total: Option<u64>) {
        match total {
            Some(total) => {
                self.overall.set_style(bytes_style());
                self.overall.set_length(total);
            }
            None => self.overall.set_style(style("{spinner} {prefix} {bytes} {elapsed} {wide_msg}")),
        }
        self.overall.set_prefix(clean(what));
        self.overall.set_message("");
        self.overall.set_position(done);
    }

    /// The bar counts anew.
    fn count(&mut self, steps: usize, doing: &str) {
        self.overall.set_style(style("{spinner} {prefix} {bar:28} {pos}/{len} {elapsed} {wide_msg}"));
        self.overall.set_prefix(format!("{}{doing}", self.command));
        self.overall.set_length(steps as u64);
        self.overall.set_position(0);
        self.overall.set_message("");
    }

    fn words(&self, step: &str) -> String {
        self.what.get(step).map_or_else(|| clean(step), |(what, _)| format!("{}: {what}", clean(step)))
    }

    fn start(&mut self, step: &str, words: String) {
        self.waiting.push(Waiting { step: step.to_string(), words, since: Instant::now() });
        self.fill();
    }

    fn end(&mut self, step: &str) {
        self.overall.inc(1);
        self.waiting.retain(|waiting| waiting.step != step);
        if let Some(index) = self.rows.iter().position(|(shown, _)| shown == step) {
            let (_, row) = self.rows.remove(index);
            row.finish_and_clear();
            self.screen.remove(&row);
        }
        self.fill();
    }

    /// Gives rows to steps that have none.
    fn fill(&mut self) {
        while self.rows.len() < ROWS && !self.waiting.is_empty() {
            let Waiting { step, words, since } = self.waiting.remove(0);
            let row =
                ProgressBar::new_spinner().with_style(style("  {spinner} {prefix} {elapsed} {wide_msg}")).with_elapsed(since.elapsed());
            let row = self.screen.add(row);
            row.set_prefix(words);
            row.enable_steady_tick(TICK);
            self.rows.push((step, row));
        }
        let more = self.waiting.len();
        self.overall.set_message(if more > 0 { format!("and {more} more") } else { String::new() });
    }

    /// The last thing a guest said stands beside its step.
    fn say(&mut self, guest: &GuestName, text: &str) {
        let of_guest = |step: &str| self.what.get(step).is_some_and(|(_, guests)| guests.contains(guest));
        if let Some((_, row)) = self.rows.iter().find(|(step, _)| of_guest(step)) {
            row.set_message(clean(text));
        }
    }

    fn failed(&mut self, kind: &EventKind, verbose: bool) {
        if !verbose {
            self.above(&format!("{} {}", if unicode() { "✗" } else { "x" }, kind.text()));
        }
    }

    /// Prints a line above the bars.
    fn above(&mut self, line: &str) {
        // A terminal that went away is no reason to stop: the action goes on.
        self.screen.println(line).unwrap_or_default();
    }

    fn clear(&mut self) {
        for (_, row) in self.rows.drain(..) {
            row.finish_and_clear();
        }
        self.overall.finish_and_clear();
    }
}

/// Whatever ends the watching, no bar is left behind that looks alive.
impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How a bar shows bytes.
pub fn bytes_style() -> ProgressStyle {
    style("{spinner} {prefix} {bar:28} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {elapsed} {wide_msg}")
}

/// How a bar shows bytes whose end is not known.
pub fn count_style() -> ProgressStyle {
    style("{spinner} {prefix} {binary_bytes} {binary_bytes_per_sec} {elapsed}")
}

const TICK: Duration = Duration::from_millis(120);

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    if unicode() { style.progress_chars("━╸─") } else { style.tick_chars("|/-\\ ").progress_chars("=>-") }
}
