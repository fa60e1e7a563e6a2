//! Jobs that are killed at random moments, or find the disk full: no finished shard is lost or made again, and in the end
//! there is what an uninterrupted job leaves, byte for byte.
//!
//! The test starts itself anew as the process to kill.
#![cfg(unix)]
#![allow(clippy::print_stdout, clippy::unwrap_used)] // the child tells its parent what it does; helpers of tests

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Eye, job, job_with, settings, tree, write_source};
use tuwen_jobs::capfilt::{Event, Format};

/// The variable that names the place to the child.
const PLACE: &str = "TUWEN_TEST_PLACE";

#[test]
#[ignore = "the process that the other tests kill"]
fn child() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let place = Path::new(&place);
    let eye = Eye { delay: Duration::from_millis(2), ..Eye::new() };
    let settings = settings(Format::WebDataset);
    let done = job_with(&eye, &place.join("in"), &place.join("out"), &settings, &mut |event| {
        if let Event::Shard(manifest) = event {
            println!("\nshard {}", manifest.shard);
        }
    });
    if let Err(error) = done {
        println!("\nerror {error} full={}", error.is_full_disk());
        std::process::exit(1);
    }
}

/// The child in a place, not yet started.
fn work(place: &Path, before: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{before} exec \"$0\" child --exact --ignored --nocapture");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).env(PLACE, place);
    command
}

/// The shards that are finished, with the time their manifests were written.
fn finished(place: &Path) -> BTreeMap<String, std::time::SystemTime> {
    let entries = fs::read_dir(place.join("out/manifests")).into_iter().flatten().flatten();
    let whole = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    whole
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().modified().unwrap())
        })
        .collect()
}

fn said(output: &Output, word: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| line.starts_with(word)).map(str::to_owned).collect()
}

#[test]
fn a_killed_job_loses_and_repeats_nothing() {
    let expected = tempfile::tempdir().unwrap();
    write_source(&expected.path().join("in"));
    let begun = Instant::now();
    assert!(work(expected.path(), "").output().unwrap().status.success());
    let time = begun.elapsed();
    let mut expected = tree(&expected.path().join("out"));
    // Where the data lie is another place each time.
    let named = |name: &str| name.starts_with("manifests/") || name == "summary.json";
    expected.retain(|name, _| !named(name));

    let mut kills = 24;
    while kills > 0 {
        let place = tempfile::tempdir().unwrap();
        write_source(&place.path().join("in"));
        loop {
            let before = finished(place.path());
            let mut child = work(place.path(), "").stdout(Stdio::null()).spawn().unwrap();
            let part = (RandomState::new().hash_one(0) % 1000) as f64 / 1000.0;
            sleep(time.mul_f64(part));
            if kills > 0 && child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                kills -= 1;
                let after = finished(place.path());
                assert!(
                    before.iter().all(|(shard, time)| after.get(shard) == Some(time)),
                    "a finished shard is touched"
                );
                continue;
            }
            assert!(child.wait().unwrap().success());
            break;
        }
        let mut left = tree(&place.path().join("out"));
        left.retain(|name, _| !named(name));
        assert!(left.keys().eq(expected.keys()), "{:?}", left.keys().collect::<Vec<_>>());
        assert!(left == expected, "{kills} kills before the last");
    }
}

#[test]
fn a_full_disk_is_named_and_costs_nothing() {
    let place = tempfile::tempdir().unwrap();
    write_source(&place.path().join("in"));
    // Files of at most so many blocks of 512 bytes.
    for blocks in [0, 2, 8] {
        let output = work(place.path(), &format!("trap '' XFSZ; ulimit -f {blocks};")).output().unwrap();
        let error = said(&output, "error");
        assert!(error.len() == 1 && error[0].contains("full=true"), "{blocks}: {error:?} {output:?}");
    }
    let out = place.path().join("out");
    assert!(!out.exists() || tree(&out).keys().all(|name| !name.ends_with(".tmp")));
    assert!(work(place.path(), "").output().unwrap().status.success());
    let whole = tempfile::tempdir().unwrap();
    job(&place.path().join("in"), whole.path(), &settings(Format::WebDataset)).unwrap();
    assert!(tree(whole.path()) == tree(&out));
}
