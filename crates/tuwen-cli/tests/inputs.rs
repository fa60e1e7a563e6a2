//! Tar shards, lists and stdin are inputs like files.

mod common;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use common::{json_lines, numbers, run, stderr, tuwen, workplace, write_picture};
use serde_json::Value;

const VERBS: [&[&str]; 3] = [&["embed"], &["classify", "--labels", "a,b"], &["match", "--text", "a"]];

/// Runs the program with these bytes on stdin.
fn run_with(place: &Path, arguments: &[&str], stdin: &[u8]) -> Output {
    let arguments = [arguments, &["--model", "model", "--json"]].concat();
    let mut command = tuwen(place, &arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    // Whoever wants no more closes the pipe.
    let _ = pipe.write_all(stdin);
    drop(pipe);
    child.wait_with_output().expect("ends")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// What is called by which name, without the name.
fn named(lines: &[Value]) -> Vec<(String, Value)> {
    let split = |line: &Value| {
        let mut line = line.clone();
        let name = line["input"].as_str().expect("a name").to_owned();
        line["input"] = Value::Null;
        (name, line)
    };
    lines.iter().map(split).collect()
}

/// A tar file of these files of a folder, with a text after each.
fn tar_of(root: &Path, files: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        builder.append_path_with_name(root.join(file), file).expect("appended");
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        builder.append_data(&mut header, format!("{file}.txt"), &b"text"[..]).expect("appended");
    }
    builder.into_inner().expect("finished")
}

#[test]
fn members_of_shards_give_what_their_files_give() {
    let place = workplace();
    let files = ["red.png", "photos/green.png", "photos/deep/blue.png"];
    let shard = tar_of(place.path(), &files);
    fs::write(place.path().join("train-0000.tar"), &shard).expect("written");
    fs::write(place.path().join("train-0001.tar"), tar_of(place.path(), &files[..1])).expect("written");
    for verb in VERBS {
        let expected = named(&json_lines(place.path(), &[verb, &files, &["--model", "model"]].concat(), 0));
        let sharded = [verb, &["train-{0000..0001}.tar", "--model", "model"][..]].concat();
        let sharded = named(&json_lines(place.path(), &sharded, 0));
        let names = [
            "0000.tar/red.png",
            "0000.tar/photos/green.png",
            "0000.tar/photos/deep/blue.png",
            "0001.tar/red.png",
        ];
        assert_eq!(sharded.len(), names.len());
        for ((name, line), (expected_name, expected)) in
            sharded.iter().zip(names.iter().zip(expected.iter().chain(&expected[..1])))
        {
            assert_eq!(name, &format!("train-{expected_name}"));
            assert_close(line, &expected.1);
        }
        let streamed = run_with(place.path(), &[verb, &["-"]].concat(), &shard);
        assert!(streamed.status.success(), "{}", stderr(&streamed));
        let streamed = named(&lines(&streamed));
        assert_eq!(
            streamed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            files.map(|file| format!("-/{file}"))
        );
        streamed.iter().zip(&expected).for_each(|((_, line), (_, expected))| assert_close(line, expected));
    }
}

/// Batches of another make-up may round otherwise.
fn assert_close(got: &Value, expected: &Value) {
    match (got, expected) {
        (Value::Number(got), Value::Number(expected)) => {
            let (got, expected) = (got.as_f64().expect("a number"), expected.as_f64().expect("a number"));
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        (Value::Array(got), Value::Array(expected)) => {
            assert_eq!(got.len(), expected.len());
            got.iter().zip(expected).for_each(|(got, expected)| assert_close(got, expected));
        }
        (Value::Object(got), Value::Object(expected)) => {
            got.iter().for_each(|(key, got)| assert_close(got, &expected[key]));
        }
        _ => assert_eq!(got, expected),
    }
}

#[test]
fn an_image_comes_from_stdin() {
    let place = workplace();
    let bytes = fs::read(place.path().join("red.png")).expect("read");
    let expected = json_lines(place.path(), &["embed", "red.png", "--model", "model"], 0);
    let output = run_with(place.path(), &["embed", "-"], &bytes);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = lines(&output);
    assert_eq!(lines[0]["input"], "-");
    assert_eq!(numbers(&lines[0]["embedding"]), numbers(&expected[0]["embedding"]));
    for (bytes, reason) in
        [(&b""[..], "-: the file is empty"), (b"hello", "-: not a JPEG"), (&bytes[..60], "-: ")]
    {
        let output = run_with(place.path(), &["embed", "-"], bytes);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with(reason) && said.lines().count() == 1 && output.stdout.is_empty(), "{said}");
    }
}

#[test]
fn a_broken_member_or_end_does_not_stop_the_rest() {
    let place = workplace();
    fs::write(place.path().join("broken.jpg"), "no image").expect("written");
    let shard = tar_of(place.path(), &["red.png", "broken.jpg", "photos/green.png"]);
    let output = run_with(place.path(), &["embed", "-", "photos"], &shard);
    let said = stderr(&output);
    assert_eq!((output.status.code(), lines(&output).len()), (Some(1), 4), "{said}");
    assert!(said.starts_with("-/broken.jpg: not a JPEG") && said.lines().count() == 1, "{said}");
    let green = shard.windows(16).position(|window| window == b"photos/green.png").expect("a header");
    for cut in [green - 100, green + 100, green + 600] {
        fs::write(place.path().join("cut.tar"), &shard[..cut]).expect("written");
        for (name, output) in [
            ("cut.tar", run_with(place.path(), &["embed", "cut.tar", "photos"], b"")),
            ("-", run_with(place.path(), &["embed", "-", "photos"], &shard[..cut])),
        ] {
            let said = stderr(&output);
            assert_eq!((output.status.code(), lines(&output).len()), (Some(1), 3), "{cut}: {said}");
            let last = said.lines().last().expect("a line");
            assert!(
                said.lines().count() == 2 && last.starts_with(name) && last.contains("off"),
                "{cut}: {said}"
            );
        }
    }
}

#[test]
fn lists_name_paths_and_texts() {
    let place = workplace();
    write_picture(&place.path().join("with\nbreak.png"), [1, 2, 3]);
    let names = |output: &Output| -> Vec<String> {
        named(&lines(output)).into_iter().map(|(name, _)| name).collect()
    };
    let listed = run_with(place.path(), &["embed", "--files-from", "-"], b"red.png\r\n\nphotos\nnone.png\n");
    assert_eq!(names(&listed), ["red.png", "photos/deep/blue.png", "photos/green.png"]);
    assert_eq!(
        (listed.status.code(), stderr(&listed)),
        (Some(1), "none.png: no such file or folder\n".to_owned())
    );
    fs::write(place.path().join("list"), "with\nbreak.png\0red.png\0").expect("written");
    let listed = run_with(place.path(), &["embed", "--files-from", "list", "-0"], b"");
    assert_eq!(names(&listed), ["with\nbreak.png", "red.png"]);
    let texts = run_with(
        place.path(),
        &["embed", "--text", "first", "--text-file", "-", "red.png"],
        b"a cat\n\na \xff\na dog",
    );
    assert_eq!(names(&texts), ["first", "a cat", "", "a dog", "red.png"]);
    assert_eq!((texts.status.code(), stderr(&texts)), (Some(1), "-:3: not UTF-8\n".to_owned()));
    let matched = run_with(place.path(), &["match", "red.png", "--text-file", "-"], b"a cat\na dog\n");
    assert_eq!(lines(&matched)[0]["matches"][1]["text"], "a dog", "{}", stderr(&matched));
}

#[test]
fn wrong_inputs_are_usage_errors() {
    let place = workplace();
    for (arguments, expected) in [
        (&["embed", "-", "--files-from", "-"][..], "stdin can be read only once"),
        (&["embed", "-", "--text-file", "-"], "stdin can be read only once"),
        (&["match", "-", "--text-file", "-"], "stdin can be read only once"),
        (&["classify", "-", "-", "--labels", "a"], "stdin can be read only once"),
        (&["embed", "--files-from", "none.txt"], "none.txt: "),
        (&["embed", "--text-file", "none.txt"], "none.txt: "),
        (&["match", "red.png", "--text-file", "model/model.safetensors"], "not UTF-8"),
        (&["classify", "--labels", "a"], "--files-from"),
        (&["classify", "-0", "--labels", "a"], "--files-from"),
    ] {
        let output = run(place.path(), &[arguments, &["--model", "model"]].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected) && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
}
