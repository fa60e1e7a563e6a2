//! Training that is killed while it computes or writes, and on a full disk: nothing is lost, and it goes on with the
//! same losses to the same weights.
//!
//! `KILLS=50 cargo test --release -p tuwen-cli --test kill -- --ignored --nocapture` kills more often and says when.
#![cfg(unix)]
#![allow(clippy::print_stderr)] // what was hit is said

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::training::{log, write_recipe};
use serde_json::Value;
use tuwen_tensor::checkpoint::{TensorSource as _, open};

const TRAIN: [&str; 4] = ["--threads=1", "train", "recipe.toml", "--resume"];

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let hits = kill_often(8);
    assert!(hits.values().sum::<u32>() > 0);
}

#[test]
#[ignore = "takes minutes"]
fn a_run_killed_often_goes_on_as_if_nothing_had_happened() {
    let kills = std::env::var("KILLS").map_or(50, |kills| kills.parse().expect("a number"));
    let hits = kill_often(kills);
    for (hit, count) in &hits {
        eprintln!("{count:4} {hit}");
    }
    assert!(hits.contains_key(HALF_A_CHECKPOINT), "no kill fell into the writing of a checkpoint");
}

const HALF_A_CHECKPOINT: &str = "kills left half a checkpoint";

/// When a run is killed: after a time, or a moment after something begins to be written.
#[derive(Clone, Copy)]
enum Moment {
    After(Duration),
    Writing(Written, Duration),
}

#[derive(Clone, Copy, PartialEq)]
enum Written {
    Log,
    Checkpoint,
    Export,
}

impl Moment {
    /// Any moment of a run that takes `whole`.
    fn random(whole: Duration) -> Self {
        let shortly = Duration::from_micros(random() % 4000);
        match random() % 6 {
            0 => Self::Writing(Written::Log, shortly / 10),
            1 => Self::Writing(Written::Checkpoint, shortly),
            2 => Self::Writing(Written::Export, shortly),
            _ => Self::After(whole.mul_f64((random() % 1000) as f64 / 2500.0)),
        }
    }

    /// Waits for it; false if the run ended before.
    fn wait(self, child: &mut Child, out: &Path) -> bool {
        let begun = Instant::now();
        let seen = |what| match what {
            Written::Log => BTreeSet::from([(
                out.join("log.jsonl"),
                fs::metadata(out.join("log.jsonl")).map_or(0, |data| data.len()),
            )]),
            Written::Checkpoint => unfinished(&out.join("checkpoints")),
            Written::Export => unfinished(out),
        };
        let before = if let Self::Writing(what, _) = self { seen(what) } else { BTreeSet::new() };
        while child.try_wait().expect("asked").is_none() {
            match self {
                Self::After(time) if begun.elapsed() >= time => return true,
                Self::Writing(what, shortly) if !seen(what).is_subset(&before) => {
                    sleep(shortly);
                    return child.try_wait().expect("asked").is_none();
                }
                _ => sleep(Duration::from_micros(100)),
            }
        }
        false
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// What lies in a directory under a name that is not the last, each with its inode.
fn unfinished(directory: &Path) -> BTreeSet<(PathBuf, u64)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let hidden = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."));
    hidden.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.ino()))).collect()
}

/// Kills runs so many times in all, checks after each kill what is on the disk, and of each run, resumed until it ends,
/// that it is the run that was never killed. Returns how often kills fell where.
fn kill_often(kills: u32) -> BTreeMap<&'static str, u32> {
    let whole = tempfile::tempdir().expect("a directory");
    write_recipe(whole.path());
    let begun = Instant::now();
    succeeds(&train(whole.path()).output().expect("runs"));
    let time = begun.elapsed();
    let expected = Expected { log: log(whole.path()), model: model(whole.path()) };

    let (mut left, mut hits) = (kills, BTreeMap::new());
    while left > 0 {
        let place = tempfile::tempdir().expect("a directory");
        write_recipe(place.path());
        let mut newest = 0;
        loop {
            let mut child =
                train(place.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
            if left == 0 || !Moment::random(time).wait(&mut child, &place.path().join("out")) {
                assert!(child.wait().expect("waited").success());
                break;
            }
            child.kill().expect("killed");
            child.wait().expect("waited");
            left -= 1;
            let step = expected.check(&place.path().join("out"), &mut hits);
            assert!(step >= newest, "the newest checkpoint was of step {newest}, now it is of step {step}");
            newest = step;
        }
        *hits.entry("runs ended as the one that was not killed").or_default() += 1;
        assert_eq!(log(place.path()), expected.log, "{left} kills before the last");
        assert!(model(place.path()) == expected.model, "the weights differ, {left} kills before the last");
    }
    hits
}

fn train(directory: &Path) -> Command {
    common::tuwen(directory, &TRAIN)
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", common::stderr(output));
}

fn model(directory: &Path) -> Vec<u8> {
    fs::read(directory.join("out/final/model.safetensors")).expect("a model")
}

/// What a run that is not killed leaves.
struct Expected {
    log: Vec<Value>,
    model: Vec<u8>,
}

impl Expected {
    /// Checks that whatever lies under its last name is whole, and returns the step of the newest checkpoint.
    fn check(&self, out: &Path, hits: &mut BTreeMap<&'static str, u32>) -> u64 {
        let mut hit = |what| *hits.entry(what).or_default() += 1;
        if !unfinished(&out.join("checkpoints")).is_empty() {
            hit(HALF_A_CHECKPOINT);
        }
        if !unfinished(out).is_empty() {
            hit("kills left half an exported model");
        }
        let text = fs::read_to_string(out.join("log.jsonl")).unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            hit("kills left half a line of the log");
        }
        for model in ["best", "final"].map(|name| out.join(name)).iter().filter(|model| model.exists()) {
            read_all(&model.join("model.safetensors"));
        }
        let checkpoints = fs::read_dir(out.join("checkpoints")).into_iter().flatten().flatten();
        let whole = checkpoints.filter(|entry| entry.file_name().to_string_lossy().starts_with("step-"));
        let steps = whole.map(|entry| self.check_checkpoint(&entry.path(), &text)).max();
        hit(if steps.is_none() {
            "kills before the first checkpoint"
        } else {
            "kills after the first checkpoint"
        });
        steps.unwrap_or(0)
    }

    fn check_checkpoint(&self, checkpoint: &Path, text: &str) -> u64 {
        read_all(&checkpoint.join("weights.safetensors"));
        read_all(&checkpoint.join("optimizer.safetensors"));
        let state = fs::read(checkpoint.join("state.json")).expect("a state");
        let state: Value = serde_json::from_slice(&state).expect("JSON");
        let length = state["log_length"].as_u64().expect("a length") as usize;
        let lines = text.get(..length).expect("the log has what the checkpoint relies on").lines();
        for (line, expected) in lines.zip(&self.log) {
            let line: Value = serde_json::from_str(line).expect("a whole line");
            assert_eq!(line["loss"], expected["loss"]);
        }
        state["step"].as_u64().expect("a step")
    }
}

fn read_all(path: &Path) {
    let file = open(path).expect("a whole file");
    for name in file.names() {
        file.read(&name).expect("a whole tensor");
    }
}

/// Runs with files of at most so many blocks of 512 bytes: what is beyond cannot be written, as on a full disk.
fn train_within(directory: &Path, blocks: u32) -> String {
    let script = "trap '' XFSZ; ulimit -f $0 && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, &blocks.to_string(), env!("CARGO_BIN_EXE_tuwen")]).args(TRAIN).arg("--quiet");
    let output = command.current_dir(directory).output().expect("runs");
    let said = common::stderr(&output);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 2), "{said}");
    assert!(said.contains("hint: make room"), "{said}");
    assert!(said.contains("File too large"), "{said}");
    said
}

#[test]
fn a_full_disk_is_named_and_costs_nothing() {
    let [whole, full] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    for place in [&whole, &full] {
        write_recipe(place.path());
    }
    succeeds(&train(whole.path()).output().expect("runs"));

    let out = full.path().join("out");
    train_within(full.path(), 1);
    let said = train_within(full.path(), 60);
    assert!(said.contains(".safetensors"), "{said}");
    let mut child = train(full.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
    while !out.join("checkpoints/step-00000014").exists() {
        assert!(child.try_wait().expect("asked").is_none(), "it ended before it could be killed");
        sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("waited");
    let expected = Expected { log: log(whole.path()), model: model(whole.path()) };
    let step = expected.check(&out, &mut BTreeMap::new());
    let said = train_within(full.path(), 60);
    assert!(said.contains(".safetensors"), "{said}");
    assert_eq!(expected.check(&out, &mut BTreeMap::new()), step, "the checkpoint stays");
    succeeds(&train(full.path()).output().expect("runs"));
    assert_eq!(log(full.path()), expected.log);
    assert!(model(full.path()) == expected.model);
}
