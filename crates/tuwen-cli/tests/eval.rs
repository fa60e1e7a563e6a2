//! `eval` and what it leaves behind: metrics, expectations, a probe that `classify` uses.

mod common;

use std::fs;
use std::path::Path;

use common::{json_lines, run, stderr, workplace, write_picture};
use serde_json::Value;

/// Pictures of two colours in folders of their names.
fn write_classes(folder: &Path) {
    for (class, colour) in [("cat", [230, 20, 10]), ("dog", [10, 20, 230])] {
        fs::create_dir_all(folder.join(class)).expect("created");
        for shade in 0..6 {
            let colour = colour.map(|c| c + 4 * shade);
            write_picture(&folder.join(class).join(format!("{shade}.png")), colour);
        }
    }
}

fn value(lines: &[Value], metric: &str) -> f64 {
    let line = lines.iter().find(|line| line["metric"] == metric).expect(metric);
    line["value"].as_f64().expect("a number")
}

#[test]
fn a_probe_is_learnt_saved_and_used() {
    let place = workplace();
    for folder in ["train", "test"] {
        write_classes(&place.path().join(folder));
    }
    for more in [&["--c", "1"][..], &["--features", "normalized", "--cache", "cache"], &["--cache", "cache"]]
    {
        let arguments = ["eval", "linear-probe", "train", "test", "--model", "model", "--save", "probe"];
        let arguments = [&arguments[..], more].concat();
        let first = json_lines(place.path(), &arguments, 0);
        assert_eq!(value(&first, "top1"), 100.0);
        assert_eq!(value(&first, "roc_auc"), 100.0);
        assert_eq!(json_lines(place.path(), &arguments, 0), first, "the same from the cache");
        let classify = ["classify", "test", "--model", "model", "--probe", "probe"];
        let lines = json_lines(place.path(), &classify, 0);
        assert_eq!(lines.len(), 12);
        for line in lines {
            let (input, label) =
                (line["input"].as_str().expect("a path"), line["labels"][0]["label"].as_str());
            assert!(input.contains(label.expect("a label")), "{line}");
        }
    }
    assert_eq!(
        fs::read_dir(place.path().join("cache")).expect("made").count(),
        2,
        "train is test, two features"
    );
}

#[test]
fn expectations_decide_the_exit_status() {
    let place = workplace();
    write_classes(&place.path().join("data"));
    let arguments = ["eval", "zeroshot", "data", "--model", "model", "--template", "a photo of a {}"];
    let top1 = value(&json_lines(place.path(), &arguments, 0), "top1");
    let expect = |condition: String, status| {
        let lines = json_lines(place.path(), &[&arguments[..], &["--expect", &condition]].concat(), status);
        let line = lines.iter().find(|line| line["metric"] == "top1").expect("top1").clone();
        line["ok"].clone()
    };
    assert_eq!(expect(format!("top1={top1}±0.01"), 0), true);
    assert_eq!(expect(format!("top1={}+-0.5", top1 + 1.0), 4), false);
    assert_eq!(expect("top9>=1".to_owned(), 4), Value::Null);
}

#[test]
fn what_is_wrong_is_one_line() {
    let place = workplace();
    write_classes(&place.path().join("data"));
    fs::create_dir(place.path().join("flat")).expect("created");
    fs::copy(place.path().join("red.png"), place.path().join("flat/red.png")).expect("copied");
    write_classes(&place.path().join("other/x"));
    fs::write(place.path().join("notes.txt"), "no model").expect("written");
    for (arguments, status, expected) in [
        (&["eval", "zeroshot", "flat"][..], 2, "1 of 1 samples have no class"),
        (&["eval", "retrieval", "data"], 2, "there are none"),
        (&["eval", "zeroshot", "nowhere"], 2, "nowhere"),
        (&["eval", "zeroshot", "data", "--template", "x"], 2, "no {}"),
        (&["eval", "zeroshot", "data", "--expect", "top1"], 2, "METRIC=VALUE"),
        (&["eval", "linear-probe", "data", "other"], 2, "class \"x\""),
        (&["eval", "linear-probe", "other", "other"], 2, "needs two"),
        (&["eval", "linear-probe", "data", "data", "--max-memory", "0"], 2, "more than the 0 MB allowed"),
        (&["eval", "linear-probe", "data", "data", "--c", "0"], 2, "above 0"),
        (&["classify", "red.png", "--probe", "notes.txt"], 3, "notes.txt"),
        (&["classify", "red.png"], 2, "there are no labels"),
    ] {
        let output = run(place.path(), &[arguments, &["--model", "model", "--quiet"]].concat());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty());
    }
}
