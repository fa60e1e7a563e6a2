//! Training from the command line: killed at any moment, it goes on with the losses of the run that was not; what it
//! exports, the other verbs load.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

/// Pictures of two classes: stripes along and stripes across.
fn write_pictures(folder: &Path) {
    for (class, across) in [("along", false), ("across", true)] {
        fs::create_dir_all(folder.join(class)).expect("created");
        for number in 0..12 {
            let stripe = |x: u32, y: u32| if across { y } else { x } / 4 % 2 * 200 + number;
            let pixels: Vec<u8> = (0..20 * 20)
                .flat_map(|i| [stripe(i % 20, i / 20), 10 * number, 90].map(|v| v as u8))
                .collect();
            let file = fs::File::create(folder.join(class).join(format!("{number}.png"))).expect("created");
            let mut encoder = png::Encoder::new(file, 20, 20);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().expect("written").write_image_data(&pixels).expect("written");
        }
    }
}

fn write_recipe(directory: &Path) {
    write_pictures(&directory.join("pictures"));
    let recipe = r#"
        seed = 3
        output = "out"
        data = [{ path = "pictures", caption_templates = ["a picture of stripes {}.", "stripes {}"] }]
        tokenizer = { train_vocab_size = 530 }
        augment = { horizontal_flip = 0.5, random_resized_crop = { scale = [0.5, 1.0] }, word_dropout = 0.2 }
        train = { batch_size = 6, epochs = 40, checkpoint_every = 7, log_every = 1 }
        optimizer = { lr = 0.002, warmup_steps = 10 }
        eval = [{ name = "stripes", kind = "zero_shot", path = "pictures", every_epochs = 4, templates = ["stripes {}"] }]

        [model]
        projection_dim = 16
        vision = { kind = "vit", hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, image_size = 16, patch_size = 8 }
        text = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, max_position_embeddings = 40 }
    "#;
    fs::write(directory.join("recipe.toml"), recipe).expect("written");
}

fn tuwen(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuwen"));
    command.current_dir(directory).args(["--threads", "1"]).args(arguments);
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    tuwen(directory, arguments).output().expect("runs")
}

/// The log without what depends on the clock.
fn log(directory: &Path) -> Vec<Value> {
    let text = fs::read_to_string(directory.join("out/log.jsonl")).expect("a log");
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a whole line");
        value.as_object_mut().expect("an object").remove("images_per_second");
        value
    };
    text.lines().map(line).collect()
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let whole = tempfile::tempdir().expect("a directory");
    write_recipe(whole.path());
    let output = run(whole.path(), &["train", "recipe.toml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = log(whole.path());
    assert_eq!(expected.len(), 170, "160 steps and ten evaluations");
    let top1 = expected.iter().rev().find_map(|line| line["metrics"]["top1"].as_f64()).expect("evaluated");
    assert_eq!(top1, 100.0, "stripes are easy");

    let killed = tempfile::tempdir().expect("a directory");
    write_recipe(killed.path());
    let mut kills = 0;
    for attempt in 0..40_u64 {
        let mut child = tuwen(killed.path(), &["train", "recipe.toml", "--resume", "--quiet"]);
        let mut child = child.stdout(std::process::Stdio::null()).spawn().expect("runs");
        // Spread over the life of a run, start-up included; later ones last longer, so that the run ends.
        sleep(Duration::from_millis(15 + attempt * 37 % 110 + attempt * 2));
        if child.try_wait().expect("asked").is_none() {
            child.kill().expect("killed");
            kills += 1;
        }
        child.wait().expect("waited");
    }
    assert!(kills > 0, "the run is too short to be killed");
    let output = run(killed.path(), &["train", "recipe.toml", "--resume"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(log(killed.path()), expected, "after {kills} kills");
    let weights =
        |directory: &Path| fs::read(directory.join("out/final/model.safetensors")).expect("a model");
    assert!(
        weights(killed.path()) == weights(whole.path()),
        "the same weights, bit for bit, after {kills} kills"
    );

    let output = run(
        killed.path(),
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
#[cfg(target_os = "linux")] // elsewhere it is not known how much memory there is
fn a_run_that_does_not_fit_is_refused_before_it_takes_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    write_recipe(directory.path());
    let recipe = fs::read_to_string(directory.path().join("recipe.toml")).expect("read");
    let huge = recipe
        .replace("hidden_size = 32, num_hidden_layers = 1,", "hidden_size = 131072, num_hidden_layers = 99,");
    assert_ne!(huge, recipe);
    fs::write(directory.path().join("huge.toml"), huge).expect("written");
    let output = run(directory.path(), &["train", "huge.toml", "--quiet"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    let (error, hint) = message.trim_end().split_once('\n').expect("two lines");
    assert!(error.contains("training needs about") && error.contains("GB is available"), "{message}");
    assert!(hint.contains("take a smaller model") && hint.contains("--force"), "{message}");
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
