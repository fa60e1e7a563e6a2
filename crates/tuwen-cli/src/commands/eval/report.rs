//! The metrics of a suite on stdout, and whether they are what was expected.

use serde_json::json;
use tuwen_eval::Metrics;

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
                console.print(format_args!("{suite}  {data}  {metric:width$}  {value:6.2} %"))?;
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
