//! What people see: data on stdout, progress and messages on stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::jobs::{Estimate, Event, Progress, ReadingProgress, WindowProgress};
use crate::openai::ENDPOINT;
use crate::shown::{one_screen, outgoing};
use crate::text::bytes;

/// Whether `--quiet` was given; stderr is the whole process's, and so is this.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Before anything is said: whether notes and progress are left out.
pub(super) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether notes and progress are left out.
pub(super) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints what is as it should be. A reader that went away (`| head`) has what it wanted; any other failure is said.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let text = text.trim_end_matches('\n');
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// `error: …` and `hint: …` on stderr.
pub(super) fn print_error(message: &str) {
    say(&one_screen(&format!("error: {message}")));
}

/// A line on stderr that `--quiet` leaves out: what is good to know, and no reason of an exit code.
pub(super) fn note(line: &str) {
    if !is_quiet() {
        say(line);
    }
}

/// A line for each note.
pub(super) fn print_notes(notes: &[String]) {
    for text in notes {
        note(&format!("note: {text}"));
    }
}

/// A line on stderr that belongs to an error; nobody is left to be told if that fails.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", outgoing(line, false));
}

/// Shows a run's events: a bar on a terminal, a line now and then elsewhere.
pub(super) struct Printer {
    bar: Option<ProgressBar>,
    terminal: bool,
    /// What is left to say when the bar goes.
    latest: Option<String>,
    last_line: Instant,
}

impl Printer {
    const LINE_EVERY: Duration = Duration::from_secs(10);

    pub(super) fn new() -> Self {
        Self { bar: None, terminal: io::stderr().is_terminal(), latest: None, last_line: Instant::now() }
    }

    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Note(text) => note(&format!("note: {text}")),
            Event::Folder { path, done, total } => note(&folder_line(&path, done, total)),
            Event::Loading { variant, repetition: 1, repetitions: 1 } => note(&format!("{variant:4}  loading")),
            Event::Loading { variant, repetition: 1, repetitions } => {
                note(&format!("{variant:4}  loading, {repetitions} times"));
            }
            Event::Loading { .. } => {}
            Event::Loaded { variant, engine: info, first_token: Some(load) } => note(&format!(
                "{variant:4}  {} engine on {}: ready in {:.3} s, first token after {:.3} s, {} of weights",
                info.name,
                info.device,
                load.ready_seconds,
                load.first_token_seconds,
                info.weight_bytes.map_or_else(|| "unknown bytes".to_owned(), bytes)
            )),
            Event::Loaded { variant, engine: info, .. } if info.name == ENDPOINT => {
                note(&format!("{variant:4}  {} at {}", info.version, info.device));
            }
            Event::Loaded { variant, engine: info, first_token: None } => note(&format!(
                "{variant:4}  {} engine on {}: loaded in {:.2} s, {} of weights{}, up to {} requests at once",
                info.name,
                info.device,
                info.load.total_seconds,
                info.weight_bytes.map_or_else(|| "unknown bytes".to_owned(), bytes),
                info.device_bytes.map(|held| format!(", {} held on the GPU", bytes(held))).unwrap_or_default(),
                info.batch
            )),
            Event::Estimate(estimate) => note(&estimate_line(&estimate)),
            Event::Progress(progress) => {
                let (line, end) = (progress_line(&progress), end_line(&progress));
                let (done, total) = progress.share();
                self.show(done, total, &line, Some(end));
            }
            Event::Window(progress) => {
                let (line, end) = (window_line(&progress), window_end_line(&progress));
                self.show(progress.passes_done as u64, progress.passes as u64, &line, Some(end));
            }
            Event::Reading(progress) => {
                let (line, end) = (reading_line(&progress), format!("read in {}", duration(progress.seconds)));
                self.show(progress.done as u64, progress.total as u64, &line, Some(end));
            }
            Event::Ended(_) => self.end(),
            Event::Failed { variant, message } => note(&format!("{variant:4}  failed: {message}")),
        }
    }

    /// A bar, or a line now and then; `end_line` is what [`Printer::end`] leaves of it.
    pub(super) fn show(&mut self, done: u64, total: u64, line: &str, end_line: Option<String>) {
        let line = outgoing(line, false);
        self.latest = end_line;
        if is_quiet() {
            return;
        }
        if self.terminal {
            let bar = self.bar.get_or_insert_with(|| new_bar(total));
            bar.set_position(done);
            bar.set_message(line);
        } else if self.last_line.elapsed() > Self::LINE_EVERY {
            self.last_line = Instant::now();
            note(&line);
        }
    }

    /// The bar gives way to a line that stays.
    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(line) = self.latest.take() {
            note(&line);
        }
    }
}

/// A message on stderr, and a bar in what it leaves of the line.
fn new_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {wide_bar}").unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style)
}

fn folder_line(path: &Path, done: usize, total: usize) -> String {
    match done {
        0 => format!("run folder {}: {total} completions to generate", path.display()),
        _ => format!("run folder {}: {done} of {total} completions are there already", path.display()),
    }
}

/// How long it will take if answers are as long as is to be expected, and at most.
fn estimate_line(estimate: &Estimate) -> String {
    let Estimate { variant, variants, completions, expected, by_variant, most: (limit, seconds), speed } = estimate;
    let like = if *by_variant { "those before" } else { "the dataset's" };
    let expected = expected.map_or_else(String::new, |(tokens, seconds)| {
        format!("about {} if answers are as long as {like} ({tokens:.0} tokens), ", duration(seconds))
    });
    let of = if *variants == 1 { String::new() } else { format!(" of {variants} variants") };
    format!(
        "{variant:4}  {completions} completions{of} will take {expected}{} at most ({limit} tokens each): prefill {:.0}, decode {:.0} \
         tokens/s",
        duration(*seconds),
        speed.prefill,
        speed.decode
    )
}

fn progress_line(progress: &Progress) -> String {
    let Progress { variant, completed, total, running, .. } = progress;
    let part = part_text(progress);
    let remaining = remaining_text(progress.remaining_seconds.filter(|_| !progress.is_done()));
    let speed = speed_text(progress.tokens_per_second());
    let (cache, running) = (cache_text(progress.cache_bytes), running_text(*running, progress.waiting()));
    format!("{variant:4}  {part}{completed}/{total} done{remaining}{speed}{cache}{running}")
}

/// `single: `, where the work has parts.
fn part_text(progress: &Progress) -> String {
    progress.part.map_or_else(String::new, |part| format!("{part}: "))
}

/// `, 42 s left`.
pub(super) fn remaining_text(seconds: Option<f64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!(", {} left", duration(seconds)))
}

/// `, 100 tokens/s`.
pub(super) fn speed_text(tokens_per_second: Option<f64>) -> String {
    tokens_per_second.map_or_else(String::new, |speed| format!(", {speed:.0} tokens/s"))
}

/// `, 8 running` where others wait: else it is all that are not done, and the line is short.
pub(super) fn running_text(running: usize, waiting: usize) -> String {
    if waiting == 0 { String::new() } else { format!(", {running} running") }
}

/// `, cache 12.1 GB`: keys and values of the requests that run.
pub(super) fn cache_text(cache_bytes: Option<u64>) -> String {
    cache_bytes.map_or_else(String::new, |held| format!(", cache {}", bytes(held)))
}

fn end_line(progress: &Progress) -> String {
    let Progress { variant, completed, total, seconds, .. } = progress;
    let part = part_text(progress);
    let speed = speed_text(progress.tokens_per_second());
    format!("{variant:4}  {part}{completed}/{total} done in {}{speed}", duration(*seconds))
}

fn window_line(progress: &WindowProgress) -> String {
    let WindowProgress { windows_done, windows, scored_tokens, passes_done, passes, .. } = progress;
    let remaining = remaining_text(progress.remaining_seconds().filter(|_| passes_done < passes));
    format!("window {windows_done}/{windows} done, {scored_tokens} tokens scored{remaining}")
}

fn window_end_line(progress: &WindowProgress) -> String {
    let WindowProgress { windows_done, windows, scored_tokens, seconds, .. } = progress;
    format!("{windows_done}/{windows} windows, {scored_tokens} tokens scored in {}", duration(*seconds))
}

fn reading_line(progress: &ReadingProgress) -> String {
    let ReadingProgress { what, done, total, .. } = progress;
    let remaining = remaining_text(progress.remaining_seconds().filter(|_| done < total));
    format!("{what}, {} % done{remaining}", 100 * done / (*total).max(1))
}

/// `42 s`, `3 min 05 s`, `2 h 10 min`.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Dtype;
    use crate::jobs::Speed;

    #[test]
    fn progress_says_what_is_running_and_what_is_left() {
        let progress = Progress {
            variant: Dtype::F16.into(),
            part: None,
            completed: 30,
            completed_now: 10,
            total: 100,
            running: 8,
            cache_bytes: Some(12_100_000_000),
            output_tokens: 2000,
            expected_tokens: None,
            seconds: 20.0,
            remaining_seconds: Some(140.0),
        };
        assert_eq!(
            progress_line(&progress),
            "f16   30/100 done, 2 min 20 s left, 100 tokens/s, cache 12.1 GB, 8 running"
        );
        assert_eq!(end_line(&progress), "f16   30/100 done in 20 s, 100 tokens/s");
        let begun = Progress {
            completed: 20,
            total: 28,
            cache_bytes: None,
            output_tokens: 0,
            remaining_seconds: None,
            ..progress
        };
        assert_eq!(progress_line(&begun), "f16   20/28 done");
    }

    #[test]
    fn progress_of_many_requests_fits_a_line_of_eighty() {
        let progress = Progress {
            variant: Dtype::F16.into(),
            part: None,
            completed: 1100,
            completed_now: 1100,
            total: 1319,
            running: 200,
            cache_bytes: Some(12_100_000_000),
            output_tokens: 1_421_400,
            expected_tokens: None,
            seconds: 10.0,
            remaining_seconds: Some(2.0),
        };
        let line = progress_line(&progress);
        assert_eq!(line, "f16   1100/1319 done, 2 s left, 142140 tokens/s, cache 12.1 GB, 200 running");
        assert!(line.len() < 80, "{line}");
    }

    #[test]
    fn progress_of_a_part_says_what_is_left_of_its_tokens() {
        let progress = Progress {
            variant: Dtype::F16.into(),
            part: Some("workload"),
            completed: 3,
            completed_now: 3,
            total: 10,
            running: 6,
            cache_bytes: Some(12_100_000_000),
            output_tokens: 640,
            expected_tokens: Some(2560),
            seconds: 4.0,
            remaining_seconds: Some(12.0),
        };
        assert_eq!(
            progress_line(&progress),
            "f16   workload: 3/10 done, 12 s left, 160 tokens/s, cache 12.1 GB, 6 running"
        );
        let done =
            Progress { completed: 10, running: 0, cache_bytes: None, output_tokens: 2560, seconds: 16.0, ..progress };
        assert_eq!(progress_line(&done), "f16   workload: 10/10 done, 160 tokens/s");
        assert_eq!(end_line(&done), "f16   workload: 10/10 done in 16 s, 160 tokens/s");
    }

    #[test]
    fn an_estimate_says_how_long_and_at_most_how_long() {
        let estimate = Estimate {
            variant: Dtype::F32.into(),
            variants: 4,
            completions: 40,
            expected: Some((95.2, 42.0)),
            by_variant: false,
            most: (256, 110.0),
            speed: Speed { prefill: 5400.4, decode: 310.0 },
        };
        assert_eq!(
            estimate_line(&estimate),
            "f32   40 completions of 4 variants will take about 42 s if answers are as long as the dataset's (95 tokens), \
             1 min 50 s at most (256 tokens each): prefill 5400, decode 310 tokens/s"
        );
        let last = Estimate { variants: 1, completions: 10, by_variant: true, ..estimate.clone() };
        assert!(
            estimate_line(&last)
                .starts_with("f32   10 completions will take about 42 s if answers are as long as those before")
        );
        let unknown = Estimate { expected: None, ..estimate };
        assert!(
            estimate_line(&unknown).starts_with("f32   40 completions of 4 variants will take 1 min 50 s at most (256")
        );
    }

    #[test]
    fn readings_say_what_is_left() {
        let progress =
            ReadingProgress { what: "layer 3 of 30, q_proj".to_owned(), done: 25, total: 100, seconds: 30.0 };
        assert_eq!(reading_line(&progress), "layer 3 of 30, q_proj, 25 % done, 1 min 30 s left");
        assert_eq!(reading_line(&ReadingProgress { done: 100, ..progress }), "layer 3 of 30, q_proj, 100 % done");
    }

    #[test]
    fn windows_say_what_is_left() {
        let progress = WindowProgress {
            windows_done: 5,
            windows: 20,
            passes_done: 10,
            passes: 40,
            scored_tokens: 1535,
            seconds: 30.0,
        };
        assert_eq!(window_line(&progress), "window 5/20 done, 1535 tokens scored, 1 min 30 s left");
        assert_eq!(window_end_line(&progress), "5/20 windows, 1535 tokens scored in 30 s");
    }

    #[test]
    fn durations_keep_two_units() {
        assert_eq!(
            [duration(0.4), duration(59.6), duration(185.0), duration(7805.0)],
            ["0 s", "1 min 00 s", "3 min 05 s", "2 h 10 min"]
        );
    }
}
