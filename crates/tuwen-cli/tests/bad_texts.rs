//! Texts and data sets as people have them, through the verbs that read and write texts: nothing is lost, what is wrong is named
//! or counted, and nothing half-written is left.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{fixtures, json_lines, run, stderr, workplace, write_picture};
use serde_json::Value;

/// Chinese, Arabic, a family of emoji that joiners hold together, combining marks, a right-to-left override, and nothing but
/// marks.
const SCRIPTS: [&str; 6] =
    ["图中有什么？", "ما هذا؟", "👩‍👩‍👧‍👦 🐕", "é̂̃ ñ", "\u{202e}dog\u{202c}", "\u{0301}\u{0302}"];

fn model(case: &str) -> Option<String> {
    Some(fixtures()?.join(case).join("model.pth").to_string_lossy().into_owned())
}

/// A place with `in/000.png` to `in/011.png`.
fn pictures() -> tempfile::TempDir {
    let place = workplace();
    fs::create_dir(place.path().join("in")).expect("created");
    for number in 0..12_u32 {
        let colour = [20 * number, 250 - 20 * number, (91 * number) % 256];
        write_picture(&place.path().join(format!("in/{number:03}.png")), colour);
    }
    place
}

/// A shard of these pictures by key and text, where there is one.
fn write_shard(place: &Path, name: &str, samples: &[(String, Option<String>)]) {
    let mut shard = tar::Builder::new(fs::File::create(place.join(name)).expect("created"));
    let mut add = |name: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        shard.append_data(&mut header, name, bytes).expect("appended");
    };
    for (number, (key, text)) in samples.iter().enumerate() {
        add(format!("{key}.png"), &fs::read(place.join(format!("in/{number:03}.png"))).expect("read"));
        if let Some(text) = text {
            add(format!("{key}.txt"), text.as_bytes());
        }
    }
    shard.into_inner().expect("finished");
}

/// Twelve samples: two have no text, and the texts are of many scripts.
fn missing_texts(place: &Path) {
    let text = |number: usize| (number % 5 != 2).then(|| format!("{} dog", SCRIPTS[number % SCRIPTS.len()]));
    let samples: Vec<_> = (0..12).map(|number| (format!("k{number:03}"), text(number))).collect();
    write_shard(place, "missing.tar", &samples);
}

/// Eight samples of four keys.
fn duplicate_keys(place: &Path) {
    let sample = |number: usize| (format!("k{}", number % 4), Some(format!("a dog {number}")));
    write_shard(place, "twice.tar", &(0..8).map(sample).collect::<Vec<_>>());
}

fn metric(lines: &[Value], name: &str) -> f64 {
    let line = lines.iter().find(|line| line["metric"] == name).expect(name);
    line["value"].as_f64().expect("a number")
}

#[test]
fn texts_may_be_in_any_script() {
    let place = workplace();
    let (Some(asks), Some(matches), Some(captions)) =
        (model("blip-sf-tiny-vqa"), model("blip-sf-tiny-itm"), model("blip-sf-tiny-caption"))
    else {
        return;
    };
    let list: Vec<&str> = SCRIPTS.into_iter().filter(|text| !text.contains(',')).collect();
    for text in SCRIPTS {
        let asked = json_lines(place.path(), &["ask", "red.png", text, "--model", &asks], 0);
        assert_eq!(asked[0]["question"], text);
        json_lines(place.path(), &["caption", "red.png", "--prompt", text, "--model", &captions], 0);
    }
    let answers = list.join(",");
    let ranked =
        json_lines(place.path(), &["ask", "red.png", "what?", "--answers", &answers, "--model", &asks], 0);
    let mut given: Vec<&str> =
        ranked[0]["answers"].as_array().expect("answers").iter().filter_map(|a| a["text"].as_str()).collect();
    given.sort_unstable();
    let mut expected = list.clone();
    expected.sort_unstable();
    assert_eq!(given, expected, "each answer is there as it was given");
    let texts: Vec<&str> = SCRIPTS.into_iter().flat_map(|text| ["--text", text]).collect();
    let matched =
        json_lines(place.path(), &[&["match", "red.png", "--model", &matches], &texts[..]].concat(), 0);
    let matched: Vec<&str> = matched[0]["matches"]
        .as_array()
        .expect("matches")
        .iter()
        .filter_map(|m| m["text"].as_str())
        .collect();
    assert_eq!(matched, SCRIPTS);
    let embedded = json_lines(place.path(), &[&["embed", "--model", &matches], &texts[..]].concat(), 0);
    let embedded: Vec<&str> = embedded.iter().filter_map(|line| line["input"].as_str()).collect();
    assert_eq!(embedded, SCRIPTS);
}

#[test]
fn an_answer_that_is_too_long_is_named() {
    let place = workplace();
    let Some(model) = model("blip-sf-tiny-vqa") else { return };
    let list = format!("yes\n\nno\n{}\n", "dog ".repeat(3000));
    fs::write(place.path().join("list.txt"), list).expect("written");
    fs::write(place.path().join("not-text.txt"), b"yes\n\xff\n").expect("written");
    for (list, expected) in [
        ("list.txt", "answer 3 of the list has 3002 tokens, the model writes at most 48"),
        ("not-text.txt", "not a UTF-8 text"),
    ] {
        let output =
            run(place.path(), &["ask", "red.png", "what?", "--answers-file", list, "--model", &model]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.len() < 600 && output.stdout.is_empty(), "{said}");
    }
}

#[test]
fn samples_without_texts_and_repeated_keys_are_counted() {
    let place = pictures();
    let (Some(captions), Some(matches)) = (model("blip-sf-tiny-caption"), model("blip-sf-tiny-itm")) else {
        return;
    };
    missing_texts(place.path());
    duplicate_keys(place.path());
    let measured = |arguments: &[&str], expected: &str| {
        let output = run(place.path(), &[arguments, &["--json"]].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    let caption = ["eval", "caption", "missing.tar", "--model", &captions, "--save-predictions", "p.json"];
    measured(&caption, "2 images come without captions and are left out");
    measured(&["eval", "caption", "twice.tar", "--model", &captions], "4 images repeat the key of another");
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(place.path().join("p.json")).expect("saved")).expect("JSON");
    assert_eq!(saved.as_array().map(Vec::len), Some(10));
    let retrieval = ["eval", "retrieval", "missing.tar", "--rerank", "0", "--model", &matches];
    let found = measured(&retrieval, "2 images come without captions");
    let step = metric(&found, "image_to_text_recall_at_1") / 10.0;
    assert!((step - step.round()).abs() < 1e-9, "of ten queries: {found:?}");
    for (verb, data, count) in
        [("embed", "twice.tar", 8), ("caption", "missing.tar", 12), ("caption", "twice.tar", 8)]
    {
        let model = if verb == "embed" { &matches } else { &captions };
        assert_eq!(
            json_lines(place.path(), &[verb, data, "--model", model], 0).len(),
            count,
            "{verb} {data}"
        );
    }
}

#[test]
fn a_shard_that_is_cut_is_named_and_what_is_whole_is_done() {
    let place = pictures();
    let (Some(captions), Some(both)) = (model("blip-sf-tiny-caption"), model("blip-sf-pretrain-tiny")) else {
        return;
    };
    missing_texts(place.path());
    let whole = fs::read(place.path().join("missing.tar")).expect("read");
    fs::write(place.path().join("cut.tar"), &whole[..whole.len() / 2]).expect("written");
    for (verb, model) in [("caption", &captions), ("embed", &both)] {
        let arguments = [verb, "cut.tar", "--output", "out.jsonl", "--model", model];
        let output = run(place.path(), &arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        // What it says depends on whether the cut falls into a member or between two.
        assert!(said.contains("cut.tar") && said.contains("k006") && said.contains("cut off"), "{said}");
        let written = fs::read_to_string(place.path().join("out.jsonl")).expect("whole all the same");
        assert!((1..12).contains(&written.lines().count()), "{written}");
        fs::remove_file(place.path().join("out.jsonl")).expect("removed");
    }
    for (arguments, status) in [
        (&["eval", "caption", "cut.tar", "--model", &captions][..], 2),
        (&["eval", "retrieval", "cut.tar", "--model", &both], 2),
        (&["capfilt", "cut.tar", "clean", "--model", &both], 1),
    ] {
        let output = run(place.path(), arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains("cut.tar: member k0") && said.contains("cut short"), "{said}");
        assert_eq!(said.contains("hint: --pass-over-cut"), status == 2, "{said}");
    }
    for (suite, model) in [("caption", &captions), ("retrieval", &both)] {
        let lines =
            json_lines(place.path(), &["eval", suite, "cut.tar", "--pass-over-cut", "--model", model], 1);
        assert!(!lines.is_empty(), "{suite}");
    }
}

/// Training goes on with what is whole and says what it has not; only where nothing is whole it does not begin.
#[test]
fn a_shard_that_is_cut_is_learnt_from_as_far_as_it_goes() {
    let place = pictures();
    missing_texts(place.path());
    let whole = fs::read(place.path().join("missing.tar")).expect("read");
    let write =
        |name: &str, length: usize| fs::write(place.path().join(name), &whole[..length]).expect("written");
    write("shard-0.tar", whole.len());
    write("shard-1.tar", whole.len() / 2);
    write("nothing.tar", 700);
    let recipe = |data: &str| {
        let text = format!(
            r#"output = "out"
            data = [{{ path = "{data}" }}]
            train = {{ batch_size = 2, epochs = 1, max_steps = 2 }}
            optimizer = {{}}
            [model]
            projection_dim = 8
            vision = {{ kind = "vit", hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, image_size = 16, patch_size = 8 }}
            text = {{ hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, max_position_embeddings = 16 }}
            "#
        );
        fs::write(place.path().join("recipe.toml"), text).expect("written");
    };
    let says = |output: &std::process::Output| {
        let said = stderr(output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    recipe("shard-{0..1}.tar");
    let checked = run(place.path(), &["train", "recipe.toml", "--check", "--json"]);
    says(&checked);
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("an object");
    let fault = report["faults"][0].as_str().expect("a fault");
    assert!(
        fault.contains("shard-1.tar: member k0") && fault.contains("samples before it are whole"),
        "{fault}"
    );
    let samples = report["samples"].as_u64().expect("a number");
    assert!((13..24).contains(&samples), "{report}");
    let said = says(&run(place.path(), &["train", "recipe.toml"]));
    assert!(said.matches("shard-1.tar: member k0").count() == 2, "before and after: {said}");
    assert!(place.path().join("out/final").is_dir(), "{said}");
    recipe("nothing.tar");
    let refused = run(place.path(), &["train", "recipe.toml"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("nothing.tar: member k0"), "{}", stderr(&refused));
}

#[test]
fn capfilt_counts_what_its_filter_cuts() {
    let place = pictures();
    let Some(both) = model("blip-sf-pretrain-tiny") else { return };
    let text = |number: usize| Some("a dog on the beach ".repeat(if number < 3 { 40 } else { 1 }));
    let samples: Vec<_> = (0..12).map(|number| (format!("k{number}"), text(number))).collect();
    write_shard(place.path(), "long.tar", &samples);
    let lines =
        json_lines(place.path(), &["capfilt", "long.tar", "clean", "--captions", "0", "--model", &both], 0);
    let summary = &lines.last().expect("a summary")["summary"];
    assert_eq!((&summary["web"]["texts"], &summary["web"]["cut"]), (&12.into(), &3.into()), "{summary}");
    let record = fs::read_to_string(place.path().join("clean/records/long-0000.jsonl")).expect("records");
    assert_eq!(record.matches("\"cut\":true").count(), 3);
    let page = fs::read_to_string(place.path().join("clean/report.html")).expect("a report");
    assert!(page.contains("scored by their beginning"), "{page}");
}

/// Runs with files of at most so many blocks of 512 bytes: what is beyond cannot be written, as on a full disk.
#[cfg(unix)]
fn run_within(place: &Path, blocks: u32, arguments: &[&str]) -> Output {
    let script = "trap '' XFSZ; ulimit -f $0 && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, &blocks.to_string(), env!("CARGO_BIN_EXE_tuwen")]).args(arguments);
    command.current_dir(place).output().expect("runs")
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_costs_nothing() {
    let place = pictures();
    let (Some(captions), Some(asks), Some(matches)) =
        (model("blip-sf-tiny-caption"), model("blip-sf-tiny-vqa"), model("blip-sf-tiny-itm"))
    else {
        return;
    };
    missing_texts(place.path());
    let caption = ["caption", "in", "--scores", "--num", "3"];
    let ask = ["ask", "in", "what color is the dog?", "--scores", "--num", "3"];
    let embed = ["embed", "in"];
    for (verb, model, blocks) in [(&caption[..], &captions, 8), (&ask, &asks, 8), (&embed, &matches, 1)] {
        let name = format!("{}.jsonl", verb[0]);
        let arguments = [verb, &["--output", &name, "--model", model]].concat();
        let output = run_within(place.path(), blocks, &arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("error: {name}.part")) && said.contains("File too large"), "{said}");
        assert!(said.contains("hint: make room; the same command with --resume goes on"), "{said}");
        assert!(!place.path().join(&name).exists(), "nothing half-written has the name");
        let resumed = run(place.path(), &[&arguments[..], &["--resume"]].concat());
        assert_eq!(resumed.status.code(), Some(0), "{}", stderr(&resumed));
        let written = fs::read_to_string(place.path().join(&name)).expect("whole");
        assert_eq!(written.lines().count(), 12);
        assert!(written.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }
    fs::write(place.path().join("old.json"), "[1]").expect("written");
    let save = ["eval", "caption", "missing.tar", "--model", &captions, "--save-predictions", "old.json"];
    let output = run_within(place.path(), 0, &save);
    let said = stderr(&output);
    assert!(output.status.code() == Some(1) && said.contains("old.json: File too large"), "{said}");
    assert_eq!(
        fs::read_to_string(place.path().join("old.json")).expect("there"),
        "[1]",
        "the old one is whole"
    );
}

#[test]
fn a_place_that_cannot_be_written_is_named_before_anything_is_computed() {
    let place = pictures();
    let (Some(captions), Some(matches), Some(both)) =
        (model("blip-sf-tiny-caption"), model("blip-sf-tiny-itm"), model("blip-sf-pretrain-tiny"))
    else {
        return;
    };
    missing_texts(place.path());
    // Root may write everywhere but below a file.
    for (arguments, status) in [
        (&["caption", "in", "--output", "red.png/x.jsonl", "--model", &captions][..], 2),
        (&["embed", "in", "--output", "red.png/x.jsonl", "--model", &matches], 2),
        (&["match", "in", "--text", "a", "--output", "red.png/x.jsonl", "--model", &matches], 2),
        (
            &["eval", "caption", "missing.tar", "--save-predictions", "red.png/x.json", "--model", &captions],
            2,
        ),
        (&["eval", "caption", "missing.tar", "--output", "red.png/x.jsonl", "--model", &captions], 2),
        (&["capfilt", "in", "red.png/x", "--model", &both], 1),
    ] {
        let output = run(place.path(), arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains("error: red.png/x") && !said.contains("measured"), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_second_run_of_the_same_job_is_refused_and_changes_nothing() {
    let place = pictures();
    let (Some(captions), Some(both)) = (model("blip-sf-tiny-caption"), model("blip-sf-pretrain-tiny")) else {
        return;
    };
    for (held, arguments) in [
        ("out.jsonl.part/lock", &["caption", "in", "--output", "out.jsonl", "--model", &captions][..]),
        ("vectors.npy.part/lock", &["embed", "in", "--output", "vectors.npy", "--model", &both]),
        ("clean/.lock", &["capfilt", "in", "clean", "--model", &both]),
    ] {
        let held = place.path().join(held);
        fs::create_dir(held.parent().expect("a folder")).expect("created");
        let lock = fs::File::create(&held).expect("created");
        lock.lock().expect("nobody else has it");
        let output = run(place.path(), arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("another process is"), "{said}");
        let left = fs::read_dir(held.parent().expect("a folder")).expect("listed").count();
        assert_eq!(left, 1, "nothing but the lock");
        drop(lock);
        let output = run(place.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}
