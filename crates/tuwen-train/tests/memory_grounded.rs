//! The memory that a run of BLIP or ALBEF takes is the memory that was estimated. Each run is a process of its own, whose
//! height is its own too.

mod common;

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tuwen_train::memory::{Estimate, Plan};
use tuwen_train::{Recipe, Sources, Start, TrainError, setup};

/// What a process of the test is to run.
const CONFIGURATION: &str = "TUWEN_TEST_CONFIGURATION";

/// Side of the pictures in pixels, samples, and words of the vocabulary.
const SIDE: u32 = 40;
const SAMPLES: u32 = 96;
const WORDS: u32 = 6000;

/// A run: its objective, its settings, and what is said of its training.
const CONFIGURATIONS: [[&str; 3]; 8] = [
    [EVERYTHING, "blip", "batch_size = 8"],
    [EVERYTHING, "blip", "batch_size = 48"],
    [EVERYTHING, "blip", "batch_size = 48, gradient_checkpointing = true"],
    [EVERYTHING, "blip", "batch_size = 48, micro_batch_size = 8, ema_decay = 0.9"],
    ["blip = { task = \"vqa\" }", "blip", "batch_size = 32"],
    ["blip = { task = \"nlvr2\" }", "blip", "batch_size = 24"],
    ["albef = { queue_size = 320 }", "albef", "batch_size = 32"],
    ["albef = { task = \"vqa\" }", "albef", "batch_size = 32, gradient_checkpointing = true"],
];

const EVERYTHING: &str = "blip = { vqa = 1.0, texts_per_image = 2, momentum = 0.99, queue_size = 960 }";

/// So many words, which differ from text to text.
fn words(number: u32, count: u32) -> String {
    let word = |place| format!("word{}", (number * 31 + place * 7) % WORDS);
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

/// Pictures with captions and questions, the same for sentences about two, and a vocabulary.
fn write_data(directory: &Path) {
    let pictures = directory.join("pictures");
    fs::create_dir_all(&pictures).expect("created");
    let mut sentences = Vec::new();
    for number in 0..SAMPLES {
        let picture = common::bmp(SIDE, std::iter::repeat_n(number as u8, 3 * (SIDE * SIDE) as usize));
        fs::write(pictures.join(format!("{number}.bmp")), picture).expect("written");
        let text = json!({
            "captions": [words(number, 6 + number % 7), words(number + 1, 9)],
            "qa": [{"question": words(number, 5), "answers": [words(number, 1), words(number + 2, 2)]}],
        });
        fs::write(pictures.join(format!("{number}.json")), text.to_string()).expect("written");
        let images = [number, (number + 1) % SAMPLES].map(|n| format!("{n}.bmp"));
        sentences.push(json!({"sentence": words(number, 12), "label": "True", "images": images}));
    }
    fs::write(pictures.join("nlvr.json"), json!(sentences).to_string()).expect("written");
    let mut tokens: Vec<String> = (0..104).map(|id| format!("[unused{id}]")).collect();
    for (id, token) in [(0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]")] {
        tokens[id] = token.to_owned();
    }
    tokens.extend((0..WORDS).map(|word| format!("word{word}")));
    fs::write(directory.join("vocab.txt"), tokens.join("\n")).expect("written");
}

fn recipe(directory: &Path, [settings, objective, train]: [&str; 3]) -> Recipe {
    let data = if settings.contains("nlvr2") { "pictures/nlvr.json" } else { "pictures" };
    let text = format!(
        r#"output = "out"
        data = [{{ path = "{data}" }}]
        tokenizer = {{ from = "vocab.txt" }}
        train = {{ objective = "{objective}", epochs = 2, max_steps = 2, {train} }}
        optimizer = {{ }}
        {settings}
        [model]
        projection_dim = 64
        vision = {{ kind = "vit", hidden_size = 192, num_hidden_layers = 4, num_attention_heads = 4, image_size = 96, patch_size = 12 }}
        text = {{ hidden_size = 192, num_hidden_layers = 4, num_attention_heads = 4, max_position_embeddings = 32 }}
        "#
    );
    let path = directory.join("recipe.toml");
    fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

/// Trains, and gives what the run was expected to take.
fn run(directory: &Path, configuration: [&str; 3]) -> Estimate {
    write_data(directory);
    let recipe = recipe(directory, configuration);
    let sources = Sources::open(&recipe).expect("opened");
    let estimated = Cell::new(Estimate::default());
    let allowed = |plan: &Plan| -> Result<(), TrainError> {
        estimated.set(plan.estimate()?);
        let advice = plan.advice(estimated.get().total() - 1)?;
        assert!(advice.contains("micro_batch_size") || advice.contains("checkpointing"), "{advice}");
        Ok(())
    };
    macro_rules! train {
        ($setup:path) => {{
            let mut trainer = $setup(recipe, &sources, Start::Anew, &allowed).expect("prepared");
            trainer.run(&mut |_| ControlFlow::Continue(())).expect("trained");
        }};
    }
    match (configuration[1], configuration[0]) {
        ("albef", settings) if settings.contains("vqa") => train!(setup::albef_vqa),
        ("albef", _) => train!(setup::albef),
        (_, settings) if settings.contains("nlvr2") => train!(setup::nlvr2),
        _ => train!(setup::blip),
    }
    estimated.get()
}

/// The height of the memory of this process so far, in bytes.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The process of a configuration: runs it, and compares.
#[test]
fn one_run() {
    let Ok(number) = std::env::var(CONFIGURATION) else { return };
    let configuration = CONFIGURATIONS[number.parse::<usize>().expect("a number")];
    let directory = tempfile::tempdir().expect("a directory");
    let estimate = run(directory.path(), configuration);
    let Some(measured) = peak() else {
        eprintln!("skipped: no /proc/self/status");
        return;
    };
    let ratio = estimate.total() as f64 / measured as f64;
    let [estimated, took] = [estimate.total(), measured].map(|bytes| bytes >> 20);
    eprintln!("{configuration:?}: estimated {estimated} MB, took {took} MB, {ratio:.2}");
    assert_eq!(estimate.gradients * 2, estimate.moments);
    assert!((0.85..1.15).contains(&ratio), "{ratio:.2}: {estimate:?}, took {measured}");
}

#[test]
fn runs_take_what_was_estimated() {
    for (number, configuration) in CONFIGURATIONS.iter().enumerate() {
        let program = std::env::current_exe().expect("this test");
        let output = Command::new(program)
            .args(["--exact", "one_run", "--nocapture"])
            .env(CONFIGURATION, number.to_string())
            .output()
            .expect("started");
        let said = String::from_utf8_lossy(&output.stderr);
        eprint!("{said}");
        assert!(output.status.success(), "{configuration:?}: {said}");
    }
}
