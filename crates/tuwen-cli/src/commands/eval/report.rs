//! The metrics of a suite on stdout, and whether they are what was expected.

use serde_json::json;
use tuwen_eval::Metrics;
use tuwen_eval::metrics::is_count;

use super::expect::Expected;
use crate::console::Console;
use crate::failure::{Failure, Status};

/// What a suite found.
pub struct Report {
    pub suite: &'static str,
    /// The data set that was measured on.
    pub data: String,
    pub model: String,
    pub metrics: Metrics,
}

impl Report {
    /// Prints a line for each metric; `failed` inputs could not be read.
    pub fn print(&self, expected: &[Expected], failed: usize, console: &Console) -> Result<Status, Failure> {
        let Self { suite, data, model, metrics } = self;
        let width = metrics.keys().map(String::len).max().unwrap_or(0);
        for (metric, value) in metrics {
            let expectation = expected.iter().find(|expected| expected.metric == *metric);
            if !console.json {
                console.print(format_args!("{suite}  {data}  {metric:width$}  {}", shown(metric, *value)))?;
                continue;
            }
            let mut line = json!({
                "suite": suite, "data": data, "model": model, "metric": metric, "value": value,
            });
            if let Some(expected) = expectation {
                line["expected"] = json!(expected.to_string());
                line["ok"] = json!(expected.holds(*value));
            }
            console.print(line)?;
        }
        let wrong: Vec<String> = expected.iter().filter_map(|expected| expected.complaint(metrics)).collect();
        wrong.iter().for_each(|complaint| console.warn(complaint));
        Ok(if wrong.is_empty() { Status::after(failed) } else { Status::Check })
    }
}

/// A metric as a table has it: a count as a whole number, where the digits before the point stand of the others.
fn shown(metric: &str, value: f64) -> String {
    if is_count(metric) { format!("{value:3.0}") } else { format!("{value:6.2} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_no_percentages() {
        assert_eq!(shown("pairs", 5000.0), "5000");
        assert_eq!(shown("questions", 7.0), "  7");
        assert_eq!(shown("itm_accuracy", 90.125), " 90.12 %");
    }
}
