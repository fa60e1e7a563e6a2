//! What is made or chosen to do harm ends in one line that names it, with the right status, in bounded memory and time.
#![cfg(unix)]
#![allow(clippy::print_stderr)] // what is skipped is said

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{stderr, workplace};

/// Address space in kilobytes: far above what the tiny model needs, far below what these inputs claim.
const MEMORY: &str = "1500000";
/// Nothing here takes a second; a run that lasts this long would last for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the program within [`MEMORY`] and [`PATIENCE`].
fn run<S: AsRef<OsStr>>(directory: &Path, arguments: &[S]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v $0 && exec \"$@\"", MEMORY, env!("CARGO_BIN_EXE_tuwen"), "--threads=2"]);
    command.args(arguments).current_dir(directory).env("HOME", directory);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let begun = Instant::now();
    while child.try_wait().expect("asked").is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().expect("killed");
            panic!("it does not end: {:?}", arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
        sleep(Duration::from_millis(2));
    }
    child.wait_with_output().expect("read")
}

/// What a run said that ended with this status, without results, in a line and perhaps a hint.
fn refusal(output: &Output, status: i32, what: &str) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{what}: {said}");
    assert!(output.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
    let lines = said.lines().filter(|line| !line.starts_with("hint: ")).count();
    assert!(lines == 1 && said.len() < 1500, "{what}: {said}");
    assert!(!said.trim_end().chars().any(|c| c.is_control() && c != '\n'), "{what}: {said:?}");
    said
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let checked = [kind, data].concat();
    let crc = checked.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320))
    });
    [&(data.len() as u32).to_be_bytes()[..], &checked, &(!crc).to_be_bytes()].concat()
}

/// A PNG file of one byte a pixel that claims this size, with this compressed content.
fn png_of(width: u32, height: u32, content: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", content), chunk(b"IEND", &[])]
        .concat()
}

/// Zeros, compressed.
fn zeros(length: usize) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![0; 1 << 20];
    (0..length.div_ceil(block.len())).for_each(|_| encoder.write_all(&block).expect("written"));
    encoder.finish().expect("finished")
}

#[test]
fn images() {
    let place = workplace();
    let write = |name: &str, bytes: &[u8]| fs::write(place.path().join(name), bytes).expect("written");
    write("empty.png", b"");
    write("bomb.png", &png_of(60_000, 60_000, &zeros(64 << 20)));
    write("liar.png", &png_of(13_000, 13_000, &zeros(1)));
    write("lines\nof text.png", b"error: all is lost");
    write("escape.png", b"\x1b[2J\x1b]0;title\x07");
    symlink("loop.png", place.path().join("loop.png")).expect("linked");
    fs::File::create(place.path().join("sparse.bmp")).and_then(|file| file.set_len(1 << 40)).expect("made");
    for (name, expected) in [
        ("empty.png", "empty"),
        ("bomb.png", "too large"),
        ("liar.png", "cut off"),
        ("lines\nof text.png", "lines\\nof text.png: not a JPEG"),
        ("escape.png", "not a JPEG"),
        ("loop.png", "loop.png"),
        ("sparse.bmp", "nothing but zeros"),
        ("/dev/null", "/dev/null: "),
        ("/dev/zero", "/dev/zero: "),
        ("/dev/urandom", "/dev/urandom: "),
    ] {
        for verb in [&["embed"][..], &["classify", "--labels=a,b"], &["match", "--text=a"]] {
            let output = run(place.path(), &[verb, &["--model=model", name]].concat());
            let said = refusal(&output, 1, name);
            assert!(said.contains(expected), "{name}: {said}");
        }
    }
}

#[test]
fn images_that_are_odd_are_read() {
    let place = workplace();
    let write = |name: &OsStr, bytes: &[u8]| fs::write(place.path().join(name), bytes).expect("written");
    let picture = fs::read(place.path().join("red.png")).expect("read");
    for name in [&b"new\nline.png"[..], b"not \xff UTF-8.png", b"-dash.png", b"\x1b[2J.png"] {
        write(OsStr::from_bytes(name), &picture);
        let arguments: Vec<OsString> = ["embed", "--model=model", "--json", "--"]
            .map(OsString::from)
            .into_iter()
            .chain([OsStr::from_bytes(name).into()])
            .collect();
        let output = run(place.path(), &arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(String::from_utf8(output.stdout).expect("UTF-8").lines().count(), 1);
    }
    // A line a pixel wide has as many rows as bytes, each with a filter's byte before it.
    write(OsStr::new("high.png"), &png_of(1, 100_000, &zeros(200_000)));
    write(OsStr::new("wide.png"), &png_of(100_000, 1, &zeros(100_001)));
    for name in ["high.png", "wide.png"] {
        let output = run(place.path(), &["embed", "--model=model", name]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn folders_that_may_not_be_read() {
    let place = workplace();
    let folder = place.path().join("locked");
    fs::create_dir(&folder).expect("created");
    fs::copy(place.path().join("red.png"), folder.join("red.png")).expect("copied");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).expect("locked");
    if fs::read_dir(&folder).is_ok() {
        eprintln!("skipped: this user may read everything");
    } else {
        let said = refusal(&run(place.path(), &["embed", "--model=model", "locked"]), 1, "images");
        assert!(said.contains("locked: ") && said.contains("ermission denied"), "{said}");
        let said = refusal(&run(place.path(), &["embed", "--model=locked", "red.png"]), 3, "model");
        assert!(said.contains("locked") && said.contains("ermission denied"), "{said}");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("unlocked");
}

#[test]
fn models() {
    let place = workplace();
    let weights = fs::read(place.path().join("model/model.safetensors")).expect("read");
    let config = fs::read_to_string(place.path().join("model/config.json")).expect("read");
    let pipe = place.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("runs").success());
    let pickle = b"\x80\x02cos\nsystem\nX\x0d\x00\x00\x00touch stolen;\x85R.";
    let header = |json: &str, length: u64| [&length.to_le_bytes()[..], json.as_bytes()].concat();
    let claims = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}"#;
    let deep = format!("{{\"model_type\":{}", "[".repeat(1 << 20));
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{from}");
        config.replace(from, to)
    };
    let cases: &[(&str, &[u8], &str, &str)] = &[
        ("empty file", b"", &config, "empty"),
        ("pickle", pickle, &config, "pickle"),
        ("long header", &header("{}", u64::MAX), &config, "model.safetensors: "),
        ("long tensor", &header(claims, claims.len() as u64), &config, "model.safetensors: "),
        ("cut", &weights[..weights.len() / 2], &config, "model.safetensors: "),
        ("deep", &weights, &deep, "config.json: "),
        ("no object", &weights, "[]", "config.json: "),
        ("huge width", &weights, &with("\"hidden_size\":24", "\"hidden_size\":4194303"), ""),
        (
            "huge layers",
            &weights,
            &with("\"num_hidden_layers\":2", "\"num_hidden_layers\":99999999999"),
            "config.json: ",
        ),
        ("many layers", &weights, &with("\"num_hidden_layers\":2", "\"num_hidden_layers\":4096"), ""),
        ("huge image", &weights, &with("\"image_size\":16", "\"image_size\":4194304"), ""),
        ("half a patch", &weights, &with("\"patch_size\":8", "\"patch_size\":0"), "config.json: "),
        ("negative", &weights, &with("\"projection_dim\":12", "\"projection_dim\":-12"), "config.json: "),
    ];
    for (name, weights, config, expected) in cases {
        let model = place.path().join(name);
        fs::create_dir(&model).expect("created");
        fs::write(model.join("model.safetensors"), weights).expect("written");
        fs::write(model.join("config.json"), config).expect("written");
        let output = run(place.path(), &["embed", "red.png", "--model", name]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{name}: {said}");
        assert!(said.contains(name) && said.contains(expected) && output.stdout.is_empty(), "{name}: {said}");
        assert!(said.lines().count() < 40 && said.len() < 5000, "{name}: {said}");
    }
    assert!(!place.path().join("stolen").exists());
    for (model, expected) in
        [("pipe", "not a file"), ("/dev/zero", "not a file"), ("/dev/null", "not a file")]
    {
        let said = refusal(&run(place.path(), &["embed", "red.png", "--model", model]), 3, model);
        assert!(said.contains(expected), "{model}: {said}");
    }
}

#[test]
fn files_beside_the_weights() {
    let place = workplace();
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let block = vec![b' '; 1 << 20];
        (0..512).for_each(|_| encoder.write_all(&block).expect("written"));
        encoder.finish().expect("finished")
    };
    for (name, content, expected) in [
        ("bpe_simple_vocab_16e6.txt.gz", &bomb[..], "cannot be unpacked: more than"),
        ("tokenizer.json", b"{", "tokenizer.json: "),
        ("vocab.json", b"{\"a\": -1}", "vocab.json: "),
        ("merges.txt", b"a b c", "merges.txt: line 1"),
        ("preprocessor_config.json", b"{\"size\": {\"shortest_edge\": 1e300}}", "preprocessor_config.json: "),
    ] {
        let model = place.path().join(name.replace('.', "-"));
        fs::create_dir(&model).expect("created");
        for file in fs::read_dir(place.path().join("model")).expect("a directory").flatten() {
            // What would be read before it.
            let first = match name {
                "bpe_simple_vocab_16e6.txt.gz" => &["tokenizer.json", "vocab.json", "merges.txt"][..],
                "vocab.json" | "merges.txt" => &["tokenizer.json"],
                _ => &[],
            };
            let is_first = first.iter().any(|other| file.file_name() == *other);
            if !is_first {
                fs::copy(file.path(), model.join(file.file_name())).expect("copied");
            }
        }
        fs::write(model.join(name), content).expect("written");
        let output = run(
            place.path(),
            &[
                OsStr::new("match"),
                "red.png".as_ref(),
                "--text=a".as_ref(),
                "--model".as_ref(),
                model.as_os_str(),
            ],
        );
        let said = refusal(&output, 3, name);
        assert!(said.contains(expected), "{name}: {said}");
    }
}

#[test]
fn texts_recipes_and_data() {
    let place = workplace();
    let path = |name: &str| place.path().join(name);
    fs::write(path("long.toml"), vec![b'#'; 3 << 20]).expect("written");
    fs::File::create(path("sparse.txt")).and_then(|file| file.set_len(1 << 40)).expect("made");
    common::training::write_recipe(place.path());
    let recipe = fs::read_to_string(path("recipe.toml")).expect("read");
    let data = |name: &str, content: &[u8]| {
        fs::write(path(name), content).expect("written");
        let file = format!("{name}.toml");
        fs::write(path(&file), recipe.replacen("path = \"pictures\"", &format!("path = \"{name}\""), 1))
            .expect("written");
        file
    };
    let (nothing, noise) = (data("nothing.tar", b""), data("noise.parquet", &[7; 5000]));
    for (arguments, expected) in [
        (&["train", "/dev/zero"][..], "/dev/zero: "),
        (&["train", "long.toml"], "long.toml: "),
        (&["train", "sparse.txt"], "sparse.txt: "),
        (&["train", &nothing], "nothing.tar"),
        (&["train", &noise], "noise.parquet"),
        (&["classify", "red.png", "--labels-file=/dev/zero"], "/dev/zero: "),
        (&["classify", "red.png", "--labels-file=sparse.txt"], "sparse.txt: "),
        (&["classify", "red.png", "--labels-file=photos"], "photos: "),
    ] {
        let said = refusal(&run(place.path(), &[&["--quiet"], arguments].concat()), 2, expected);
        assert!(said.contains(expected), "{said}");
    }
}
