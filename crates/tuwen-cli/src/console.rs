//! What the program says: results on stdout, everything else on stderr.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::failure::Failure;

/// Time between two lines of progress where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes in a unit of progress where bytes are moved.
pub const MEGABYTE: u64 = 1_000_000;

/// The two output streams, which a progress bar shares with the lines that are written.
pub struct Console {
    /// Whether results are JSON objects.
    pub json: bool,
    quiet: bool,
    bars: MultiProgress,
}

impl Console {
    /// Draws progress bars only where stderr is a terminal.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, bars: MultiProgress::new() }
    }

    /// Writes one line of results.
    pub fn print(&self, line: impl Display) -> Result<(), Failure> {
        let write = || writeln!(io::stdout(), "{line}");
        let written = if io::stdout().is_terminal() { self.bars.suspend(write) } else { write() };
        Ok(written.context("cannot write to stdout")?)
    }

    /// Says something that a user should know even with `--quiet`: an input that failed, a text that was cut.
    pub fn warn(&self, line: impl Display) {
        // If stderr is gone, nobody can be told.
        let _ = self.bars.suspend(|| writeln!(io::stderr(), "{}", harmless(&line.to_string())));
    }

    /// Says something in passing, unless `--quiet`.
    pub fn note(&self, line: impl Display) {
        if !self.quiet {
            self.warn(line);
        }
    }

    /// Begins a stretch of work of `total` units, or 0 while that is not known; `noun` is their plural.
    pub fn progress(&self, total: u64, noun: &'static str) -> Progress<'_> {
        let drawn = !self.quiet && io::stderr().is_terminal();
        let bar = if drawn { self.bars.add(ProgressBar::no_length()) } else { ProgressBar::hidden() };
        set_total(&bar, total, noun);
        let now = Instant::now();
        let plain = !self.quiet && !drawn;
        Progress { console: self, bar, noun, plain, started: now, before: Arc::default(), said: now }
    }
}

/// A progress bar with rate and time left on a terminal; elsewhere a line now and then; with `--quiet` nothing.
pub struct Progress<'c> {
    console: &'c Console,
    bar: ProgressBar,
    noun: &'static str,
    plain: bool,
    /// When the work began.
    started: Instant,
    /// Units that were done before it began.
    before: Arc<AtomicU64>,
    /// When the last line was written.
    said: Instant,
}

impl Progress<'_> {
    /// Counts units as done.
    pub fn advance(&mut self, units: u64) {
        self.bar.inc(units);
        if self.plain && self.said.elapsed() >= PLAIN_INTERVAL {
            self.said = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let fresh = done.saturating_sub(self.before.load(Ordering::Relaxed));
            self.console.warn(plain_line(done, total, self.noun, fresh, self.started.elapsed()));
        }
    }

    /// What sets the total from another thread once it is known; none where nobody would see it.
    pub fn total(&self) -> Option<impl FnOnce(u64) + Send + use<>> {
        let (bar, noun) = (self.bar.clone(), self.noun);
        (self.plain || !bar.is_hidden()).then_some(move |total| set_total(&bar, total, noun))
    }

    /// What counts, from another thread, a unit that was done before this stretch began.
    pub fn passed(&self) -> impl Fn() + Send + use<> {
        let (bar, before) = (self.bar.clone(), Arc::clone(&self.before));
        move || {
            before.fetch_add(1, Ordering::Relaxed);
            bar.inc(1);
            bar.reset_eta();
        }
    }

    /// Sets how many units were done before this stretch began.
    pub fn resume_at(&mut self, done: u64) {
        self.started = Instant::now();
        self.before.store(done, Ordering::Relaxed);
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// Sets the text behind the bar.
    pub fn message(&self, text: String) {
        self.bar.set_message(text);
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A message that may quote a file or its name: it cannot steer a terminal, and ends before it fills the screen.
fn harmless(message: &str) -> String {
    /// Longer than any message of ours, the report of a load included.
    const LONGEST: usize = 4000;
    let mut shown = String::with_capacity(message.len().min(LONGEST));
    for (count, character) in message.chars().enumerate() {
        if count == LONGEST {
            shown.push_str("...");
            break;
        }
        match character {
            '\n' => shown.push('\n'),
            character if character.is_control() => shown.extend(character.escape_default()),
            character => shown.push(character),
        }
    }
    shown
}

/// Sets the length of a bar, 0 where it is not known.
fn set_total(bar: &ProgressBar, total: u64, noun: &'static str) {
    if total > 0 {
        bar.set_length(total);
        bar.set_style(style(
            &format!("{{bar:32}} {{pos}}/{{len}} {noun}  {{rate}}  {{eta}} left  {{msg}}"),
            noun,
        ));
    } else {
        bar.set_style(style(&format!("{{spinner}} {{pos}} {noun}  {{rate}}  {{msg}}"), noun));
    }
}

/// What a bar shows, with the rate of units of this name.
fn style(template: &str, noun: &'static str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", move |state: &ProgressState, out: &mut dyn fmt::Write| {
        // A bar that cannot be drawn is no reason to stop.
        let _ = write!(out, "{:.1} {noun}/s", state.per_sec());
    })
}

/// `120 of 500 images, 12.5 images/s, 30 s left`; less where the total is not known.
fn plain_line(done: u64, total: u64, noun: &str, fresh: u64, elapsed: Duration) -> String {
    let rate = fresh as f64 / elapsed.as_secs_f64();
    if total == 0 {
        return format!("{done} {noun}, {rate:.1} {noun}/s");
    }
    let left = (total.saturating_sub(done)) as f64 / rate;
    format!("{done} of {total} {noun}, {rate:.1} {noun}/s, {left:.0} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_from_what_was_done_in_this_run() {
        let line = plain_line(120, 500, "images", 100, Duration::from_secs(8));
        assert_eq!(line, "120 of 500 images, 12.5 images/s, 30 s left");
        assert_eq!(plain_line(120, 0, "images", 100, Duration::from_secs(8)), "120 images, 12.5 images/s");
    }

    #[test]
    fn what_a_message_quotes_cannot_steer_a_terminal() {
        assert_eq!(harmless("a\u{1b}[2J: b\r\n  c\u{9b}é"), "a\\u{1b}[2J: b\\r\n  c\\u{9b}é");
        assert_eq!(harmless(&"x".repeat(1 << 20)).len(), 4003);
    }
}
