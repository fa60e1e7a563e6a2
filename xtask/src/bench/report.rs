//! Tables for people, lines for programs.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::figures::{Figure, Result as Found};
use super::machine::Machine;
use super::options::Options;

/// A row in words, as soon as it is there.
pub fn line(found: &Found) -> String {
    let own = found.per_second(&found.own);
    match found.best().zip(found.ratio()) {
        Some((best, ratio)) => {
            let theirs = found.per_second(best);
            format!("{own:.2}/s, {} {theirs:.2}/s, ratio {ratio:.2}", best.who)
        }
        None => format!("{own:.2}/s, no peer"),
    }
}

/// A run, as far as it has come.
pub struct Run {
    /// Where.
    pub machine: Machine,
    /// The packages of the peers.
    pub versions: Vec<String>,
    /// How.
    pub options: Options,
    /// The rows.
    pub found: Vec<Found>,
}

impl Run {
    /// The page of a run.
    pub fn markdown(&self) -> String {
        let Self { machine, versions, options, found } = self;
        let mut page = format!("# Speed, {}\n\n{}.\n\n", machine.date, machine.describe());
        let Options { rounds, seconds, .. } = options;
        let against = if versions.is_empty() { "no peer".to_owned() } else { versions.join(", ") };
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "Against {against}. Medians of {rounds} rounds of {seconds} s, everyone in turn. A ratio above 1 is ours. The limit \
         is the share of what the machine could do that we reach.\n"
        );
        page.push_str(
            "| stage | model | batch | precision | ours, /s | best peer, /s | ratio | limit | memory, MB |\n",
        );
        page.push_str("|---|---|--:|---|--:|--:|--:|--:|--:|\n");
        found.iter().for_each(|found| page.push_str(&table_row(found)));
        page.push_str("\nEveryone, /s:\n\n");
        for found in found {
            let all = found.others.iter().map(|figure| rate(found, figure)).collect::<Vec<_>>().join(", ");
            let _ = writeln!(page, "- {}: {}; {all}", found.row, rate(found, &found.own));
        }
        page
    }

    /// A line for the run, and one for everyone in every row.
    fn json_lines(&self) -> String {
        let Self { machine, versions, options, found } = self;
        let mut head = machine.json();
        head["versions"] = json!(versions);
        head["rounds"] = json!(options.rounds);
        head["round_seconds"] = json!(options.seconds);
        let mut lines = vec![head];
        for found in found {
            let row = &found.row;
            for figure in [&found.own].into_iter().chain(&found.others) {
                let rounds: Vec<f64> = figure.answers.iter().map(|answer| answer.seconds).collect();
                lines.push(json!({
                "stage": row.stage, "model": row.model, "batch": row.batch, "precision": row.precision,
                "program": figure.who, "seconds": figure.seconds(), "per_second": found.per_second(figure),
                "rounds": rounds, "peak_memory": figure.peak_memory(), "roofline": figure.roofline(),
            }));
            }
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

fn rate(found: &Found, figure: &Figure) -> String {
    format!("{} {:.2}", figure.who, found.per_second(figure))
}

fn table_row(found: &Found) -> String {
    let row = &found.row;
    let best = found.best();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let megabytes =
        |figure: &Figure| or_dash(figure.peak_memory().map(|bytes| format!("{:.0}", bytes as f64 / 1e6)));
    format!(
        "| {} | {} | {} | {} | {:.2} | {} | {} | {} | {} / {} |\n",
        row.stage,
        row.model.unwrap_or("small CLIP"),
        row.batch,
        row.precision,
        found.per_second(&found.own),
        or_dash(best.map(|best| format!("{:.2} ({})", found.per_second(best), best.who))),
        or_dash(found.ratio().map(|ratio| format!("{ratio:.2}"))),
        or_dash(found.own.roofline().map(|share| format!("{:.0} %", 100.0 * share))),
        megabytes(&found.own),
        or_dash(best.map(megabytes)),
    )
}

/// The two files of a run beside those of earlier runs, of which none is replaced.
pub struct Kept {
    folder: PathBuf,
    name: String,
}

impl Kept {
    /// Files that do not exist yet.
    pub fn new(folder: &Path, machine: &Machine) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let name = free_name(folder, &format!("{}-{}", machine.date, slug(&machine.cpu)));
        Ok(Self { folder: folder.to_owned(), name })
    }

    /// Their path without ending.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Writes what there is, so that a run that is broken off keeps its rows.
    pub fn write(&self, run: &Run) -> Result<(), String> {
        let write = |ending, text: &str| {
            let part = self.folder.join(format!(".{}.{ending}.part", self.name));
            let whole = self.folder.join(format!("{}.{ending}", self.name));
            std::fs::write(&part, text)
                .and_then(|()| std::fs::rename(&part, &whole))
                .map_err(|error| format!("{}: {error}", whole.display()))
        };
        write("jsonl", &run.json_lines())?;
        write("md", &run.markdown())
    }
}

/// The first of `name`, `name-2`, `name-3`... that no run has.
fn free_name(folder: &Path, name: &str) -> String {
    let taken =
        |name: &String| ["md", "jsonl"].iter().any(|end| folder.join(format!("{name}.{end}")).exists());
    let mut free = name.to_owned();
    let mut number = 2;
    while taken(&free) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}

/// Small letters and digits, and hyphens for what lies between.
fn slug(text: &str) -> String {
    let lower = text.to_ascii_lowercase().replace("(r)", "").replace("(tm)", "");
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::super::figures::example;
    use super::*;

    #[test]
    fn a_row_tells_ratio_limit_and_memory() {
        let found = example(&[0.5], &[2.0], &[1.0]);
        assert_eq!(
            table_row(&found),
            "| encode_image | clip-rn50 | 16 | bf16 | 32.00 | 16.00 (second) | 2.00 | 50 % | 2 / 2 |\n"
        );
        let alone = Found { others: vec![], ..found };
        assert!(table_row(&alone).ends_with("| 32.00 | - | - | 50 % | 2 / - |\n"), "{}", table_row(&alone));
    }

    #[test]
    fn no_run_replaces_another() {
        let folder = tempfile::tempdir().expect("a directory");
        let options = Options::parse(&[]).expect("nothing said");
        let machine = Machine::look(2);
        let mut run = Run { machine, versions: vec![], options, found: vec![] };
        let mut keep = || {
            let kept = Kept::new(folder.path(), &run.machine).expect("a folder");
            run.found.clear();
            kept.write(&run).expect("written");
            run.found.push(example(&[0.5], &[2.0], &[1.0]));
            kept.write(&run).expect("written again");
            kept.path()
        };
        let (first, second) = (keep(), keep());
        assert_ne!(first, second);
        let text = std::fs::read_to_string(first.with_extension("jsonl")).expect("there");
        assert_eq!(text.lines().count(), 1 + 3, "the run and three programs");
    }

    #[test]
    fn names_are_for_files() {
        assert_eq!(slug("Intel(R) Xeon(R) Processor @ 2.10GHz"), "intel-xeon-processor-2-10ghz");
    }
}
