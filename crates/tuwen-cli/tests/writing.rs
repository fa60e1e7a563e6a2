//! `caption` and `ask`, and `eval` of what a model writes, with small models of the original program.

mod common;

use std::fs;
use std::path::Path;

use common::{fixtures, json_lines, run, stderr, workplace};
use serde_json::{Value, json};

/// The path of a model among the reference results.
fn model(case: &str) -> Option<String> {
    let path = fixtures()?.join(case).join("model.pth");
    Some(path.to_string_lossy().into_owned())
}

fn captioner() -> Option<String> {
    model("blip-sf-tiny-caption")
}

fn answerer() -> Option<String> {
    model("blip-sf-tiny-vqa")
}

fn lines(place: &Path, arguments: &[&str], model: &str) -> Vec<Value> {
    json_lines(place, &[arguments, &["--model", model]].concat(), 0)
}

/// What is said of arguments that are refused.
fn refused(place: &Path, arguments: &[&str], model: &str, status: i32) -> String {
    let output = run(place, &[arguments, &["--model", model]].concat());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty());
    said
}

#[test]
fn captions_do_not_depend_on_their_company() {
    let Some(model) = captioner() else { return };
    let place = workplace();
    for options in [vec![], vec!["--beams", "1"], vec!["--top-p", "0.9", "--seed", "3", "--num", "2"]] {
        let caption =
            |images: &[&str]| lines(place.path(), &[&["caption"], images, &options].concat(), &model);
        let together = caption(&["red.png", "photos"]);
        assert_eq!(together.len(), 3);
        let alone =
            ["red.png", "photos/deep/blue.png", "photos/green.png"].map(|image| caption(&[image]).remove(0));
        for (together, alone) in together.iter().zip(&alone) {
            assert_eq!(together["input"], alone["input"]);
            for (a, b) in texts(together, "captions").iter().zip(texts(alone, "captions")) {
                assert_eq!(a["text"], b["text"], "{options:?}");
                assert!(a["score"].as_f64().expect("a score") < 0.0);
            }
        }
    }
}

fn texts<'v>(line: &'v Value, name: &str) -> &'v [Value] {
    line[name].as_array().expect("texts")
}

#[test]
fn several_captions_come_best_first_and_tokens_on_demand() {
    let Some(model) = captioner() else { return };
    let place = workplace();
    let line = lines(place.path(), &["caption", "red.png", "--num", "4", "--scores"], &model).remove(0);
    let captions = texts(&line, "captions");
    assert_eq!(captions.len(), 4);
    let scores: Vec<f64> =
        captions.iter().map(|caption| caption["score"].as_f64().expect("a score")).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert!(captions.iter().all(|caption| !texts(caption, "tokens").is_empty()));
    let different: std::collections::BTreeSet<String> =
        captions.iter().map(|caption| caption["tokens"].to_string()).collect();
    assert_eq!(different.len(), 4);
}

#[test]
fn a_file_of_captions_is_whole_or_goes_on() {
    let Some(model) = captioner() else { return };
    let place = workplace();
    fs::write(place.path().join("broken.png"), "no image").expect("written");
    let images = ["caption", "broken.png", "red.png", "photos"];
    let printed = run(place.path(), &[&images[..], &["--json", "--model", &model]].concat());
    assert_eq!(printed.status.code(), Some(1));
    let to_file = [&images[..], &["--output", "out.jsonl"]].concat();
    let write = |more: &[&str]| run(place.path(), &[&to_file[..], &["--model", &model], more].concat());
    // Something is in the way of the result when all captions are written.
    fs::create_dir(place.path().join("out.jsonl")).expect("created");
    fs::write(place.path().join("out.jsonl/x"), "").expect("written");
    assert_eq!(write(&[]).status.code(), Some(1));
    fs::remove_dir_all(place.path().join("out.jsonl")).expect("removed");
    assert!(refused(place.path(), &to_file, &model, 2).contains("an unfinished run is in out.jsonl.part"));
    // A line was being written when the run ended.
    let lines = place.path().join("out.jsonl.part/lines.jsonl");
    if lines.exists() {
        let text = fs::read_to_string(&lines).expect("read");
        fs::write(&lines, &text[..text.len() - 9]).expect("written");
    }
    let other = refused(place.path(), &[&to_file[..], &["--resume", "--beams", "2"]].concat(), &model, 2);
    assert!(other.contains("it was begun with other options"), "{other}");
    let resumed = write(&["--resume"]);
    assert_eq!(resumed.status.code(), Some(1), "{}", stderr(&resumed));
    let written = fs::read_to_string(place.path().join("out.jsonl")).expect("there");
    assert_eq!(written, String::from_utf8(printed.stdout).expect("UTF-8"));
    assert!(!place.path().join("out.jsonl.part").exists());
    let again = write(&["--resume"]);
    assert!(stderr(&again).contains("whole already"));
}

#[test]
fn questions_are_answered_in_words_or_by_a_list() {
    let Some(model) = answerer() else { return };
    let place = workplace();
    let written = lines(place.path(), &["ask", "red.png", "photos", "what color is the dog?"], &model);
    assert_eq!(written.len(), 3);
    assert!(written.iter().all(|line| line["question"] == "what color is the dog?"));
    assert!(written.iter().all(|line| texts(line, "answers").len() == 1));

    fs::write(place.path().join("list.txt"), "yes\n\nno\nyes\non the beach\n").expect("written");
    let arguments = ["ask", "red.png", "is it red?", "--answers", "dog, cat", "--answers-file", "list.txt"];
    let output = run(place.path(), &[&arguments[..], &["--json", "--model", &model]].concat());
    let said = stderr(&output);
    assert!(said.contains("dropped 1 blank answer") && said.contains("used once: yes"), "{said}");
    let line: Value = serde_json::from_slice(&output.stdout).expect("a line");
    let answers = texts(&line, "answers");
    assert_eq!(answers.len(), 5);
    let scores: Vec<f64> = answers.iter().map(|answer| answer["score"].as_f64().expect("a score")).collect();
    assert!(
        scores.is_sorted_by(|a, b| a >= b) && (scores.iter().sum::<f64>() - 1.0).abs() < 1e-5,
        "{scores:?}"
    );
}

#[test]
fn the_built_in_model_that_serves_the_task_is_taken() {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/photos");
    let place = workplace();
    let captions = json_lines(place.path(), &["caption", photos], 0);
    assert!(captions.len() >= 5 && captions.iter().all(|line| !texts(line, "captions").is_empty()));
    let by_name = json_lines(place.path(), &["caption", photos, "--model", "builtin"], 0);
    assert_eq!(captions, by_name, "the name of no built-in model in particular means the same");
    let answers =
        json_lines(place.path(), &["ask", "red.png", "what color is it?", "--answers", "red,two"], 0);
    let probability = |answer: &Value| answer["score"].as_f64().expect("a number");
    let sum: f64 = texts(&answers[0], "answers").iter().map(probability).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    let matches = json_lines(place.path(), &["match", "red.png", "--text", "a dog", "--head", "itm"], 0);
    assert!(matches[0]["matches"][0]["itm"].is_number(), "{}", matches[0]);
    let both = json_lines(place.path(), &["embed", "--both", "red.png", "--text", "a dog"], 0);
    assert!(!both.is_empty());
    let said = refused(place.path(), &["caption", "red.png"], "builtin-clip", 2);
    assert!(said.contains("cannot write captions") && said.contains("hint: "), "{said}");
}

#[test]
fn what_cannot_be_asked_is_refused_and_what_is_cut_is_told() {
    let Some(model) = answerer() else { return };
    let place = workplace();
    let refused = |arguments: &[&str], expected: &str| {
        let said = refused(place.path(), arguments, &model, 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    };
    refused(&["ask", "red.png"], "there is no question: red.png is a file or folder");
    refused(&["ask", "red.png", "  "], "the question is empty");
    refused(&["ask", "what?"], "there are no images");
    refused(&["ask", "red.png", "what?", "--answers", " ,,"], "there are no answers to choose from");
    refused(&["ask", "red.png", "what?", "--beams", "0"], "num_beams is 0");
    refused(&["caption", "red.png"], "cannot write captions");
    let long = "what color is the dog ".repeat(500);
    let output = run(place.path(), &["ask", "red.png", &long, "--model", &model]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).contains("cut to what the model reads, at most 35 tokens"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn settings_without_sense_are_refused() {
    let Some(model) = captioner() else { return };
    let place = workplace();
    for (options, expected) in [
        (vec!["--max-length", "3"], "max_length is 3"),
        (vec!["--max-new-tokens", "5000"], "max_length is 5004"),
        (vec!["--top-p", "2"], "top_p is 2"),
        (vec!["--temperature", "0"], "temperature is 0"),
        (vec!["--num", "3", "--beams", "2"], "num_return_sequences is 3"),
        (vec!["--num", "2", "--beams", "1"], "2 different texts"),
        (vec!["--min-length", "30"], "min_length is 30"),
        (vec!["--output", "captions.txt"], "only JSON lines are written"),
    ] {
        let said = refused(place.path(), &[&["caption", "red.png"], &options[..]].concat(), &model, 2);
        assert!(said.contains(expected), "{options:?}: {said}");
    }
}

#[test]
fn what_a_model_writes_is_measured() {
    let (Some(captioner), Some(answerer)) = (captioner(), answerer()) else { return };
    let place = workplace();
    for image in ["photos/green", "photos/deep/blue"] {
        fs::write(place.path().join(format!("{image}.txt")), "a dog runs on the beach").expect("written");
    }
    let measured = lines(
        place.path(),
        &["eval", "caption", "photos", "--save-predictions", "captions.json"],
        &captioner,
    );
    let metric = |lines: &[Value], name: &str| lines.iter().any(|line| line.to_string().contains(name));
    assert!(metric(&measured, "cider_d") && metric(&measured, "bleu_4"), "{measured:?}");
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(place.path().join("captions.json")).expect("saved"))
            .expect("JSON");
    assert_eq!(saved.as_array().map(Vec::len), Some(2));

    for image in ["photos/green", "photos/deep/blue"] {
        let qa = r#"{"qa": [{"question": "what color is it?", "answer": "red"}, {"question": "is it?", "answer": "no"}]}"#;
        fs::write(place.path().join(format!("{image}.json")), qa).expect("written");
    }
    fs::write(place.path().join("list.txt"), "red\nblue\n").expect("written");
    let typed = [
        json!({"question": "what color is it?", "answer": "red", "answer_type": "other", "question_type": "what color"}),
        json!({"question": "is it?", "answer": "no", "answer_type": "yes/no"}),
    ];
    fs::write(place.path().join("photos/green.json"), json!({ "qa": typed }).to_string()).expect("written");
    fs::write(place.path().join("types.txt"), "what color is\nis\n").expect("written");
    let by_type = ["eval", "vqa", "photos", "--question-types", "types.txt"];
    let measured = lines(place.path(), &by_type, &answerer);
    let names: Vec<&str> = measured.iter().filter_map(|line| line["metric"].as_str()).collect();
    let types = ["answer_type:other", "answer_type:yes/no"].into_iter();
    let types = types.chain(["question_type:is", "question_type:what color", "question_type:what color is"]);
    assert_eq!(names[2..], types.collect::<Vec<_>>(), "{names:?}");
    let list = ["--answers-file", "list.txt", "--answerable"];
    let measured = lines(place.path(), &[&["eval", "vqa", "photos"], &list[..]].concat(), &answerer);
    assert!(metric(&measured, "accuracy"), "{measured:?}");
    let written = lines(place.path(), &["eval", "vqa", "photos"], &answerer);
    assert!(metric(&written, "accuracy"), "{written:?}");
}

/// The captioner in transformers' layout, with a `generation_config.json`.
fn with_generation_config(place: &Path, said: &str) -> Option<String> {
    let original = captioner()?;
    if !place.join("hf").exists() {
        let output = run(place, &["convert", &original, "hf", "--to", "hf"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    fs::write(place.join("hf/generation_config.json"), said).expect("written");
    Some("hf".to_owned())
}

#[test]
fn settings_of_a_model_s_files_are_those_of_its_texts() {
    let place = workplace();
    let said = r#"{"max_new_tokens": 2, "num_beams": 3, "num_return_sequences": 2, "num_beam_groups": 3}"#;
    let Some(model) = with_generation_config(place.path(), said) else { return };
    let tokens = |line: &Value| -> Vec<usize> {
        texts(line, "captions").iter().map(|caption| texts(caption, "tokens").len()).collect()
    };
    let own = lines(place.path(), &["caption", "red.png", "--scores"], &model).remove(0);
    assert!(tokens(&own).len() == 2 && tokens(&own).iter().all(|&tokens| tokens <= 2), "{own}");
    let flags = ["--max-new-tokens", "5", "--min-length", "6", "--beams", "1", "--num", "1"];
    let asked = lines(place.path(), &[&["caption", "red.png", "--scores"], &flags[..]].concat(), &model);
    assert_eq!(tokens(&asked[0]), [5]);
    let told = stderr(&run(place.path(), &["caption", "red.png", "--model", &model]));
    assert!(told.contains("generation_config.json: num_beam_groups 3 is left aside"), "{told}");

    let drawn = r#"{"do_sample": true, "temperature": 5.0, "max_new_tokens": 9}"#;
    with_generation_config(place.path(), drawn).expect("there");
    let caption = |more: &[&str]| {
        lines(place.path(), &[&["caption", "red.png"], more].concat(), &model).remove(0)["captions"].clone()
    };
    let seeds = ["1", "2", "3", "4"].map(|seed| caption(&["--seed", seed]));
    assert!(seeds.iter().any(|captions| *captions != seeds[0]), "{seeds:?}");
    let not_drawn = ["1", "2"].map(|seed| caption(&["--seed", seed, "--sample=false"]));
    assert_eq!(not_drawn[0], not_drawn[1]);

    // What is converted keeps them.
    let output = run(place.path(), &["convert", &model, "again", "--to", "hf"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let kept = fs::read_to_string(place.path().join("again/generation_config.json")).expect("written");
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(kept, serde_json::from_str::<Value>(drawn).expect("JSON"));

    for (said, expected) in [
        ("{", "generation_config.json: EOF"),
        (
            r#"{"num_beams": "three"}"#,
            "generation_config.json: num_beams is \"three\"; expected a whole number",
        ),
        (r#"{"max_length": 100000}"#, "generation_config.json: max_length is 100000; expected at most"),
    ] {
        with_generation_config(place.path(), said).expect("there");
        let said = refused(place.path(), &["caption", "red.png"], &model, 3);
        assert!(said.contains(expected), "{said}");
    }
}
