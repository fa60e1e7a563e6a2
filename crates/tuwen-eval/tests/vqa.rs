//! VQA accuracy against the official program.

#![allow(clippy::print_stderr)] // what is skipped is said

#[path = "../../tuwen/tests/common/golden.rs"]
mod golden;

use std::path::Path;

use serde_json::Value;
use tuwen_eval::annotations::{Keyed, QuestionTypes, vqa_questions};
use tuwen_eval::metrics::vqa::{normalize_answer, trim_answer};
use tuwen_eval::suites;

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// To two decimals, as the program rounds.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[test]
fn answers_are_normalised_as_by_the_official_program() {
    let Some(case) = golden::case("vqa-accuracy") else { return };
    for row in json(&case.join("normaliser.json")).as_array().expect("a list") {
        assert_eq!(normalize_answer(text(&row["text"])), text(&row["normalised"]), "{row}");
        let without = tuwen_eval::metrics::vqa::without_punctuation(&trim_answer(text(&row["text"])));
        assert_eq!(without, text(&row["after_punctuation"]), "{row}");
    }
}

#[test]
fn accuracies_are_those_of_the_official_program() {
    let Some(case) = golden::case("vqa-accuracy") else { return };
    let (items, expected) = (json(&case.join("items.json")), json(&case.join("expected.json")));
    let items = items.as_array().expect("a list");
    let questions = vqa_questions(&case.join("items.json")).expect("read");
    let predictions =
        items.iter().map(|item| (item["question_id"].to_string(), text(&item["prediction"]).to_owned()));
    let predictions = Keyed::new("items", "question", predictions.collect()).expect("distinct");
    let found = suites::vqa(&predictions, &questions, false).expect("measured");
    for (accuracy, item) in found.scores.items.iter().zip(items) {
        assert_eq!(rounded(100.0 * accuracy), number(&item["accuracy"]), "{item}");
    }
    let metrics = &found.scores.metrics;
    assert_eq!(rounded(metrics["accuracy"]), number(&expected["overall"]));
    for (prefix, table) in [("answer_type", "perAnswerType"), ("question_type", "perQuestionType")] {
        for (kind, accuracy) in expected[table].as_object().expect("a table") {
            assert_eq!(rounded(metrics[&format!("{prefix}:{kind}")]), number(accuracy), "{kind}");
        }
    }
    assert!(metrics["accuracy_normalized"] > metrics["accuracy"]);
}

#[test]
fn question_types_of_the_challenge_sort_its_questions() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/metrics"));
    let path = folder.join("vqa_mscoco_question_types.txt");
    let Ok(lines) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no {}", path.display());
        return;
    };
    let types = QuestionTypes::new(&lines);
    for (question, kind) in [
        ("What color is the dog's ball?", "what color is the"),
        ("How many people are there?", "how many people are"),
        ("Whose hat is it?", QuestionTypes::OTHER),
    ] {
        assert_eq!(types.of(question), kind, "{question}");
    }
}
