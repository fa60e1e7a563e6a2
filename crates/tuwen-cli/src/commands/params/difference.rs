//! Two reports side by side.

use std::collections::BTreeMap;

use tuwen::params::{Part, Report, Usage, WhatIf};

use super::table::{bytes, columns, giga, grouped, indented, sizes, walk};

/// What is compared of a part.
#[derive(Clone, Copy, Default)]
struct Figures {
    parameters: usize,
    flops: u64,
    training: u64,
}

impl Figures {
    fn new(parameters: usize, image: &Usage, text: &Usage) -> Self {
        let flops = image.flops + text.flops;
        Self { parameters, flops, training: image.training_bytes + text.training_bytes }
    }

    fn of(part: &Part) -> Self {
        Self::new(part.parameters, &part.image, &part.text)
    }
}

/// A row for each part down to a depth: before, after, and the difference of the parameters, the operations for an image
/// and a text, and the memory that training keeps for them.
pub fn report(model: &str, before: &Report, what_if: &WhatIf, depth: usize) -> String {
    let after = &what_if.report;
    let header = ["", "parameters", "", "", "GFLOP", "", "", "training", "", ""].map(str::to_owned).to_vec();
    let total = |report: &Report| Figures::new(report.total, &report.image, &report.text);
    let mut rows = vec![header, row(model.to_owned(), total(before), total(after))];
    rows.extend(parts(before, after, depth));
    rows.push(vec![String::new()]);
    rows.push(vec!["by kind".to_owned()]);
    let of_kind = |report: &Report, kind| {
        let found = report.kinds.iter().find(|share| share.kind == kind);
        found.map(|share| Figures::new(share.parameters, &share.image, &share.text)).unwrap_or_default()
    };
    for share in &before.kinds {
        let kind = share.kind;
        rows.push(row(format!("  {kind}"), of_kind(before, kind), of_kind(after, kind)));
    }
    let changes = match what_if.changes.as_slice() {
        [] => "nothing changes".to_owned(),
        changes => sizes(changes),
    };
    format!("what if {changes}\n\n{}", columns(&rows))
}

/// The parts of both; what only the second has follows at the end of its level's list.
fn parts(before: &Report, after: &Report, depth: usize) -> Vec<Vec<String>> {
    let mut later: BTreeMap<&str, Figures> = BTreeMap::new();
    walk(&after.parts, depth, &mut |part, _| {
        later.insert(&part.path, Figures::of(part));
    });
    let mut rows = Vec::new();
    walk(&before.parts, depth, &mut |part, level| {
        let after = later.remove(part.path.as_str()).unwrap_or_default();
        rows.push(row(indented(part, level), Figures::of(part), after));
    });
    walk(&after.parts, depth, &mut |part, level| {
        if let Some(figures) = later.get(part.path.as_str()) {
            rows.push(row(indented(part, level) + " (new)", Figures::default(), *figures));
        }
    });
    rows
}

fn row(name: String, before: Figures, after: Figures) -> Vec<String> {
    let mut row = vec![name];
    let count = |n| if n == 0 { String::new() } else { grouped(n) };
    row.extend(pair(count(before.parameters), count(after.parameters)));
    row.push(change(before.parameters as f64, after.parameters as f64));
    row.extend(pair(giga(before.flops), giga(after.flops)));
    row.push(change(before.flops as f64, after.flops as f64));
    row.extend(pair(bytes(before.training), bytes(after.training)));
    row.push(change(before.training as f64, after.training as f64));
    row
}

fn pair(before: String, after: String) -> [String; 2] {
    let arrow = if before.is_empty() && after.is_empty() { String::new() } else { format!("-> {after}") };
    [before, arrow]
}

/// `-50.0 %`
fn change(before: f64, after: f64) -> String {
    match () {
        () if before == after => String::new(),
        () if before == 0.0 => "new".to_owned(),
        () => format!("{:+.1} %", 100.0 * (after / before - 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_relative() {
        assert_eq!(change(4.0, 3.0), "-25.0 %");
        assert_eq!(change(2.0, 5.0), "+150.0 %");
        assert_eq!((change(1.0, 1.0), change(0.0, 1.0)), (String::new(), "new".to_owned()));
    }

    #[test]
    fn parts_of_either_model_have_a_row() {
        let part = |path: &str, parameters| Part { path: path.to_owned(), parameters, ..Part::default() };
        let report = |parts: Vec<Part>| {
            let total = parts.iter().map(|part| part.parameters).sum();
            Report { total, parts, ..Report::default() }
        };
        let before = report(vec![part("a", 10), part("b", 4)]);
        let what_if = WhatIf { changes: Vec::new(), report: report(vec![part("a", 5), part("c", 2)]) };
        let text = super::report("m", &before, &what_if, 1);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for expected in ["m 14 -> 7 -50.0 %", "a 10 -> 5 -50.0 %", "b 4 -> -100.0 %", "c (new) -> 2 new"] {
            assert!(lines.iter().any(|line| line == expected), "{expected} in {text}");
        }
    }
}
