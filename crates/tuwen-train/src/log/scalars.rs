//! The numbers in a line of the log, under the names that TensorBoard and the learning curve show.

use serde_json::Value;

/// The numbers of one line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scalars {
    pub(super) step: u64,
    /// `train/loss`, or `NAME/top1` for the evaluation NAME.
    pub(super) values: Vec<(String, f64)>,
}

/// The numbers of a line; a line that is none of the log's has none.
pub(super) fn of_line(line: &[u8]) -> Scalars {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    let step = line["step"].as_u64().unwrap_or_default();
    let mut values = Vec::new();
    match line["eval"].as_str() {
        Some(eval) => collect(eval, &line["metrics"], &mut values),
        None => collect("train", &line, &mut values),
    }
    values.retain(|(name, _)| name != "train/step");
    Scalars { step, values }
}

/// Numbers in objects, whose keys make up the names.
fn collect(name: &str, value: &Value, values: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => values.extend(number.as_f64().map(|number| (name.to_owned(), number))),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| collect(&format!("{name}/{key}"), value, values));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_evaluations_have_names() {
        let step = of_line(br#"{"step":7,"epoch":1,"loss":2.5,"losses":{"contrastive":2.5},"lr":0.1}"#);
        let names: Vec<&str> = step.values.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            (step.step, names),
            (7, vec!["train/epoch", "train/loss", "train/losses/contrastive", "train/lr"])
        );
        let eval = of_line(br#"{"step":9,"epoch":1,"eval":"dev","metrics":{"top1":50.0}}"#);
        assert_eq!(eval, Scalars { step: 9, values: vec![("dev/top1".into(), 50.0)] });
        assert_eq!(of_line(b"{half"), Scalars::default());
    }
}
