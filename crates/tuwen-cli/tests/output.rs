//! Vectors in files: what is in them, and that a run that was stopped at any moment goes on to the same file.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use common::{json_lines, run, stderr, tuwen, workplace, write_picture};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use serde_json::Value;

const DIM: usize = 12;

/// A name, a kind and a vector.
type Row = (String, String, Vec<f32>);

/// A place with 400 pictures, one of them broken, in `many`.
fn crowded() -> tempfile::TempDir {
    let place = workplace();
    fs::create_dir(place.path().join("many")).expect("created");
    for i in 0..400 {
        write_picture(
            &place.path().join(format!("many/{i:03}.png")),
            [i % 256, (5 * i) % 256, (7 * i) % 256],
        );
    }
    fs::write(place.path().join("many/070.png"), "no image").expect("written");
    place
}

/// The arguments of a run that writes a file, in parts of 16 inputs.
fn writing<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let all =
        ["embed", "--text", "a cat", "many", "--model", "model", "--part-size", "16", "--output", output];
    [&all[..], more].concat()
}

fn rows_of_json(lines: &[Value]) -> Vec<Row> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let vector = |line: &Value| serde_json::from_value(line["embedding"].clone()).expect("numbers");
    lines.iter().map(|line| (text(&line["input"]), text(&line["kind"]), vector(line))).collect()
}

fn rows_of_json_lines(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).expect("read");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    rows_of_json(&lines)
}

fn rows_of_parquet(path: &Path) -> Vec<Row> {
    let reader = SerializedFileReader::new(fs::File::open(path).expect("opened")).expect("Parquet");
    let row = |row: parquet::errors::Result<parquet::record::Row>| {
        let row = row.expect("a row");
        let list = row.get_list(2).expect("a list");
        let vector = list.elements().iter().map(|number| match number {
            parquet::record::Field::Float(number) => *number,
            other => panic!("{other}"),
        });
        (
            row.get_string(0).expect("a text").clone(),
            row.get_string(1).expect("a text").clone(),
            vector.collect(),
        )
    };
    reader.get_row_iter(None).expect("rows").map(row).collect()
}

fn rows_of_npy(path: &Path) -> Vec<Row> {
    let bytes = fs::read(path).expect("read");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let names = fs::read_to_string(path.with_file_name("v.npy.jsonl")).expect("names");
    let header = String::from_utf8_lossy(&bytes[10..start]).into_owned();
    let shape =
        format!("'descr': '<f4', 'fortran_order': False, 'shape': ({}, {DIM})", names.lines().count());
    assert!(start.is_multiple_of(64) && header.contains(&shape) && header.ends_with('\n'), "{header:?}");
    let numbers: Vec<f32> =
        bytes[start..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let names = names.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let row = |(name, row): (Value, &[f32])| (text(&name["input"]), text(&name["kind"]), row.to_vec());
    assert_eq!(numbers.len() % DIM, 0);
    names.zip(numbers.chunks(DIM)).map(row).collect()
}

#[test]
fn every_format_holds_what_is_printed() {
    let place = crowded();
    let at = |name: &str| place.path().join(name);
    let printed = json_lines(place.path(), &["embed", "--text", "a cat", "many", "--model", "model"], 1);
    let printed = rows_of_json(&printed);
    assert_eq!(printed.len(), 400);
    for (name, read) in [
        ("v.jsonl", rows_of_json_lines as fn(&Path) -> Vec<Row>),
        ("v.parquet", rows_of_parquet),
        ("v.npy", rows_of_npy),
    ] {
        fs::write(at(name), "what was there before").expect("written");
        let output = run(place.path(), &writing(name, &["--json"]));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty() && said.contains("400 vectors, 1 input failed"), "{said}");
        assert!(said.contains("many/070.png: not a JPEG"), "{said}");
        assert_eq!(read(&at(name)), printed, "{name}");
        assert!(!at(&format!("{name}.part")).exists());
    }
}

/// The finished parts of a run: what they hold and when they were written.
fn parts(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeMap::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_part =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-"));
    let read = |path: PathBuf| {
        Some((path.clone(), (fs::read(&path).ok()?, fs::metadata(&path).ok()?.modified().ok()?)))
    };
    paths.filter(is_part).filter_map(read).collect()
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_file() {
    let place = crowded();
    let at = |name: &str| place.path().join(name);
    // Numbers that look random but are the same in each run of the test.
    let mut state = 12345_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for name in ["v.parquet", "v.npy", "v.jsonl"] {
        run(place.path(), &writing(name, &[]));
        let expected = fs::read(at(name)).expect("whole");
        fs::remove_file(at(name)).expect("removed");
        let directory = at(&format!("{name}.part"));
        let (mut kills, mut known) = (0, BTreeMap::new());
        while !at(name).exists() {
            let mut child = tuwen(place.path(), &writing(name, &["--resume", "--quiet"]))
                .stderr(Stdio::null())
                .spawn()
                .expect("runs");
            if kills < 30 {
                // After one or two more parts and a while, or whenever it ends by itself.
                let (more, while_ms) = (known.len() + 1 + random(2) as usize, random(4));
                while parts(&directory).len() < more && child.try_wait().expect("asked").is_none() {
                    sleep(Duration::from_millis(1));
                }
                sleep(Duration::from_millis(while_ms));
                // SIGKILL on Unix.
                let _ = child.kill();
                kills += 1;
            }
            child.wait().expect("ends");
            let now = parts(&directory);
            if at(name).exists() {
                break;
            }
            let kept = known.iter().all(|(path, part)| now.get(path) == Some(part));
            assert!(kept, "{name}: a finished part was lost or made again");
            known = now;
        }
        assert!(kills >= 1);
        assert!(fs::read(at(name)).expect("whole") == expected, "{name}: other bytes after {kills} kills");
        let again = run(place.path(), &writing(name, &["--resume"]));
        assert!(again.status.success() && stderr(&again).contains("whole already"), "{}", stderr(&again));
        assert!(fs::read(at(name)).expect("whole") == expected && !directory.exists());
    }
}

/// Runs until some parts are there and kills, so that an unfinished run of `v.parquet` is left.
fn unfinished(place: &Path) -> PathBuf {
    let directory = place.join("v.parquet.part");
    let mut child = tuwen(place, &[&writing("v.parquet", &[])[..], &["-"]].concat())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    // It waits for stdin, and so does not end.
    while parts(&directory).len() < 4 {
        sleep(Duration::from_millis(1));
    }
    let second = run(place, &writing("v.parquet", &["--resume"]));
    assert!(
        second.status.code() == Some(2) && stderr(&second).contains("another process"),
        "{}",
        stderr(&second)
    );
    child.kill().expect("killed");
    child.wait().expect("ends");
    directory
}

#[test]
fn an_unfinished_run_is_neither_lost_nor_mixed_with_another() {
    let place = crowded();
    let at = |name: &str| place.path().join(name);
    let directory = unfinished(place.path());
    let kept = parts(&directory);
    let refused = |more: &[&str], expected: &str| {
        let output = run(place.path(), &writing("v.parquet", more));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains(expected) && said.contains("hint: "), "{more:?}: {said}");
    };
    refused(&[], "an unfinished run is in v.parquet.part (");
    refused(&["--resume", "--raw"], "it was begun without --raw");
    refused(&["--resume", "--precision", "int8"], "it was begun with --precision ");
    refused(&["--resume", "--text", "a dog"], "the inputs are not those of the unfinished run");
    let weights = fs::read(at("model/model.safetensors")).expect("read");
    let mut other = weights.clone();
    *other.last_mut().expect("bytes") ^= 1;
    fs::write(at("model/model.safetensors"), other).expect("written");
    refused(&["--resume"], "other weights");
    fs::write(at("model/model.safetensors"), weights).expect("written");
    let moved = |from: &str, to: &str| fs::rename(at(from), at(to)).expect("moved");
    moved("many/003.png", "003.png");
    refused(&["--resume"], "it had \"many/003.png\" where now is \"many/004.png\"");
    moved("003.png", "many/003.png");
    assert!(parts(&directory) == kept, "a refusal changes nothing");
    let damaged = directory.join("part-000002");
    let whole = fs::read(&damaged).expect("read");
    fs::write(&damaged, &whole[..whole.len() - 1]).expect("written");
    refused(&["--resume"], "part-000002 is damaged");
    fs::write(&damaged, whole).expect("written");
    // What failed before is named again.
    let output = run(place.path(), &writing("v.parquet", &["--resume"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("many/070.png: not a JPEG"), "{}", stderr(&output));
    let finished = rows_of_parquet(&at("v.parquet"));
    unfinished(place.path());
    assert_eq!(run(place.path(), &writing("v.parquet", &["--restart"])).status.code(), Some(1));
    assert_eq!(rows_of_parquet(&at("v.parquet")), finished);
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_what_is_finished_and_says_how_to_go_on() {
    let place = crowded();
    let list: String = (0..70).chain(71..400).map(|i| format!("many/{i:03}.png\n")).collect();
    let arguments =
        ["embed", "--files-from", "-", "--model", "model", "--part-size", "16", "--output", "v.npy"];
    let mut child =
        tuwen(place.path(), &arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    let (first, rest) = list.split_at(list.len() / 2);
    std::io::Write::write_all(&mut pipe, first.as_bytes()).expect("written");
    while parts(&place.path().join("v.npy.part")).len() < 2 {
        sleep(Duration::from_millis(1));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("runs").success());
    // Until the signal has arrived the program waits for stdin.
    let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(said.any(|line| line.starts_with("stopping")));
    let _ = std::io::Write::write_all(&mut pipe, rest.as_bytes());
    drop(pipe);
    let said = said.collect::<Vec<_>>().join("\n");
    assert_eq!(child.wait().expect("ends").code(), Some(1), "{said}");
    assert!(said.contains("interrupted after ") && said.contains("--resume"), "{said}");
    fs::write(place.path().join("list"), &list).expect("written");
    let arguments = arguments.map(|argument| if argument == "-" { "list" } else { argument });
    let output = run(place.path(), &[&arguments[..], &["--resume"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = json_lines(place.path(), &["embed", "--files-from", "list", "--model", "model"], 0);
    assert_eq!(rows_of_npy(&place.path().join("v.npy")), rows_of_json(&printed));
}

#[test]
fn classify_and_match_write_json_lines() {
    let place = workplace();
    for verb in [&["classify", "--labels", "a,b"][..], &["match", "--text", "a"]] {
        let arguments = [verb, &["red.png", "photos", "--model", "model"]].concat();
        let printed = json_lines(place.path(), &arguments, 0);
        let output = run(place.path(), &[&arguments[..], &["--output", "lines.jsonl"]].concat());
        assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
        let text = fs::read_to_string(place.path().join("lines.jsonl")).expect("written");
        let written: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert_eq!(written, printed);
    }
}

#[test]
fn outputs_that_cannot_be_are_usage_errors() {
    let place = workplace();
    for (arguments, expected) in [
        (&["embed", "red.png", "--output", "v.bin"][..], "v.bin: no format"),
        (&["embed", "red.png", "--output", "v"], "v: no format"),
        (&["embed", "red.png", "--output", "nowhere/v.npy"], "nowhere/v.npy.part: "),
        (&["embed", "red.png", "--resume"], "--output"),
        (&["embed", "red.png", "--output", "v.npy", "--resume", "--restart"], "cannot be used with"),
        (&["classify", "red.png", "--labels", "a", "--output", "v.npy"], "v.npy: only JSON lines"),
        (&["match", "red.png", "--text", "a", "--output", "nowhere/v.jsonl"], "nowhere/v.jsonl: "),
    ] {
        let output = run(place.path(), &[arguments, &["--model", "model"]].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected) && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
}
