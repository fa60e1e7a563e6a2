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

/// The page of a run.
pub fn markdown(machine: &Machine, versions: &[String], options: &Options, found: &[Found]) -> String {
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

/// A line for the run, and one for everyone in every row.
fn json_lines(machine: &Machine, versions: &[String], options: &Options, found: &[Found]) -> String {
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

/// Writes both files beside those of earlier runs, of which none is replaced; gives their name without ending.
pub fn keep(
    folder: &Path,
    machine: &Machine,
    versions: &[String],
    options: &Options,
    found: &[Found],
    page: &str,
) -> Result<PathBuf, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(fail)?;
    let name = free_name(folder, &format!("{}-{}", machine.date, slug(&machine.cpu)));
    let write = |ending, text: &str| {
        let part = folder.join(format!(".{name}.{ending}.part"));
        std::fs::write(&part, text)
            .and_then(|()| std::fs::rename(&part, folder.join(format!("{name}.{ending}"))))
    };
    write("jsonl", &json_lines(machine, versions, options, found)).map_err(fail)?;
    write("md", page).map_err(fail)?;
    Ok(folder.join(name))
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
        let found = [example(&[0.5], &[2.0], &[1.0])];
        let keep = || keep(folder.path(), &machine, &[], &options, &found, "page").expect("written");
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
