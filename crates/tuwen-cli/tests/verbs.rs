//! The verbs do what they say, and what they say fits together.

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use common::{dot, json_lines, numbers, run, stderr, tuwen, workplace, write_model};
use serde_json::Value;

const MODEL: [&str; 2] = ["--model", "model"];
/// The factor of a model that was never trained.
const SCALE: f64 = 1.0 / 0.07;

fn lines(place: &Path, arguments: &[&str]) -> Vec<Value> {
    json_lines(place, &[arguments, &MODEL].concat(), 0)
}

/// Vectors that `embed` gives.
fn vectors(place: &Path, arguments: &[&str]) -> Vec<Vec<f64>> {
    lines(place, &[&["embed"], arguments].concat()).iter().map(|line| numbers(&line["embedding"])).collect()
}

fn softmax(cosines: &[f64]) -> Vec<f64> {
    let exponentials: Vec<f64> = cosines.iter().map(|cosine| (SCALE * cosine).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|exponential| exponential / sum).collect()
}

#[test]
fn embed_gives_a_line_for_each_input() {
    let place = workplace();
    let embedded = lines(place.path(), &["embed", "--text", "a cat", "--text", "", "red.png", "photos"]);
    let named: Vec<_> = embedded.iter().map(|line| (line["input"].as_str(), line["kind"].as_str())).collect();
    let kinds = ["text", "text", "image", "image", "image"].map(Some);
    // As the user wrote it, so that it can be opened from where he is.
    let names = ["a cat", "", "red.png", "photos/deep/blue.png", "photos/green.png"].map(Some);
    assert_eq!(named, names.into_iter().zip(kinds).collect::<Vec<_>>());
    for line in &embedded {
        let vector = numbers(&line["embedding"]);
        assert_eq!(vector.len(), 12);
        assert!((dot(&vector, &vector) - 1.0).abs() < 1e-5, "{line}");
    }
    let raw = vectors(place.path(), &["--raw", "--text", "a cat", "--text", "", "red.png", "photos"]);
    for (raw, line) in raw.iter().zip(&embedded) {
        let (unit, length) = (numbers(&line["embedding"]), dot(raw, raw).sqrt());
        assert!((length - 1.0).abs() > 1e-3, "the length of the tower's vector is its own: {length}");
        assert!((dot(raw, &unit) / length - 1.0).abs() < 1e-5);
    }
}

#[test]
fn an_input_does_not_depend_on_its_company() {
    let place = workplace();
    let texts = ["a cat", "a photo of a dog in a tree", "x"];
    let together = vectors(
        place.path(),
        &["--text", texts[0], "--text", texts[1], "--text", texts[2], "red.png", "photos"],
    );
    let alone = texts.iter().flat_map(|text| vectors(place.path(), &["--text", text]));
    let images = ["red.png", "photos/deep/blue.png", "photos/green.png"];
    let alone = alone.chain(images.iter().flat_map(|image| vectors(place.path(), &[image])));
    for (together, alone) in together.iter().zip(alone.collect::<Vec<_>>()) {
        assert!(together.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5), "{together:?} {alone:?}");
    }
    let one = vectors(place.path(), &["--threads", "1", "red.png"]);
    assert!(one[0].iter().zip(&together[3]).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn classify_is_the_softmax_of_scaled_cosines() {
    let place = workplace();
    let image = &vectors(place.path(), &["red.png"])[0];
    let prompts = ["--text", "I see a cat!", "--text", "I see a dog!", "--text", "I see a a, b!"];
    let cosines: Vec<f64> = vectors(place.path(), &prompts).iter().map(|text| dot(text, image)).collect();
    fs::write(place.path().join("labels.txt"), "\u{feff}a, b\r\n\n dog \n").expect("written");
    let arguments = ["classify", "red.png", "--labels", "cat,dog,, cat", "--labels-file", "labels.txt"];
    let classified = lines(place.path(), &[&arguments[..], &["--template", "I see a {}!"]].concat());
    let labels = classified[0]["labels"].as_array().expect("labels");
    assert_eq!(labels.len(), 3, "{labels:?}");
    let scores: Vec<f64> = labels.iter().map(|label| label["score"].as_f64().expect("a score")).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    for (label, probability) in ["cat", "dog", "a, b"].into_iter().zip(softmax(&cosines)) {
        let score = labels.iter().find(|line| line["label"] == label).expect(label)["score"].as_f64();
        assert!((score.expect("a score") - probability).abs() < 1e-5, "{label}");
    }
    let output = run(place.path(), &[&arguments[..], &MODEL].concat());
    let (said, shown) = (stderr(&output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert!(said.contains("2 blank labels") && said.contains("used once: cat, dog"), "{said}");
    assert!(
        shown.starts_with("red.png\n") && shown.lines().count() == 4 && shown.contains(" %  cat\n"),
        "{shown}"
    );
    let output = run(place.path(), &[&arguments[..], &MODEL, &["--quiet", "--top", "1"]].concat());
    assert_eq!(
        (stderr(&output), String::from_utf8_lossy(&output.stdout).lines().count()),
        (String::new(), 2)
    );
}

#[test]
fn prompts_of_a_class_are_averaged_as_directions() {
    let place = workplace();
    let templates = [
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ];
    let image = &vectors(place.path(), &["red.png"])[0];
    let class = |label: &str| {
        let prompts: Vec<String> = templates.iter().map(|template| template.replace("{}", label)).collect();
        let arguments: Vec<&str> = prompts.iter().flat_map(|prompt| ["--text", prompt]).collect();
        let mut sum = [0.0; 12];
        for vector in vectors(place.path(), &arguments) {
            sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        }
        dot(&sum, image) / dot(&sum, &sum).sqrt()
    };
    let expected = softmax(&[class("cat"), class("dog")]);
    let by_name = ["classify", "red.png", "--labels", "cat,dog", "--templates", "imagenet7"];
    let one_by_one: Vec<&str> = templates.iter().flat_map(|template| ["--template", template]).collect();
    for arguments in [by_name.to_vec(), [&by_name[..4], &one_by_one].concat()] {
        let line = &lines(place.path(), &arguments)[0];
        for (label, expected) in ["cat", "dog"].into_iter().zip(&expected) {
            let found = line["labels"].as_array().expect("labels").iter().find(|line| line["label"] == label);
            let score = found.expect(label)["score"].as_f64().expect("a score");
            assert!((score - expected).abs() < 1e-5, "{label}: {score} {expected}");
        }
    }
}

#[test]
fn match_gives_cosines_and_probabilities_in_the_order_of_the_texts() {
    let place = workplace();
    let texts = ["--text", "a dog", "--text", "a cat in a tree"];
    let matched = lines(place.path(), &[&["match", "red.png", "photos"], &texts[..]].concat());
    let images = vectors(place.path(), &["red.png", "photos"]);
    let text_vectors = vectors(place.path(), &texts);
    assert_eq!(matched.len(), 3);
    for (line, image) in matched.iter().zip(&images) {
        let cosines: Vec<f64> = text_vectors.iter().map(|text| dot(text, image)).collect();
        let fits = line["matches"].as_array().expect("matches");
        for (i, (cosine, probability)) in cosines.iter().zip(softmax(&cosines)).enumerate() {
            assert_eq!(fits[i]["text"], texts[2 * i + 1]);
            assert!((fits[i]["similarity"].as_f64().expect("a cosine") - cosine).abs() < 1e-5);
            assert!((fits[i]["probability"].as_f64().expect("a probability") - probability).abs() < 1e-5);
        }
    }
}

#[test]
fn params_adds_up_and_needs_no_weights() {
    let place = workplace();
    for (model, total) in [("clip-rn50", 102_007_137), ("clip-vit-base-patch32", 151_277_313)] {
        let count = &json_lines(place.path(), &["params", model], 0)[0];
        assert_eq!(count["total"], total);
        let parts = count["parts"].as_array().expect("parts");
        assert_eq!(
            parts.iter().map(|part| part["parameters"].as_u64().expect("a count")).sum::<u64>(),
            total
        );
        let shares: f64 = parts.iter().map(|part| part["share"].as_f64().expect("a share")).sum();
        assert!((shares - 1.0).abs() < 1e-9 && parts[0]["path"] == "vision_model", "{shares}");
    }
    let total = |arguments: &[&str]| json_lines(place.path(), arguments, 0)[0]["total"].as_u64();
    let counted = total(&["params", "model"]);
    assert!(counted.is_some_and(|count| count > 10_000));
    assert_eq!(counted, total(&["params", "--model", "model/model.safetensors"]));
    let output = run(place.path(), &["params", "RN50"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.starts_with("RN50") && shown.contains("102,007,137  100.0 %"), "{shown}");
}

#[test]
fn hub_ids_are_found_in_the_local_cache() {
    let place = workplace();
    let cache = place.path().join(".cache/huggingface/hub");
    let repository = cache.join("models--someone--tiny");
    write_model(&repository.join("snapshots/0123abc"));
    fs::create_dir_all(repository.join("refs")).expect("created");
    fs::write(repository.join("refs/main"), "0123abc").expect("written");
    let expected = vectors(place.path(), &["red.png"]);
    let embed = ["embed", "red.png", "--model", "someone/tiny"];
    let vector = |line: &Value| numbers(&line["embedding"]);
    assert_eq!(vector(&json_lines(place.path(), &embed, 0)[0]), expected[0]);
    let moved = place.path().join("elsewhere");
    fs::rename(&cache, moved.join("hub"))
        .or_else(|_| fs::create_dir(&moved).and_then(|()| fs::rename(&cache, moved.join("hub"))))
        .expect("moved");
    let output = run(place.path(), &embed);
    assert_eq!(output.status.code(), Some(3));
    let message = stderr(&output);
    assert!(
        message.contains("someone/tiny is not in the local hub cache (") && message.contains("hint: "),
        "{message}"
    );
    assert_eq!(
        json_lines(place.path(), &[&embed[..], &["--cache-dir", "elsewhere/hub"]].concat(), 0).len(),
        1
    );
    let status = tuwen(place.path(), &embed).env("HF_HOME", &moved).output().expect("runs").status;
    assert!(status.success());
}

#[test]
fn a_text_that_is_too_long_is_cut_and_named() {
    let place = workplace();
    let long = "cat ".repeat(100);
    let output =
        run(place.path(), &[&["embed", "--quiet", "--text", &long, "--text", "cat"], &MODEL[..]].concat());
    assert!(output.status.success());
    let said = stderr(&output);
    assert!(said.contains("102 tokens cut to 32: \"cat cat") && said.lines().count() == 1, "{said}");
}

#[test]
fn completions_are_written_for_each_shell() {
    let place = tempfile::tempdir().expect("a directory");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(place.path(), &["completions", shell]);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("tuwen"),
            "{shell}"
        );
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let place = tempfile::tempdir().expect("a directory");
    let output = run(place.path(), &["man", "pages"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let help = run(place.path(), &["--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let verbs =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs = verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help");
    let mut pages = vec!["pages/tuwen.1".to_owned()];
    pages.extend(verbs.map(|verb| format!("pages/tuwen-{verb}.1")));
    assert!(pages.len() > 8, "{pages:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed.lines().collect::<Vec<_>>(), pages);
    for page in &pages {
        let text = fs::read_to_string(place.path().join(page)).expect("written");
        let name = page.trim_start_matches("pages/").trim_end_matches(".1");
        let title = text.lines().find(|line| line.starts_with(".TH")).expect("a title");
        assert!(
            title.starts_with(&format!(".TH {name} 1")) && text.contains("\\fB\\-\\-model\\fR"),
            "{page}: {title}"
        );
    }
    let embed = fs::read_to_string(place.path().join("pages/tuwen-embed.1")).expect("written");
    assert!(embed.contains("files\\-from") && !embed.contains("part\\-size"), "hidden options stay hidden");
    let main = run(place.path(), &["man"]);
    assert!(main.stdout.starts_with(b".ie") && main.status.success());
}

#[test]
fn a_reader_may_go_away() {
    let place = workplace();
    for arguments in [
        &["params", "clip-rn50x64", "--json"][..],
        &["embed", "red.png", "photos", "--json", "--model", "model"],
    ] {
        let mut child = tuwen(place.path(), arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(child.wait().expect("ends").success(), "{said}");
        assert_eq!(said, "", "{arguments:?}");
    }
}
