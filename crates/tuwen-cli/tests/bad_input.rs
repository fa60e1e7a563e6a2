//! What is wrong is said in a line that names it, with the right status, and never on stdout.

mod common;

use std::fs;
use std::path::Path;

use common::{json_lines, run, stderr, tuwen, workplace, write_picture};

#[test]
fn broken_images_are_named_and_the_rest_is_done() {
    let place = workplace();
    let path = |name: &str| place.path().join(name);
    let whole = fs::read(path("red.png")).expect("read");
    fs::write(path("photos/cut.png"), &whole[..whole.len() / 2]).expect("written");
    fs::write(path("photos/empty.jpg"), "").expect("written");
    fs::write(path("photos/page.jpg"), "<html>not found</html>").expect("written");
    fs::create_dir(path("nothing")).expect("created");
    let inputs = ["red.png", "missing.png", "photos", "nothing", "*.gif"];
    let broken = [
        ("missing.png", "no such file"),
        ("photos/cut.png", "cut off"),
        ("photos/empty.jpg", "empty"),
        ("photos/page.jpg", "not a JPEG"),
        ("nothing", "no images here"),
        ("*.gif", "no images here"),
    ];
    for verb in [&["embed"][..], &["classify", "--labels", "a,b"], &["match", "--text", "a"]] {
        let arguments = [verb, &inputs[..], &["--model", "model", "--quiet"]].concat();
        let lines = json_lines(place.path(), &arguments, 1);
        let named: Vec<_> = lines.iter().map(|line| line["input"].as_str().expect("a name")).collect();
        assert_eq!(named, ["red.png", "photos/deep/blue.png", "photos/green.png"], "{verb:?}");
        let said = stderr(&run(place.path(), &arguments));
        assert_eq!(said.lines().count(), broken.len(), "{said}");
        for (name, reason) in broken {
            let line = said.lines().find(|line| line.starts_with(&format!("{name}: "))).expect(name);
            assert!(line.contains(reason) && line.matches(name).count() == 1, "{line}");
        }
    }
}

#[test]
fn hundreds_of_images_with_a_broken_one_among_them_keep_their_order() {
    let place = workplace();
    let names: Vec<String> = (0..100).map(|i| format!("many/{i:03}.png")).collect();
    fs::create_dir(place.path().join("many")).expect("created");
    for (i, name) in names.iter().enumerate() {
        if i == 41 {
            fs::write(place.path().join(name), "no").expect("written");
        } else {
            write_picture(&place.path().join(name), [i as u32, 100, 50]);
        }
    }
    let lines = json_lines(place.path(), &["embed", "many", "--model", "model", "--threads", "3"], 1);
    let got: Vec<_> = lines.iter().map(|line| line["input"].as_str().expect("a name").to_owned()).collect();
    let expected: Vec<_> = names.into_iter().filter(|name| name != "many/041.png").collect();
    assert_eq!(got, expected);
}

#[test]
fn wrong_usage_is_status_2() {
    let place = workplace();
    fs::write(place.path().join("blank.txt"), "\n \n").expect("written");
    for (arguments, expected) in [
        (&["clasify"][..], "similar subcommand exists: 'classify'"),
        (&[], "Usage"),
        (&["embed"], "nothing to embed"),
        (&["classify", "--labels", "a"], "<IMAGE|--files-from"),
        (&["classify", "red.png"], "there are no labels"),
        (&["classify", "red.png", "--labels", " , "], "there are no labels"),
        (&["classify", "red.png", "--labels-file", "blank.txt"], "there are no labels"),
        (&["classify", "red.png", "--labels-file", "nowhere.txt"], "nowhere.txt: "),
        (&["classify", "red.png", "--labels-file", "model/model.safetensors"], "model/model.safetensors: "),
        (&["classify", "red.png", "--labels", "a", "--template", "a photo"], "no {} where the label goes"),
        (&["classify", "red.png", "--labels", "a", "--templates", "imagenet8"], "imagenet7"),
        (&["match", "red.png"], "--text <TEXT>"),
        (&["embed", "red.png", "--threads", "0"], "--threads"),
        (&["embed", "red.png", "--device", "cuda:0"], "not on cuda:0"),
        (&["embed", "red.png", "--precision", "int8"], "int8 arithmetic is not available"),
        (&["embed", "red.png", "--frobnicate"], "--frobnicate"),
        (&["completions", "tcsh"], "bash"),
        (&["verify", "no-such-case"], "no-such-case: no such case"),
        (&["verify", "model"], "no golden case"),
    ] {
        let output = run(place.path(), &[arguments, &["--model", "model"][..]].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected) && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn an_instruction_set_that_cannot_be_used_is_status_2() {
    let place = workplace();
    let missing = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
    let reason = format!("this CPU cannot run {missing} kernels; it can run portable");
    for (name, expected) in
        [("sse9", "no instruction set \"sse9\"; there are portable, avx2"), (missing, &reason)]
    {
        let params = ["params", "--model", "model"];
        let output = tuwen(place.path(), &params).env("TUWEN_ISA", name).output().expect("runs");
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.starts_with(&format!("error: TUWEN_ISA: {expected}")), "{said}");
    }
}

#[test]
fn a_model_that_does_not_load_is_status_3() {
    let place = workplace();
    let path = |name: &str| place.path().join(name);
    let weights = fs::read(path("model/model.safetensors")).expect("read");
    let config = fs::read_to_string(path("model/config.json")).expect("read");
    let model = |name: &str, files: &[(&str, &[u8])]| {
        fs::create_dir(path(name)).expect("created");
        for (file, content) in files {
            fs::write(path(name).join(file), content).expect("written");
        }
    };
    let config_with = |from: &str, to: &str| config.replace(from, to).into_bytes();
    model("empty", &[]);
    model("bare", &[("model.safetensors", &weights)]);
    model("cut", &[("model.safetensors", &weights[..weights.len() - 9]), ("config.json", config.as_bytes())]);
    model("page", &[("model.safetensors", b"<html>"), ("config.json", config.as_bytes())]);
    model("blip", &[("model.safetensors", &weights), ("config.json", &config_with("\"clip\"", "\"blip\""))]);
    model(
        "deeper",
        &[
            ("model.safetensors", &weights),
            ("config.json", &config_with("\"num_hidden_layers\":2", "\"num_hidden_layers\":3")),
        ],
    );
    model(
        "wider",
        &[
            ("model.safetensors", &weights),
            ("config.json", &config_with("\"projection_dim\":12", "\"projection_dim\":13")),
        ],
    );
    model("mute", &[("model.safetensors", &weights), ("config.json", config.as_bytes())]);
    model(
        "stranger",
        &[
            ("model.safetensors", &weights),
            ("config.json", config.as_bytes()),
            ("vocab.json", b"{\"a\": 0}"),
            ("merges.txt", b""),
        ],
    );
    for (model, expected) in [
        ("nowhere", "no model \"nowhere\""),
        ("some/thing", "some/thing is not in the local hub cache"),
        ("empty", "no weights here"),
        ("bare", "no configuration (looked for config.json"),
        ("cut", "model.safetensors: "),
        ("page", "web page"),
        ("blip", "model_type is \"blip\""),
        ("deeper", "vision_model.encoder.layers.2."),
        ("wider", "expected [13, 24], got [12, 24]"),
        ("mute", "no tokenizer"),
        ("stranger", "vocab.json: "),
        ("red.png", "red.png: not a checkpoint"),
    ] {
        let output = run(place.path(), &["match", "red.png", "--text", "a cat", "--model", model]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{model}: {said}");
        assert!(
            said.contains(expected) && said.contains(model) && output.stdout.is_empty(),
            "{model}: {said}"
        );
        // The report of a load names many tensors; everything else is a line and a hint.
        assert!(said.lines().count() <= 2 || said.contains("does not fit"), "{said}");
    }
    // Without a tokenizer images are still read.
    assert_eq!(json_lines(place.path(), &["embed", "red.png", "--model", "mute"], 0).len(), 1);
}

/// Writes the files of a model into a directory of its own.
fn directory(place: &Path, name: &str, files: &[(&str, &[u8])]) {
    fs::create_dir(place.join(name)).expect("created");
    for (file, content) in files {
        fs::write(place.join(name).join(file), content).expect("written");
    }
}

#[test]
fn weights_of_another_width_are_named_in_the_first_line() {
    let place = workplace();
    let read = |name: &str| fs::read(place.path().join("model").join(name)).expect("read");
    let config = String::from_utf8(read("config.json")).expect("text");
    for (name, from, to, expected) in [
        (
            "wide",
            "\"hidden_size\":24",
            "\"hidden_size\":48",
            "vision hidden_size is 48 in config.json, the weights have 24",
        ),
        (
            "text",
            "\"hidden_size\":16",
            "\"hidden_size\":8",
            "text hidden_size is 8 in config.json, the weights have 16",
        ),
        (
            "deep",
            "\"num_hidden_layers\":2",
            "\"num_hidden_layers\":1",
            "num_hidden_layers is 1 in config.json, the weights have 2",
        ),
        (
            "fine",
            "\"patch_size\":8",
            "\"patch_size\":4",
            "vision patch_size is 4 in config.json, the weights have 8",
        ),
        (
            "large",
            "\"image_size\":16",
            "\"image_size\":24",
            "vision image_size is 24 in config.json, the weights have 16",
        ),
        (
            "joint",
            "\"projection_dim\":12",
            "\"projection_dim\":6",
            "projection_dim is 6 in config.json, the weights have 12",
        ),
    ] {
        assert!(config.contains(from), "{config}");
        let config = config.replace(from, to);
        directory(
            place.path(),
            name,
            &[("model.safetensors", &read("model.safetensors")), ("config.json", config.as_bytes())],
        );
        let output = run(place.path(), &["embed", "red.png", "--model", name]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        let first = said.lines().next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("error: {name}/model.safetensors: ")) && first.ends_with(expected),
            "{said}"
        );
    }
}

#[test]
fn of_files_of_several_programs_those_that_fit_are_used() {
    let place = workplace();
    let convert = |destination: &str, to: &str| {
        let output = run(place.path(), &["convert", "model", destination, "--to", to]);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    convert("open_clip", "open_clip");
    let read = |name: &str| fs::read(place.path().join(name)).expect("read");
    let tokenizer = read("model/tokenizer.json");
    let embed = |model: &str, status| {
        let output = run(place.path(), &["embed", "red.png", "--text", "a cat", "--json", "--model", model]);
        assert_eq!(output.status.code(), Some(status), "{model}: {}", stderr(&output));
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output))
    };
    let expected = embed("model", 0).0;
    let (hf, hf_config) = (read("model/model.safetensors"), read("model/config.json"));
    let (oc, oc_config) =
        (read("open_clip/open_clip_model.safetensors"), read("open_clip/open_clip_config.json"));
    let other = String::from_utf8(hf_config.clone())
        .expect("text")
        .replace("\"projection_dim\":12", "\"projection_dim\":6");
    let gelu = String::from_utf8(oc_config.clone())
        .expect("text")
        .replace("\"quick_gelu\": true", "\"quick_gelu\": false");
    let foreign = br#"{"layers": 12, "architecture": "other"}"#;
    // Weights and configurations of one model, whosever they are.
    for (name, files) in [
        (
            "both",
            &[
                ("model.safetensors", &hf[..]),
                ("config.json", &hf_config),
                ("open_clip_model.safetensors", &oc),
                ("open_clip_config.json", &oc_config),
            ][..],
        ),
        ("crossed", &[("open_clip_model.safetensors", &oc), ("config.json", &hf_config)]),
        ("across", &[("model.safetensors", &hf), ("open_clip_config.json", &oc_config)]),
        (
            "misnamed",
            &[("model.safetensors", &oc), ("open_clip_config.json", &oc_config), ("config.json", foreign)],
        ),
        (
            "second",
            &[
                ("open_clip_model.safetensors", &oc),
                ("open_clip_config.json", other.as_bytes()),
                ("config.json", &hf_config),
            ],
        ),
        (
            "aside",
            &[
                ("model.safetensors", &hf),
                ("config.json", other.as_bytes()),
                ("open_clip_model.safetensors", &oc),
                ("open_clip_config.json", &oc_config),
            ],
        ),
        (
            "broken",
            &[
                ("model.safetensors", &hf),
                ("config.json", &hf_config),
                ("open_clip_pytorch_model.bin", b"version https://git-lfs"),
            ],
        ),
    ] {
        directory(place.path(), name, files);
        fs::write(place.path().join(name).join("tokenizer.json"), &tokenizer).expect("written");
        let (got, _) = embed(name, 0);
        assert_eq!(got, expected, "{name}");
    }
    // Two models.
    directory(
        place.path(),
        "two",
        &[
            ("model.safetensors", &hf),
            ("config.json", &hf_config),
            ("open_clip_model.safetensors", &oc),
            ("open_clip_config.json", gelu.as_bytes()),
        ],
    );
    let said = embed("two", 3).1;
    let expected = "error: two: two models: model.safetensors with config.json and open_clip_model.safetensors with \
        open_clip_config.json: vision hidden_act is quick_gelu and gelu\nhint: name the weight file to choose one\n";
    assert_eq!(said, expected);
    fs::write(place.path().join("two/tokenizer.json"), &tokenizer).expect("written");
    let chosen = ["two/model.safetensors", "two/open_clip_model.safetensors"].map(|model| embed(model, 0).0);
    assert!(chosen[0] == embed("model", 0).0 && chosen[1] != chosen[0]);
    // Nothing fits.
    directory(
        place.path(),
        "none",
        &[("open_clip_model.safetensors", &oc), ("config.json", other.as_bytes())],
    );
    let said = embed("none", 3).1;
    assert!(said.contains("projection_dim is 6 in config.json, the weights have 12"), "{said}");
}
