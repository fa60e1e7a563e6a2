//! `params`: how many parameters a model has, and where.

use clap::Args;
use tuwen::Error;
use tuwen::params::{self, Count, Part};

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::models::model_failure;

/// Arguments of `params`.
#[derive(Args)]
pub struct Params {
    /// A checkpoint (as for --model), or a published architecture such as clip-vit-base-patch32
    #[arg(value_name = "MODEL")]
    subject: Option<String>,
    /// How many levels of parts to show; with --json all are given
    #[arg(long, value_name = "N", default_value_t = 2)]
    depth: usize,
}

/// Runs `params`.
pub fn run(arguments: &Params, global: &Global, console: &Console) -> Result<Status, Failure> {
    let model = arguments.subject.as_deref().unwrap_or(global.model());
    global.fetch(model, console)?;
    let count = params::count(model, &global.options()).map_err(|error| match error {
        Error::NoSuchModel(_) => {
            let known: Vec<_> = params::architectures().collect();
            Failure::model(error).hint(format!("published architectures: {}", known.join(", ")))
        }
        other => model_failure(other),
    })?;
    if console.json {
        console.print(serde_json::to_string(&count)?)?;
    } else {
        console.print(table(model, &count, arguments.depth))?;
    }
    Ok(Status::Done)
}

/// A line for the total and one for each part, indented by level, with numbers and shares in columns.
fn table(model: &str, count: &Count, depth: usize) -> String {
    let mut rows = vec![(model.to_owned(), count.total, 1.0)];
    add(&count.parts, 1, depth, &mut rows);
    let width = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    let digits = grouped(count.total).len();
    let line = |(name, parameters, share): &(String, usize, f64)| {
        format!("{name:width$}  {:>digits$}  {:5.1} %", grouped(*parameters), 100.0 * share)
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn add(parts: &[Part], level: usize, depth: usize, rows: &mut Vec<(String, usize, f64)>) {
    if level > depth {
        return;
    }
    for part in parts {
        let name = part.path.rsplit('.').next().unwrap_or(&part.path);
        rows.push((format!("{:1$}{name}", "", 2 * level), part.parameters, part.share));
        add(&part.parts, level + 1, depth, rows);
    }
}

/// `1,234,567`
fn grouped(number: usize) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_aligned() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(grouped), ["0", "12", "123", "1,234", "1,234,567"]);
        let part = |path: &str, parameters, parts| Part {
            path: path.to_owned(),
            parameters,
            share: parameters as f64 / 2000.0,
            parts,
        };
        let parts = vec![part("a", 1990, vec![part("a.b", 1990, Vec::new())]), part("c", 10, Vec::new())];
        let count = Count { total: 2000, parts };
        assert_eq!(
            table("m", &count, 2),
            "m      2,000  100.0 %\n  a    1,990   99.5 %\n    b  1,990   99.5 %\n  c       10    0.5 %"
        );
        assert_eq!(table("m", &count, 1).lines().count(), 3);
    }
}
