//! `capfilt` with tiny models: what it prints and writes, what it refuses, and that kills cost nothing.
#![allow(clippy::print_stderr)] // says what is skipped

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{fixtures, json_lines, run, stderr, tuwen, write_picture};
use serde_json::Value;
use tuwen_data::dataset::{DatasetSpec, open};

/// A place with a folder of 30 pictures, a third of which have no text, and the path of a golden case.
fn place(case: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let model = fixtures()?.join(case);
    let place = tempfile::tempdir().expect("a directory");
    fs::create_dir(place.path().join("in")).expect("created");
    for number in 0..30_u32 {
        let path = place.path().join(format!("in/{number:03}.png"));
        write_picture(&path, [8 * number, 250 - 7 * number, (91 * number) % 256]);
        if number % 3 > 0 {
            fs::write(path.with_extension("txt"), "a dog running on the beach").expect("written");
        }
    }
    Some((place, model))
}

fn records(target: &Path) -> Vec<Value> {
    let mut files: Vec<_> = fs::read_dir(target.join("records"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let text: String = files.iter().map(|path| fs::read_to_string(path).expect("read")).collect();
    text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

#[test]
fn a_data_set_is_written_about_and_filtered() {
    let Some((place, model)) = place("blip-sf-pretrain-tiny") else { return };
    let model = model.to_str().expect("a path");
    let begin = ["capfilt", "in", "out", "--shard-size", "12", "--itm", "0.4"];
    let begin = [&begin[..], &["--model", model]].concat();
    let lines = json_lines(place.path(), &begin, 0);
    assert_eq!(lines.len(), 4, "three shards and the summary: {lines:?}");
    assert_eq!((&lines[0]["shard"], &lines[0]["samples"]), (&"in-0000".into(), &12.into()));
    let summary = &lines[3]["summary"];
    assert_eq!((&summary["samples"], &summary["without_text"]), (&30.into(), &10.into()));
    assert_eq!((&summary["web"]["texts"], &summary["synthetic"]["texts"]), (&20.into(), &30.into()));

    let target = place.path().join("out");
    let records = records(&target);
    assert_eq!(records.len(), 30);
    let texts = records.iter().flat_map(|record| record["texts"].as_array().expect("texts"));
    let kept = texts.clone().filter(|text| text["kept"] == true).count() as u64;
    let counted = ["web", "synthetic"].map(|kind| summary[kind]["kept"].as_u64().expect("a count"));
    assert_eq!(counted.iter().sum::<u64>(), kept);
    assert!(
        texts.clone().all(|text| (text["itm"].as_f64().expect("a score") >= 0.4) == (text["kept"] == true))
    );
    if let Ok(cleaned) = open(&DatasetSpec::new(&target)) {
        assert_eq!(cleaned.len() as u64, summary["kept"].as_u64().expect("a count"));
    }
    assert!(fs::read_to_string(target.join("report.html")).expect("a report").contains("<svg"));

    let again = json_lines(place.path(), &begin, 0);
    assert_eq!((again.len(), &again[0]), (1, &lines[3]), "nothing is done twice");
    let other = run(place.path(), &[&begin[..], &["--seed", "5"]].concat());
    assert_eq!(other.status.code(), Some(2));
    let said = stderr(&other);
    assert!(said.contains("seed was 0, now it is 5") && said.contains("hint: "), "{said}");
}

#[test]
fn captions_do_not_depend_on_batches_and_heads_are_chosen() {
    let Some((place, model)) = place("blip-sf-pretrain-tiny") else { return };
    let model = model.to_str().expect("a path");
    let written = |target: &str, more: &[&str]| {
        let begin = ["capfilt", "in", target, "--precision", "f32", "--model", model];
        let output = run(place.path(), &[&begin[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let captions = |record: &Value| {
            let texts = record["texts"].as_array().expect("texts").clone();
            texts.into_iter().filter(|text| text["source"] == "synthetic").collect::<Vec<_>>()
        };
        records(&place.path().join(target)).iter().flat_map(captions).collect::<Vec<_>>()
    };
    let words = |texts: &[Value]| texts.iter().map(|text| text["text"].clone()).collect::<Vec<_>>();
    let first = written("a", &["--batch-size", "3", "--captions", "2"]);
    assert_eq!(first.len(), 60);
    assert_eq!(words(&first), words(&written("b", &["--shard-size", "7", "--captions", "2"])));
    assert_ne!(words(&first), words(&written("c", &["--captions", "2", "--seed", "1"])));
    let searched = written("d", &["--beams", "2", "--itc", "-0.5", "--format", "parquet"]);
    assert!(searched.iter().all(|text| text["itm"].is_null() && text["itc"].is_number()), "{searched:?}");
    assert!(written("e", &["--captions", "0"]).is_empty());
}

#[test]
fn models_may_be_two() {
    let Some((place, itm)) = place("blip-sf-tiny-itm") else { return };
    let caption = itm.with_file_name("blip-sf-tiny-caption");
    let arguments = ["capfilt", "in", "out", "--captioner", caption.to_str().expect("a path"), "--filter"];
    let output = run(place.path(), &[&arguments[..], &[itm.to_str().expect("a path")]].concat());
    let said = stderr(&output);
    assert!(output.status.success() && said.contains("images are encoded twice"), "{said}");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(printed.contains("of 30 texts synthetic kept"), "{printed}");

    let swapped = ["capfilt", "in", "other", "--filter", caption.to_str().expect("a path")];
    let output = run(place.path(), &swapped);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));

    let model = itm.to_str().expect("a path");
    let output = run(place.path(), &["capfilt", "nowhere", "other", "--model", model]);
    let said = stderr(&output);
    assert!(
        output.status.code() == Some(2) && said.starts_with("error: ") && said.contains("nowhere"),
        "{said}"
    );
    assert!(!place.path().join("other").exists());
}

#[test]
fn kills_cost_nothing() {
    let Some((place, model)) = place("blip-sf-pretrain-tiny") else { return };
    let work = |target: &str| {
        let more = [
            "capfilt",
            "in",
            target,
            "--shard-size",
            "4",
            "--batch-size",
            "2",
            "--threads",
            "1",
            "--itm",
            "0",
        ];
        let mut command = tuwen(place.path(), &more);
        command.arg("--model").arg(&model).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let begun = Instant::now();
    assert!(work("whole").status().expect("runs").success());
    let whole = begun.elapsed();
    let manifests = || fs::read_dir(place.path().join("killed/manifests")).map_or(0, Iterator::count);
    for kill in 1..12 {
        let before = manifests();
        let mut child = work("killed").spawn().expect("runs");
        sleep(whole.mul_f64(f64::from(kill) / 12.0) + Duration::from_millis(1));
        child.kill().expect("killed");
        child.wait().expect("waited");
        assert!(manifests() >= before);
    }
    assert!(work("killed").status().expect("runs").success());
    for name in ["summary.json", "report.html", "in-0000.tar", "in-0007.tar", "records/in-0003.jsonl"] {
        let [killed, whole] =
            ["killed", "whole"].map(|target| fs::read(place.path().join(target).join(name)));
        assert!(killed.expect("written") == whole.expect("written"), "{name}");
    }
}
