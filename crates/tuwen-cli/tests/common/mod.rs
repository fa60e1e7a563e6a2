//! What the tests of the binary share: a tiny random model with a tokenizer, pictures, and running the program.

#![allow(dead_code, clippy::print_stderr)] // each test file uses a part; what is skipped is said

pub mod training;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tuwen_data::tokenizer::ClipTokenizer;
use tuwen_models::clip::{Clip, ClipConfig};
use tuwen_nn::Scope;
use tuwen_tensor::checkpoint::{RawTensor, write_safetensors};

/// The program, not yet started, in a directory; it knows no hub cache.
pub fn tuwen(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuwen"));
    for variable in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"] {
        command.env_remove(variable);
    }
    command.env("HOME", directory).current_dir(directory).args(arguments);
    command
}

/// Runs the program to its end.
pub fn run(directory: &Path, arguments: &[&str]) -> Output {
    tuwen(directory, arguments).output().expect("runs")
}

/// What it said on stderr.
pub fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// The JSON lines of a run that ended with this status.
pub fn json_lines(directory: &Path, arguments: &[&str], status: i32) -> Vec<Value> {
    let output = run(directory, &[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// The numbers of a JSON array.
pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// Scalar product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A directory with `model/` and the pictures `red.png`, `photos/green.png` and `photos/deep/blue.png`.
pub fn workplace() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a directory");
    write_model(&place.path().join("model"));
    fs::create_dir_all(place.path().join("photos/deep")).expect("created");
    for (name, colour) in [
        ("red.png", [200, 10, 30]),
        ("photos/green.png", [20, 180, 40]),
        ("photos/deep/blue.png", [0, 40, 250]),
    ] {
        write_picture(&place.path().join(name), colour);
    }
    place
}

/// A gradient from black to a colour.
pub fn write_picture(path: &Path, colour: [u32; 3]) {
    let (width, height) = (24, 18);
    let pixels: Vec<u8> =
        (0..width * height).flat_map(|i| colour.map(|c| (c * (i % width) / width) as u8)).collect();
    let mut encoder = png::Encoder::new(fs::File::create(path).expect("created"), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().expect("written").write_image_data(&pixels).expect("written");
}

/// A random model in transformers' layout with a vocabulary of its own.
pub fn write_model(directory: &Path) {
    let words = ["a photo of a cat", "a photo of a dog", "a picture of a bird in a tree"];
    let tokenizer = ClipTokenizer::train(words.iter().cycle().take(30), 530).expect("learnt");
    tokenizer.save(directory).expect("written");
    let config = serde_json::json!({
        "model_type": "clip",
        "projection_dim": 12,
        "text_config": {
            "vocab_size": tokenizer.vocab_size(), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 32, "eos_token_id": tokenizer.end_id(),
        },
        "vision_config": {
            "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
            "image_size": 16, "patch_size": 8,
        },
    });
    fs::write(directory.join("config.json"), config.to_string()).expect("written");
    let config = ClipConfig::from_hf_json(&config.to_string()).expect("a configuration");
    let clip = Clip::new(&config, Scope::init(7)).expect("nothing is loaded");
    let tensors = clip.parameters().iter().map(|entry| {
        let value = entry.param.value();
        (entry.name.clone(), RawTensor::from_f32(value.shape(), &value.to_vec()))
    });
    write_safetensors(&directory.join("model.safetensors"), tensors, &BTreeMap::new()).expect("written");
}

/// A folder of golden cases, where they are at hand.
pub fn fixtures() -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures"));
    if !path.is_dir() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path.canonicalize().expect("a path"))
}
