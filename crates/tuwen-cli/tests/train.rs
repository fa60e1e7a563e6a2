//! Training from the command line: what it exports, the other verbs load; what is wrong is said. `kill.rs` kills it.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::training::{log, write_recipe};
use serde_json::Value;

fn tuwen(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuwen"));
    command.current_dir(directory).args(["--threads", "1"]).args(arguments);
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    tuwen(directory, arguments).output().expect("runs")
}

#[test]
fn what_it_exports_the_other_verbs_load() {
    let directory = tempfile::tempdir().expect("a directory");
    write_recipe(directory.path());
    let output = run(directory.path(), &["train", "recipe.toml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = log(directory.path());
    assert_eq!(log.len(), 170, "160 steps and ten evaluations");
    let top1 = log.iter().rev().find_map(|line| line["metrics"]["top1"].as_f64()).expect("evaluated");
    assert_eq!(top1, 100.0, "stripes are easy");
    let output = run(
        directory.path(),
        &[
            "classify",
            "pictures",
            "--model",
            "out/final",
            "--json",
            "--labels",
            "along,across",
            "--template",
            "stripes {}",
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    assert_eq!(lines.lines().count(), 24);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let (input, label) =
            (line["input"].as_str().expect("a path"), line["labels"][0]["label"].as_str().expect("a label"));
        assert!(input.contains(label), "{input} is {label}");
    }
}

#[test]
fn a_run_starts_from_the_weights_of_another() {
    let directory = tempfile::tempdir().expect("a directory");
    write_recipe(directory.path());
    let output = run(directory.path(), &["train", "recipe.toml", "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let last = log(directory.path()).iter().rev().find_map(|line| line["loss"].as_f64()).expect("a loss");
    let recipe = fs::read_to_string(directory.path().join("recipe.toml")).expect("read");
    let (head, _) = recipe.split_once("[model]").expect("a model by sizes");
    let head = head.replace("tokenizer = { train_vocab_size = 530 }", "").replace("\"out\"", "\"tuned\"");
    let head = head.replace("epochs = 40", "epochs = 1");
    let tuned = head
        + "[model]\ninit_from = \"out/final\"\n[[groups]]\npattern = \"vision_model.*\"\nfreeze = true\n";
    fs::write(directory.path().join("tuned.toml"), tuned).expect("written");
    let output = run(directory.path(), &["train", "tuned.toml", "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(directory.path().join("tuned/log.jsonl")).expect("a log");
    let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let first = first["loss"].as_f64().expect("a loss");
    // Six pairs drawn at random cost ln 6 = 1.8; the learnt weights cost about what they did when they were saved.
    assert!((first - last).abs() < 0.5, "began at {first}, the other run ended at {last}");
}

#[test]
fn an_adapter_is_trained_and_used_by_other_verbs() {
    let directory = tempfile::tempdir().expect("a directory");
    write_recipe(directory.path());
    let path = |name: &str| directory.path().join(name);
    let text = fs::read_to_string(path("recipe.toml")).expect("read").replace("epochs = 40", "epochs = 2");
    fs::write(path("recipe.toml"), &text).expect("written");
    let succeed = |arguments: &[&str]| {
        let output = run(directory.path(), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    succeed(&["train", "recipe.toml", "--quiet"]);
    let (head, _) = text.split_once("[model]").expect("a model by sizes");
    let head = head.replace("tokenizer = { train_vocab_size = 530 }", "");
    let recipe = |output: &str, keys: &str| {
        let head = head.replace("\"out\"", &format!("{output:?}"));
        fs::write(path("lora.toml"), format!("{head}{keys}\nmodel = {{ init_from = \"out/final\" }}"))
            .expect("written");
    };
    for (keys, expected) in [
        ("lora = { r = 0 }", "lora.r is 0; it has to be above 0"),
        (
            "lora = { target_modules = [\"q_prj\"] }",
            "no linear layer is called \"q_prj\"; known are fc1, fc2, k_proj, out_proj, q_proj",
        ),
        ("lora = {}\nexport = { adapter = true, dtype = \"int8\" }", "adapters are written in f32"),
    ] {
        recipe("wrong", keys);
        let output = run(directory.path(), &["train", "lora.toml", "--quiet"]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected) && message.trim_end().lines().count() == 1, "{message}");
    }
    let lora = "lora = { r = 2, lora_alpha = 16, modules_to_save = [\"visual_projection\"] }";
    recipe("merged", lora);
    succeed(&["train", "lora.toml", "--quiet"]);
    recipe("adapter", &format!("{lora}\nexport = {{ adapter = true }}"));
    succeed(&["train", "lora.toml", "--quiet"]);
    let names = fs::read_dir(path("adapter/final")).expect("a directory");
    let mut names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);

    let embed = |options: &[&str]| {
        let lines = succeed(&[&["embed", "pictures/along/0.png", "--json"], options].concat());
        let line: Value = serde_json::from_str(&lines).expect("JSON");
        let numbers = line["embedding"].as_array().expect("a vector").iter();
        numbers.map(|number| number.as_f64().expect("a number")).collect::<Vec<_>>()
    };
    let merged = embed(&["--model", "merged/final"]);
    let distance =
        |other: &[f64]| merged.iter().zip(other).fold(0.0_f64, |far, (a, b)| far.max((a - b).abs()));
    assert!(distance(&embed(&["--model", "out/final", "--adapter", "adapter/final"])) < 1e-5);
    assert!(distance(&embed(&["--model", "adapter/final"])) < 1e-5);
    assert!(distance(&embed(&["--model", "out/final"])) > 1e-3, "the adapter has an effect");
}

#[test]
fn what_is_wrong_with_a_recipe_is_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    write_recipe(directory.path());
    let recipe = fs::read_to_string(directory.path().join("recipe.toml")).expect("read");
    for (from, to, expected) in [
        ("seed = 3", "sed = 3", "unknown field `sed`"),
        ("path = \"pictures\", caption", "path = \"nowhere\", caption", "nowhere"),
        ("batch_size = 6", "batch_size = 60", "do not fill a batch"),
        ("patch_size = 8", "patch_size = 80", "patch_size is 80"),
        ("num_attention_heads = 2, image", "num_attention_heads = 3, image", "does not make 3 heads"),
        ("train_vocab_size = 530", "train_vocab_size = 100", "too small"),
        (
            "batch_size = 6",
            "ema_decay = 1.0, batch_size = 6",
            "train.ema_decay is 1; it has to be between 0 and 1",
        ),
        ("batch_size = 6", "ema_warmup = true, batch_size = 6", "train.ema_warmup needs train.ema_decay"),
        ("seed = 3", "lora = {}", "[lora] needs model.init_from"),
        (
            "seed = 3",
            "lock = { vision = { unlocked = 1 } }",
            "unknown field `unlocked`, expected `unlocked_layers`",
        ),
        (
            "seed = 3",
            "lock = { text = { unlocked_layers = 4 } }",
            "[lock] text.unlocked_layers is 4; the tower has 3 groups",
        ),
        ("seed = 3", "export = { adapter = true }", "export.adapter needs [lora]"),
    ] {
        assert!(recipe.contains(from), "{from}");
        fs::write(directory.path().join("wrong.toml"), recipe.replace(from, to)).expect("written");
        let output = run(directory.path(), &["train", "wrong.toml", "--quiet"]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected) && message.trim_end().lines().count() <= 2, "{message}");
        assert!(output.stdout.is_empty());
    }
}
