//! What a metric should be: `top1=75.2±0.5` or `top1>=75`, for scripts that watch over a model.

use std::fmt;
use std::str::FromStr;

use tuwen_eval::Metrics;

/// A condition on a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub metric: String,
    condition: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Condition {
    Within { value: f64, tolerance: f64 },
    AtLeast(f64),
}

impl Expected {
    /// Whether a value fulfils it.
    pub fn holds(&self, value: f64) -> bool {
        match self.condition {
            Condition::Within { value: expected, tolerance } => (value - expected).abs() <= tolerance,
            Condition::AtLeast(least) => value >= least,
        }
    }

    /// What is wrong, if something is.
    pub fn complaint(&self, metrics: &Metrics) -> Option<String> {
        match metrics.get(&self.metric) {
            Some(&value) if self.holds(value) => None,
            Some(value) => Some(format!("{}: expected {self}, got {value:.4}", self.metric)),
            None => {
                let known: Vec<&str> = metrics.keys().map(String::as_str).collect();
                Some(format!("{}: no such metric here; there are {}", self.metric, known.join(", ")))
            }
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.condition {
            Condition::Within { value, tolerance } => write!(f, "{value}±{tolerance}"),
            Condition::AtLeast(least) => write!(f, ">={least}"),
        }
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "expected METRIC=VALUE±TOLERANCE or METRIC>=VALUE".to_owned();
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let (metric, condition) = if let Some((metric, least)) = text.split_once(">=") {
            (metric, Condition::AtLeast(number(least).ok_or_else(form)?))
        } else {
            let (metric, value) = text.split_once('=').ok_or_else(form)?;
            let (value, tolerance) =
                value.split_once('±').or_else(|| value.split_once("+-")).ok_or_else(form)?;
            let tolerance = number(tolerance).filter(|tolerance| *tolerance >= 0.0).ok_or_else(form)?;
            (metric, Condition::Within { value: number(value).ok_or_else(form)?, tolerance })
        };
        let metric = metric.trim().to_owned();
        if metric.is_empty() { Err(form()) } else { Ok(Self { metric, condition }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_hold_or_not() {
        let parse = |text: &str| text.parse::<Expected>().expect(text);
        let metrics = Metrics::from([("top1".to_owned(), 75.6)]);
        for (text, holds) in [
            ("top1=75.2±0.5", true),
            ("top1 = 75.2+-0.3", false),
            ("top1>=75", true),
            ("top1>=76", false),
            ("top5>=1", false),
        ] {
            assert_eq!(parse(text).complaint(&metrics).is_none(), holds, "{text}");
        }
        assert!(
            parse("top1>=76")
                .complaint(&metrics)
                .is_some_and(|text| text.contains("expected >=76, got 75.6"))
        );
        for text in ["top1", "top1=75", "=1±1", "top1=a±1", "top1=1±-1", "top1>=nan"] {
            assert!(text.parse::<Expected>().is_err(), "{text}");
        }
    }
}
