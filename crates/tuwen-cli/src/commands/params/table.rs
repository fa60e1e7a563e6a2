//! Reports as text, in columns.

use tuwen::params::{Cause, Part, Report, SizeChange, Usage};

/// The parts to a depth, then kinds and causes.
pub fn report(model: &str, report: &Report, depth: usize) -> String {
    let known = report.image != Usage::default();
    let mut header = vec!["", "parameters", "share"];
    if known {
        header.extend(["GFLOP/image", "GFLOP/text", "inference", "training", "keys, values"]);
    }
    let row = |name: String, parameters: usize, share: f64, image: &Usage, text: &Usage| {
        let mut row = vec![name, grouped(parameters), percent(share)];
        if known {
            row.extend([giga(image.flops), giga(text.flops)]);
            row.extend([
                bytes(image.inference_bytes.max(text.inference_bytes)),
                bytes(image.training_bytes + text.training_bytes),
                bytes(image.key_value_bytes + text.key_value_bytes),
            ]);
        }
        row
    };
    let mut rows = vec![header.into_iter().map(str::to_owned).collect()];
    rows.push(row(model.to_owned(), report.total, 1.0, &report.image, &report.text));
    walk(&report.parts, depth, &mut |part, level| {
        rows.push(row(indented(part, level), part.parameters, part.share, &part.image, &part.text));
    });
    rows.push(vec![String::new()]);
    rows.push(vec!["by kind".to_owned()]);
    for kind in &report.kinds {
        rows.push(row(format!("  {}", kind.kind), kind.parameters, kind.share, &kind.image, &kind.text));
    }
    let mut text = columns(&rows);
    if !report.causes.is_empty() {
        text += "\n\n";
        text += &columns(&causes(&report.causes));
    }
    text
}

fn causes(causes: &[Cause]) -> Vec<Vec<String>> {
    let header = ["by cause: half saves", "parameters", "GFLOP/image", "GFLOP/text", "training", ""];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(causes.iter().map(|cause| {
        let saved = [cause.parameters, cause.image_flops, cause.text_flops, cause.training_bytes];
        let mut row = vec![format!("  {}", cause.cause)];
        row.extend(saved.map(percent));
        row.push(format!("({})", sizes(&cause.changes)));
        row
    }));
    rows
}

/// `vision.width 768 -> 384, patch 32 -> 16`
pub fn sizes(changes: &[SizeChange]) -> String {
    let change = |change: &SizeChange| format!("{} {} -> {}", change.size, change.from, change.to);
    changes.iter().map(change).collect::<Vec<_>>().join(", ")
}

/// Visits parts down to a depth, with their level from 1 on.
pub fn walk<'r>(parts: &'r [Part], depth: usize, visit: &mut dyn FnMut(&'r Part, usize)) {
    fn below<'r>(parts: &'r [Part], level: usize, depth: usize, visit: &mut dyn FnMut(&'r Part, usize)) {
        for part in parts.iter().filter(|_| level <= depth) {
            visit(part, level);
            below(&part.parts, level + 1, depth, visit);
        }
    }
    below(parts, 1, depth, visit);
}

/// The last piece of a part's path, indented by its level.
pub fn indented(part: &Part, level: usize) -> String {
    format!("{:1$}{2}", "", 2 * level, part.path.rsplit('.').next().unwrap_or(&part.path))
}

/// Aligns columns: the first to the left, numbers to the right, remarks in brackets to the left.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 || cell.starts_with('(') {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `1,234,567`
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.5 %`
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Operations in 10⁹; nothing for none.
pub fn giga(flops: u64) -> String {
    if flops == 0 { String::new() } else { format!("{:.2}", flops as f64 / 1e9) }
}

/// `12.3 MB`; nothing for none.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        1..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_aligned() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(grouped), ["0", "12", "123", "1,234", "1,234,567"]);
        assert_eq!([0, 999, 1_500_000, 2_000_000_000].map(bytes), ["", "1.0 kB", "1.5 MB", "2.00 GB"]);
        let rows = [["a", "1", "(x)"], ["bcd", "100", "(yy)"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "a      1  (x)\nbcd  100  (yy)");
    }

    #[test]
    fn parts_are_shown_to_a_depth() {
        let part = |path: &str, parts| Part { path: path.to_owned(), parts, ..Part::default() };
        let parts = [part("a", vec![part("a.b", Vec::new())]), part("c", Vec::new())];
        let shown = |depth| {
            let mut names = Vec::new();
            walk(&parts, depth, &mut |part, level| names.push(indented(part, level)));
            names
        };
        assert_eq!(shown(2), ["  a", "    b", "  c"]);
        assert_eq!(shown(1), ["  a", "  c"]);
    }
}
