//! BLIP and ALBEF through the verbs: converted and back, matched, embedded, and named where they cannot.

mod common;

use std::fs;
use std::path::Path;

use common::{fixtures, json_lines, numbers, run, stderr, workplace};
use tuwen::{GroundedFiles, Options};
use tuwen_tensor::checkpoint::TensorSource as _;

/// The path of a case's own checkpoint.
fn checkpoint(case: &str) -> Option<String> {
    Some(fixtures()?.join(case).join("model.pth").to_string_lossy().into_owned())
}

fn open(path: &Path) -> GroundedFiles {
    GroundedFiles::open(&path.to_string_lossy(), &Options::default()).expect("opens")
}

/// The weights of two models under our names, bit for bit, but for what one of them leaves out.
fn assert_same(first: &Path, second: &Path, left_out: &[&str]) {
    let (first, second) = (open(first), open(second));
    let mut names = first.weights.names();
    names.retain(|name| !left_out.contains(&name.as_str()));
    assert_eq!(names, second.weights.names());
    for name in names {
        let read = |files: &GroundedFiles| files.weights.read(&name).expect("read").into_owned();
        assert!(read(&first) == read(&second), "{name}");
    }
    assert_eq!(first.config.vision(), second.config.vision());
    assert_eq!(first.config.text(), second.config.text());
    let size = |files: &GroundedFiles| files.tokenizer.as_ref().map(|tokenizer| tokenizer.vocab_size());
    assert_eq!(size(&first), size(&second));
}

#[test]
fn a_round_through_both_programs_changes_no_bit() {
    for task in ["caption", "itm"] {
        let place = workplace();
        let Some(source) = checkpoint(&format!("blip-sf-tiny-{task}")) else { return };
        for (from, to, program) in
            [(source.as_str(), "hf", "hf"), ("hf", "back", "salesforce"), ("back", "again", "hf")]
        {
            let line = &json_lines(place.path(), &["convert", from, to, "--to", program], 0)[0];
            assert!(line["tensors"].as_u64() > Some(40), "{line}");
        }
        let at = |name: &str| place.path().join(name);
        assert_same(Path::new(&source), &at("hf"), &["temp"]);
        assert_same(&at("hf"), &at("back"), &[]);
        let same = |name: &str| fs::read(at("hf").join(name)).ok() == fs::read(at("again").join(name)).ok();
        assert!(same("model.safetensors") && same("config.json") && same("vocab.txt"), "{task}");
        assert!(at("back/med_config.json").is_file() && at("back/model.pth").is_file());
    }
}

#[test]
fn every_original_checkpoint_is_written_as_it_was() {
    for case in [
        "blip-sf-tiny-vqa",
        "blip-sf-tiny-feature",
        "blip-sf-nlvr-tiny",
        "blip-sf-pretrain-tiny",
        "blip-sf-retrieval-tiny",
        "albef-sf-pretrain-tiny",
        "albef-sf-retrieval-tiny",
    ] {
        let place = workplace();
        let Some(source) = checkpoint(case) else { return };
        json_lines(place.path(), &["convert", &source, "copy", "--to", "salesforce"], 0);
        assert_same(Path::new(&source), &place.path().join("copy"), &[]);
        let halved = ["convert", &source, "half", "--to", "salesforce", "--dtype", "f16"];
        json_lines(place.path(), &halved, 0);
        let size = |name: &str| fs::metadata(place.path().join(name).join("model.pth")).expect("there").len();
        assert!(size("half") * 10 < size("copy") * 8, "{case}: {} and {}", size("half"), size("copy"));
    }
}

#[test]
fn what_a_program_cannot_hold_is_refused_by_name() {
    let place = workplace();
    let Some(pretrained) = checkpoint("blip-sf-pretrain-tiny") else { return };
    let albef = checkpoint("albef-sf-retrieval-tiny").expect("beside it");
    for (source, to, expected) in [
        (
            pretrained.as_str(),
            "hf",
            "transformers cannot hold this model: its BLIP has no class for pre-training",
        ),
        (&albef, "hf", "transformers cannot hold this model: it has no ALBEF"),
        (&albef, "openai", "openai/CLIP cannot hold this model: it has no BLIP"),
        ("model", "salesforce", "salesforce cannot hold this model: it has no CLIP"),
    ] {
        let output = run(place.path(), &["convert", source, "out", "--to", to]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && !place.path().join("out").exists(), "{said}");
    }
}

#[test]
fn a_head_that_saw_both_is_heard() {
    let place = workplace();
    let Some(model) = checkpoint("blip-sf-tiny-itm") else { return };
    let texts = ["--text", "a dog", "--text", "two people sitting at a table with pizza"];
    let matches = |more: &[&str]| {
        let arguments = [&["match", "red.png", "photos", "--model", &model][..], &texts, more].concat();
        let lines = json_lines(place.path(), &arguments, 0);
        assert_eq!(lines.len(), 3);
        lines
            .into_iter()
            .flat_map(|line| line["matches"].as_array().expect("fits").clone())
            .collect::<Vec<_>>()
    };
    let field = |fits: &[serde_json::Value], name: &str| -> Vec<f64> {
        fits.iter().map(|fit| fit[name].as_f64().unwrap_or(f64::NAN)).collect()
    };
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5);
    let (both, itc, itm) = (matches(&[]), matches(&["--head", "itc"]), matches(&["--head", "itm"]));
    assert!(close(&field(&both, "similarity"), &field(&itc, "similarity")));
    assert!(close(&field(&both, "probability"), &field(&itc, "probability")));
    assert!(close(&field(&both, "itm"), &field(&itm, "probability")));
    assert!(itc.iter().all(|fit| fit["itm"].is_null()));
    for pair in field(&both, "probability").chunks(2) {
        assert!((pair[0] + pair[1] - 1.0).abs() < 1e-5, "{pair:?}");
    }
    let said =
        stderr(&run(place.path(), &["match", "red.png", "--text", "a", "--head", "itm", "--model", "model"]));
    assert!(said.contains("cannot tell whether image and text match by a head (ITM); it can"), "{said}");
}

#[test]
fn vectors_are_those_that_match_compares() {
    let place = workplace();
    let Some(model) = checkpoint("albef-sf-retrieval-tiny") else { return };
    let embedded =
        json_lines(place.path(), &["embed", "red.png", "--text", "a red hat", "--model", &model], 0);
    let vectors: Vec<Vec<f64>> = embedded.iter().map(|line| numbers(&line["embedding"])).collect();
    let cosine = common::dot(&vectors[0], &vectors[1]);
    let line =
        &json_lines(place.path(), &["match", "red.png", "--text", "a red hat", "--model", &model], 0)[0];
    let similarity = line["matches"][0]["similarity"].as_f64().expect("a number");
    assert!((cosine - similarity).abs() < 1e-5, "{cosine} {similarity}");
    let labels = ["classify", "red.png", "--labels", "dog,hat", "--model", &model];
    let line = &json_lines(place.path(), &labels, 0)[0];
    let scores: f64 =
        line["labels"].as_array().expect("two").iter().filter_map(|l| l["score"].as_f64()).sum();
    assert!((scores - 1.0).abs() < 1e-5, "{line}");
}

#[test]
fn a_task_that_a_checkpoint_lacks_is_named_with_those_it_has() {
    let place = workplace();
    let Some(captions) = checkpoint("blip-sf-tiny-caption") else { return };
    for arguments in [
        &["match", "red.png", "--text", "a dog"][..],
        &["classify", "red.png", "--labels", "dog,cat"],
        &["embed", "--text", "a dog"],
    ] {
        let output = run(place.path(), &[arguments, &["--model", &captions]].concat());
        let said = stderr(&output);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{said}");
        assert!(said.contains("it can embed images, write captions") && said.contains("hint: "), "{said}");
    }
    json_lines(place.path(), &["embed", "red.png", "--model", &captions], 0);
}

#[test]
fn parameters_are_counted_by_module() {
    let place = workplace();
    let line = &json_lines(place.path(), &["params", "blip-itm-base-coco"], 0)[0];
    let part = |path: &str| {
        let parts = line["parts"].as_array().expect("parts");
        parts.iter().find(|part| part["path"] == path).expect(path)["parameters"].as_u64()
    };
    assert_eq!(line["total"], 223_744_258);
    assert_eq!((part("vision_model"), part("text_encoder")), (Some(86_090_496), Some(137_258_496)));
    assert_eq!(json_lines(place.path(), &["params", "albef"], 0)[0]["total"], 209_937_725);
    let other = ["params", "blip-image-captioning-base", "--what-if", "image=480,text.depth=6,vocab=x2"];
    let line = &json_lines(place.path(), &other, 0)[0];
    let sizes: Vec<_> = line["what_if"]["changes"].as_array().expect("changes").iter().collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    // 900 positions in place of 576, 30524 words more with their biases, and six layers less.
    let layer = 2 * (4 * 768 * 769) + 768 * 3072 * 2 + 3072 + 768 + 3 * 2 * 768;
    let difference = (900 - 576) * 768 + 30_524 * 769 - 6 * layer;
    let total = |report: &serde_json::Value| report["total"].as_i64().expect("a total");
    assert_eq!(total(&line["what_if"]) - total(line), difference);
    let said = stderr(&run(place.path(), &["params", "blip-vqa-base", "--what-if", "joint=64"]));
    assert!(said.contains("joint: this model has no joint space of images and texts"), "{said}");
    let Some(tiny) = checkpoint("blip-sf-tiny-vqa") else { return };
    let line = &json_lines(place.path(), &["params", &tiny], 0)[0];
    assert!(line["image"]["flops"].as_u64() > Some(0) && line["text"]["flops"].as_u64() > Some(0), "{line}");
}

#[test]
fn what_words_look_at_is_drawn() {
    let place = workplace();
    let Some(model) = checkpoint("blip-sf-tiny-itm") else { return };
    let explain = |more: &[&str]| {
        let arguments = [&["match", "--explain", "out.png", "--model", &model][..], more].concat();
        run(place.path(), &arguments)
    };
    let output = explain(&["red.png", "--text", "a dog on the beach", "--text", "a red hat"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let drawn = tuwen::Picture::open(&place.path().join("out.png")).expect("a picture");
    // A panel for the picture and each of five words in rows of four, then for three.
    assert_eq!((drawn.width(), drawn.height()), (4 * (256 + 8) + 8, 2 * 32 + 3 * (192 + 32)));
    fs::remove_file(place.path().join("out.png")).expect("removed");
    for (more, expected) in [
        (&["red.png", "photos", "--text", "a dog"][..], "--explain draws one image"),
        (&["red.png", "--text", "a", "--explain", "out.jpg"], "cannot be used multiple times"),
    ] {
        let output = explain(more);
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains(expected), "{said}");
        assert!(!place.path().join("out.png").exists());
    }
    let said = stderr(&run(
        place.path(),
        &["match", "red.png", "--text", "a", "--explain", "x.png", "--model", "model"],
    ));
    assert!(said.contains("cannot explain what words look at; it can"), "{said}");
}

#[test]
fn what_words_of_a_question_look_at_is_drawn() {
    let place = workplace();
    let Some(model) = checkpoint("blip-sf-tiny-vqa") else { return };
    for (name, more) in [("free.png", &[][..]), ("listed.png", &["--answers", "red,two"])] {
        let question = ["ask", "red.png", "what color is the dog?", "--model", &model, "--explain", name];
        let output = run(place.path(), &[&question, more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let drawn = tuwen::Picture::open(&place.path().join(name)).expect("a picture");
        assert_eq!(drawn.width(), 4 * (256 + 8) + 8);
    }
}

#[test]
fn both_together_have_a_vector_of_their_own() {
    let place = workplace();
    let Some(model) = checkpoint("blip-sf-tiny-feature") else { return };
    let arguments =
        ["embed", "--both", "red.png", "photos", "--text", "a dog", "--text", "snow", "--model", &model];
    let lines = json_lines(place.path(), &arguments, 0);
    assert_eq!((lines.len(), &lines[0]["kind"]), (6, &"both".into()));
    assert_eq!((&lines[1]["text"], &lines[1]["input"]), (&"snow".into(), &"red.png".into()));
    let vectors: Vec<Vec<f64>> = lines.iter().map(|line| numbers(&line["embedding"])).collect();
    assert!(vectors.iter().all(|vector| (common::dot(vector, vector) - 1.0).abs() < 1e-5));
    assert!(common::dot(&vectors[0], &vectors[1]) < 0.9999 && vectors[0].len() == 32);
    let said = stderr(&run(place.path(), &["embed", "--both", "red.png", "--model", &model]));
    assert!(said.contains("--both takes images and texts"), "{said}");
}

/// Three pictures with a caption each, in the folder `captions`.
fn write_captions(place: &Path) {
    let data = place.join("captions");
    fs::create_dir(&data).expect("created");
    for (name, colour, caption) in
        [("a", [200, 10, 30], "a red hat"), ("b", [20, 180, 40], "snow"), ("c", [0, 40, 250], "a dog")]
    {
        common::write_picture(&data.join(format!("{name}.png")), colour);
        fs::write(data.join(format!("{name}.txt")), caption).expect("written");
    }
}

#[test]
fn retrieval_ranks_candidates_anew() {
    let place = workplace();
    let Some(model) = checkpoint("blip-sf-tiny-itm") else { return };
    write_captions(place.path());
    let metrics = |rerank: &str| {
        let arguments = ["eval", "retrieval", "captions", "--rerank", rerank, "--model", &model];
        json_lines(place.path(), &arguments, 0)
    };
    let name = |line: &serde_json::Value| line["metric"].as_str().unwrap_or_default().to_owned();
    let (plain, again) = (metrics("0"), metrics("2"));
    assert_eq!((plain.len(), again.len()), (7, 14), "{again:?}");
    for line in &plain {
        let same =
            again.iter().find(|other| name(other) == format!("itc_{}", name(line))).expect("by vectors");
        assert_eq!(line["value"], same["value"]);
    }
}

#[test]
fn captions_are_told_apart_with_a_head_and_without() {
    let place = workplace();
    write_captions(place.path());
    let arguments = ["eval", "matching", "captions", "--model", "model"];
    let names = |lines: &[serde_json::Value]| {
        let name = |line: &serde_json::Value| line["metric"].as_str().unwrap_or_default().to_owned();
        lines.iter().map(name).collect::<Vec<_>>()
    };
    let by_vectors = json_lines(place.path(), &arguments, 0);
    assert_eq!(names(&by_vectors), ["itc_pair_accuracy", "pairs"], "a CLIP has no head");
    let output = run(place.path(), &arguments);
    let table = String::from_utf8(output.stdout).expect("text");
    let pairs = table.lines().find(|line| line.contains("pairs ")).expect("pairs");
    assert!(pairs.ends_with("    3") && !pairs.contains('%'), "{table}");
    assert!(table.lines().any(|line| line.contains("itc_pair_accuracy") && line.ends_with(" %")), "{table}");
    fs::write(place.path().join("captions/broken.png"), "no picture").expect("written");
    fs::write(place.path().join("captions/broken.txt"), "a broken vase").expect("written");
    let with_broken = json_lines(place.path(), &arguments, 1);
    assert_eq!(with_broken[1]["value"], 3.0);

    let Some(model) = checkpoint("blip-sf-tiny-itm") else { return };
    let by_head = json_lines(place.path(), &["eval", "matching", "captions", "--model", &model], 1);
    assert_eq!(names(&by_head), ["itc_pair_accuracy", "itm_accuracy", "itm_pair_accuracy", "pairs"]);
    let Some(captioner) = checkpoint("blip-sf-tiny-caption") else { return };
    let refused = run(place.path(), &["eval", "matching", "captions", "--model", &captioner]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}
