//! `eval caption` and `eval vqa`: files of predictions against files of annotations.

mod common;

use std::fs;
use std::path::Path;

use common::{fixtures, json_lines, run, stderr};
use serde_json::{Value, json};

const CAPTION: [&str; 6] =
    ["eval", "caption", "--predictions", "predictions.json", "--references", "references.json"];
const VQA: [&str; 6] = ["eval", "vqa", "--predictions", "answers.json", "--annotations", "annotations.json"];

fn write(place: &Path, name: &str, content: &Value) {
    fs::write(place.join(name), content.to_string()).expect("written");
}

/// Two images and two questions, each with a prediction.
fn workplace() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path();
    let references = json!({"annotations": [
        {"id": 1, "image_id": 7, "caption": "A dog runs on the beach."},
        {"id": 2, "image_id": 7, "caption": "The dog's running."},
        {"id": 3, "image_id": 8, "caption": "Two cats sleep on a red sofa"},
    ]});
    write(path, "references.json", &references);
    let predictions = json!([
        {"image_id": 8, "caption": "two cats sleep on a red sofa"},
        {"image_id": 7, "caption": "a dog runs on a beach"},
    ]);
    write(path, "predictions.json", &predictions);
    let mut answers = vec![json!({"answer": "red"}); 3];
    answers.extend(vec![json!({"answer": "dark red"}); 7]);
    let annotations = json!({"annotations": [
        {"question_id": 1, "answers": answers, "answer_type": "other"},
        {"question_id": 2, "answers": ["yes"], "answer_type": "yes/no", "question_type": "is the"},
    ]});
    write(path, "annotations.json", &annotations);
    write(
        path,
        "answers.json",
        &json!([{"question_id": 1, "answer": "Red."}, {"question_id": 2, "answer": "yes"}]),
    );
    let questions = json!({"questions": [
        {"question_id": 1, "question": "What color is it?"}, {"question_id": 2, "question": "Is it?"},
    ]});
    write(path, "questions.json", &questions);
    fs::write(path.join("types.txt"), "what color\n").expect("written");
    place
}

fn value(lines: &[Value], metric: &str) -> f64 {
    let line = lines.iter().find(|line| line["metric"] == metric).expect(metric);
    line["value"].as_f64().expect("a number")
}

#[test]
fn captions_are_measured() {
    let place = workplace();
    let more = ["--output", "items.jsonl", "--save-document-frequencies", "df.json"];
    let lines = json_lines(place.path(), &[&CAPTION[..], &more].concat(), 0);
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[0]["suite"], "caption");
    assert!((value(&lines, "bleu_1") - 100.0 * 12.0 / 13.0).abs() < 1e-3, "{lines:?}");
    let items = fs::read_to_string(place.path().join("items.jsonl")).expect("written");
    let items: Vec<Value> = items.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&items[1]["image_id"], &items[1]["metrics"]["rouge_l"]), (&json!("8"), &json!(100.0)));
    // The same images by the frequencies that were kept, then by those of a corpus where everything is rare.
    let kept = json_lines(place.path(), &[&CAPTION[..], &["--document-frequencies", "df.json"]].concat(), 0);
    assert_eq!(kept, lines);
    write(place.path(), "rare.json", &json!({"documents": 1000, "ngrams": {"a": 900}}));
    let rare =
        json_lines(place.path(), &[&CAPTION[..], &["--document-frequencies", "rare.json"]].concat(), 0);
    assert!(
        value(&rare, "cider") != value(&lines, "cider") && value(&rare, "bleu_4") == value(&lines, "bleu_4")
    );
    fs::write(place.path().join("function.txt"), "a\nthe\non\n").expect("written");
    let function =
        json_lines(place.path(), &[&CAPTION[..], &["--function-words", "function.txt"]].concat(), 0);
    assert!(value(&function, "meteor_exact_stem") > value(&lines, "meteor_exact_stem"));
}

#[test]
fn answers_are_measured_by_type() {
    let place = workplace();
    let more = ["--questions", "questions.json", "--question-types", "types.txt", "--output", "items.jsonl"];
    let lines = json_lines(place.path(), &[&VQA[..], &more].concat(), 0);
    for (metric, expected) in [
        ("accuracy", 95.0),
        ("answer_type:other", 90.0),
        ("answer_type:yes/no", 100.0),
        ("question_type:is the", 100.0),
        ("question_type:what color", 90.0),
    ] {
        assert!((value(&lines, metric) - expected).abs() < 1e-9, "{metric}: {lines:?}");
    }
    assert_eq!(fs::read_to_string(place.path().join("items.jsonl")).expect("written").lines().count(), 2);
    for (condition, status) in [("answer_type:yes/no>=99", 0), ("accuracy=95±0.01", 0), ("accuracy>=96", 4)]
    {
        json_lines(place.path(), &[&VQA[..], &["--expect", condition]].concat(), status);
    }
}

#[test]
fn what_is_wrong_is_one_line() {
    let place = workplace();
    let path = place.path();
    let predict = |name: &str, ids: &[i64]| {
        let list =
            ids.iter().map(|id| json!({"image_id": id, "question_id": id, "caption": "", "answer": ""}));
        write(path, name, &list.collect());
    };
    predict("one.json", &[7]);
    predict("more.json", &[7, 8, 9]);
    predict("twice.json", &[7, 8, 7]);
    write(path, "blank.json", &json!([{"image_id": 7, "caption": " "}, {"image_id": 8, "caption": "a"}]));
    write(
        path,
        "unanswered.json",
        &json!([{"question_id": 1, "answers": []}, {"question_id": 2, "answer": "a"}]),
    );
    let whole = fs::read_to_string(path.join("references.json")).expect("read");
    fs::write(path.join("cut.json"), &whole[..whole.len() / 2]).expect("written");
    let whole = fs::read_to_string(path.join("annotations.json")).expect("read");
    fs::write(path.join("cut-answers.json"), &whole[..whole.len() - 30]).expect("written");
    fs::write(path.join("binary.json"), b"[\xff\xfe").expect("written");
    let replace = |arguments: &[&'static str; 6], place: usize, file: &'static str| {
        let mut arguments = arguments.to_vec();
        arguments[place] = file;
        arguments
    };
    let and = |more: &[&'static str]| [&CAPTION[..], more].concat();
    for (arguments, expected) in [
        (replace(&CAPTION, 3, "one.json"), "lacks 1 of the 2 images of references.json; the first is 8"),
        (replace(&CAPTION, 3, "one.json"), "hint: --partial"),
        (replace(&CAPTION, 3, "more.json"), "1 of 3 images are not in references.json; the first is 9"),
        (replace(&CAPTION, 3, "twice.json"), "1 images occur more than once; the first is 7"),
        (replace(&CAPTION, 3, "nowhere.json"), "cannot read nowhere.json"),
        (replace(&CAPTION, 3, "binary.json"), "not a UTF-8 text"),
        (replace(&CAPTION, 3, "references.json"), "expected a list"),
        (replace(&CAPTION, 5, "cut.json"), "cut.json: EOF while parsing"),
        (replace(&CAPTION, 5, "blank.json"), "1 of 2 images have no references; the first is 7"),
        (replace(&VQA, 3, "one.json"), "1 of 1 questions are not in annotations.json; the first is 7"),
        (replace(&VQA, 5, "unanswered.json"), "1 of 2 questions have no answers; the first is 1"),
        (replace(&VQA, 5, "cut-answers.json"), "EOF while parsing"),
        (and(&["--document-frequencies", "types.txt"]), "types.txt: no document frequencies"),
        (and(&["--output", "items.csv"]), "only JSON lines"),
        (and(&["--function-words", "nowhere"]), "cannot read nowhere"),
        ([&VQA[..], &["--question-types", "types.txt"]].concat(), "add --questions"),
    ] {
        let output = run(path, &arguments);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty() && !path.join("items.csv").exists());
    }
}

#[test]
fn what_is_left_out_is_counted() {
    let place = workplace();
    write(place.path(), "predictions.json", &json!([{"image_id": "7", "caption": "..."}]));
    let output = run(place.path(), &[&CAPTION[..], &["--partial"]].concat());
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{message}");
    for expected in ["1 images have no prediction and are left out", "1 of 1 captions have no word"] {
        assert!(message.contains(expected), "{message}");
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("rouge_l"));
}

#[test]
fn the_golden_cases_through_the_program() {
    let Some(fixtures) = fixtures() else { return };
    let place = tempfile::tempdir().expect("a directory");
    let case = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(fixtures.join(name)).expect("read")).expect("JSON")
    };
    let items = case("caption-metrics/items.json");
    let items = items.as_array().expect("a list");
    let predictions = items.iter().map(|item| json!({"image_id": item["id"], "caption": item["hypothesis"]}));
    let references = items.iter().map(|item| json!({"image_id": item["id"], "caption": item["references"]}));
    write(place.path(), "predictions.json", &predictions.collect());
    write(place.path(), "references.json", &references.collect());
    let expected = &case("caption-metrics/expected.json")["corpus"];
    let condition = |name: &str, key: &str| {
        format!("{name}={}±0.0001", 100.0 * expected[key].as_f64().expect("a number"))
    };
    let (bleu, cider) = (condition("bleu_4", "Bleu_4"), condition("cider_d", "CIDEr"));
    json_lines(place.path(), &[&CAPTION[..], &["--expect", &bleu, "--expect", &cider]].concat(), 0);
}
