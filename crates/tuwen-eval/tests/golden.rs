//! Logistic regression and metrics against scikit-learn.

#![allow(clippy::print_stderr)] // what is skipped is said

#[path = "../../tuwen/tests/common/golden.rs"]
mod golden;

use std::path::Path;

use golden::case;
use serde_json::Value;
use tuwen::Embeddings;
use tuwen_eval::logistic::{LogisticRegression, Training};
use tuwen_eval::metrics;
use tuwen_tensor::checkpoint::{Checkpoint, TensorSource, open};

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("JSON")
}

fn floats(file: &Checkpoint, name: &str) -> Vec<f32> {
    file.read(name).expect(name).to_f32().to_vec()
}

/// Whole numbers, of whatever type.
fn labels(file: &Checkpoint, name: &str) -> Vec<usize> {
    let tensor = file.read(name).expect(name);
    let size = tensor.dtype.size();
    tensor.data.chunks_exact(size).map(|bytes| usize::from(bytes[0]) | usize::from(bytes[1]) << 8).collect()
}

fn embeddings(file: &Checkpoint, name: &str) -> Embeddings {
    let dim = file.info(name).expect(name).shape[1];
    Embeddings::new(floats(file, name), dim)
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Takes the mean over classes away from each column of `[classes, columns]`.
fn centred(values: &[f64], columns: usize) -> Vec<f64> {
    let classes = (values.len() / columns) as f64;
    let mean = |column: usize| values.iter().skip(column).step_by(columns).sum::<f64>() / classes;
    values.iter().enumerate().map(|(i, value)| value - mean(i % columns)).collect()
}

fn assert_close(what: &str, got: &[f64], expected: &[f32], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let distance = |(got, &expected): (&f64, &f32)| (got - f64::from(expected)).abs();
    let largest = got.iter().zip(expected).map(distance).fold(0.0, f64::max);
    assert!(largest <= tolerance, "{what}: off by {largest:.3e}, tolerance {tolerance:.1e}");
}

#[test]
fn logistic_regression() {
    let Some(case) = case("linear-probe") else { return };
    let (meta, expected) = (json(&case.join("meta.json")), json(&case.join("expected.json")));
    let inputs = open(&case.join("inputs.safetensors")).expect("opened");
    let tensors = open(&case.join("expected.safetensors")).expect("opened");
    let (features, test) = (embeddings(&inputs, "train_x"), embeddings(&inputs, "test_x"));
    let (train_y, test_y) = (labels(&inputs, "train_y"), labels(&inputs, "test_y"));
    let classes = json(&case.join("config.json"))["classes"].as_u64().expect("a number") as usize;
    let coef_abs = number(&meta["tolerance"]["coef_abs"]);
    for c in json(&case.join("config.json"))["C"].as_array().expect("a list") {
        let settings = LogisticRegression { c: number(c), max_iter: 10_000, tolerance: 1e-9 };
        let fit = settings.fit(&Training::new(&features, &train_y, classes), None);
        let name = if number(c) == 10.0 { "10.0".to_owned() } else { c.to_string() };
        let wanted = &expected["logistic_regression"][&name];
        let objective = number(&wanted["objective"]);
        let relative = (fit.objective - objective).abs() / objective;
        assert!(
            relative <= number(&meta["tolerance"]["objective_rel"]),
            "C {c}: objective off by {relative:e}"
        );
        assert_close(&name, &fit.coef, &floats(&tensors, &format!("C{name}.coef")), coef_abs);
        let intercept = floats(&tensors, &format!("C{name}.intercept"));
        assert_close(&name, &centred(&fit.intercept, 1), &intercept, coef_abs);
        let accuracy = metrics::top_k(&fit.logits(&test), &test_y, 1);
        assert!((accuracy - number(&wanted["test_accuracy"])).abs() < 1e-6, "C {c}: {accuracy}");
    }
}

#[test]
fn metrics_of_scores() {
    let Some(case) = case("linear-probe") else { return };
    let expected = &json(&case.join("expected.json"))["metrics"];
    let inputs = open(&case.join("inputs.safetensors")).expect("opened");
    let rows = embeddings(&inputs, "scores");
    let scores: Vec<Vec<f32>> = rows.rows().map(<[f32]>::to_vec).collect();
    let labels = labels(&inputs, "test_y");
    let close = |what: &str, got: f64, expected: &Value| {
        assert!((got - number(expected)).abs() <= 1e-6, "{what}: {got}, expected {expected}");
    };
    close("top1", metrics::top_k(&scores, &labels, 1), &expected["top1"]);
    close("top2", metrics::top_k(&scores, &labels, 2), &expected["top2"]);
    close("mean_per_class", metrics::mean_per_class(&scores, &labels), &expected["mean_per_class"]);
    let of_class = |class: usize| {
        let column: Vec<f32> = scores.iter().map(|row| row[class]).collect();
        (column, labels.iter().map(|&label| label == class).collect::<Vec<bool>>())
    };
    let (column, positive) = of_class(1);
    close("roc_auc", metrics::roc_auc(&column, &positive).expect("both kinds"), &expected["roc_auc_class1"]);
    for class in 0..rows.dim() {
        let (column, positive) = of_class(class);
        let name = class.to_string();
        let average = metrics::average_precision(&column, &positive).expect("positives");
        close("average precision", average, &expected["average_precision"][&name]);
        let eleven = metrics::eleven_point_ap(&column, &positive).expect("positives");
        close("eleven-point AP", eleven, &expected["eleven_point_ap"][&name]);
    }
}
