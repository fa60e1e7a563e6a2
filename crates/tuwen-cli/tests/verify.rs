//! Golden cases hold; one that was tampered with does not, and the first wrong tensor is named.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{fixtures, json_lines, run, stderr};
use tuwen_tensor::checkpoint::{RawTensor, TensorSource, open, write_safetensors};

const CASES: [&str; 27] = [
    "clip-vit-hf-tiny",
    "clip-vit-hf-gelu-tiny",
    "clip-vit-openai-tiny",
    "clip-rn-openai-tiny",
    "clip-vit-openclip-tiny",
    "clip-rn-openclip-tiny",
    "clip-zeroshot",
    "clip-preprocess",
    "clip-tokenizer",
    "clip-train-tiny",
    "clip-train-rn-tiny",
    "clip-siglip-openclip-tiny",
    "siglip-train-tiny",
    "clip-grad-gather",
    "blip-hf-tiny-caption",
    "blip-hf-tiny-vqa",
    "blip-hf-tiny-itm",
    "blip-sf-tiny-caption",
    "blip-sf-tiny-vqa",
    "blip-sf-tiny-itm",
    "blip-sf-tiny-feature",
    "blip-sf-nlvr-tiny",
    "blip-sf-pretrain-tiny",
    "blip-sf-retrieval-tiny",
    "blip-randaugment",
    "albef-sf-pretrain-tiny",
    "albef-sf-retrieval-tiny",
];

#[test]
fn every_supported_case_holds() {
    let Some(fixtures) = fixtures() else { return };
    let place = tempfile::tempdir().expect("a directory");
    let mut wrong = Vec::new();
    for case in CASES {
        let folder = fixtures.join(case);
        let folder = folder.to_str().expect("a path");
        let output = run(place.path(), &["verify", folder]);
        if output.status.code() != Some(0) {
            wrong.push(format!("{case}: {}", stderr(&output)));
            continue;
        }
        for line in json_lines(place.path(), &["verify", folder], 0) {
            assert_eq!((&line["case"], &line["ok"]), (&case.into(), &true.into()), "{line}");
            assert!(
                line["tensor"].is_string() && line["max_abs"].is_number() && line["tolerance"].is_number()
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn cases_of_other_kinds_are_refused_clearly() {
    let Some(fixtures) = fixtures() else { return };
    for case in ["linear-probe", "llama-tiny"] {
        let output = run(&fixtures, &["verify", case]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{case}: {said}");
        assert!(
            said.contains(case) && said.contains("not supported yet") && output.stdout.is_empty(),
            "{said}"
        );
    }
}

/// Copies a case and changes its recorded tensors.
fn tampered(from: &Path, to: &Path, change: impl FnOnce(&mut BTreeMap<String, RawTensor<'static>>)) {
    fs::create_dir(to).expect("created");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        // Not `fs::copy`: the copies are to be writable.
        fs::write(to.join(entry.file_name()), fs::read(entry.path()).expect("read")).expect("copied");
    }
    let recorded = open(&from.join("expected.safetensors")).expect("opened");
    let read = |name: String| (name.clone(), recorded.read(&name).expect("read").into_owned());
    let mut tensors = recorded.names().into_iter().map(read).collect();
    change(&mut tensors);
    write_safetensors(&to.join("expected.safetensors"), tensors, &BTreeMap::new()).expect("written");
}

fn nudge(tensor: &mut RawTensor<'static>, by: f32) {
    let mut values = tensor.to_f32();
    values[1] += by;
    *tensor = RawTensor::from_f32(&tensor.shape, &values);
}

#[test]
fn the_first_wrong_tensor_is_named() {
    let Some(fixtures) = fixtures() else { return };
    let place = tempfile::tempdir().expect("a directory");
    let from = fixtures.join("clip-vit-hf-tiny");
    tampered(&from, &place.path().join("nudged"), |tensors| {
        for (name, by) in [("logits_per_text", 1e-2), ("text.block.1", -1e-3), ("text.block.0", 1e-6)] {
            nudge(tensors.get_mut(name).expect(name), by);
        }
    });
    tampered(&from, &place.path().join("more"), |tensors| {
        tensors.insert("text.block.7".to_owned(), RawTensor::from_f32(&[1], &[1.0]));
    });
    tampered(&from, &place.path().join("shape"), |tensors| {
        tensors.get_mut("loss").expect("a loss").shape = vec![1, 1];
    });
    for (case, failed, expected) in [
        (
            "nudged",
            vec!["text.block.1", "logits_per_text"],
            "nudged: 2 of 46 failed, the first is text.block.1: off by",
        ),
        ("more", vec!["text.block.7"], "the first is text.block.7: not computed"),
    ] {
        let output = run(place.path(), &["verify", case]);
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        let lines = json_lines(place.path(), &["verify", case], 4);
        let wrong: Vec<_> =
            lines.iter().filter(|line| line["ok"] == false).map(|line| &line["tensor"]).collect();
        assert_eq!(wrong, failed);
    }
    // One number is one number, however it is wrapped.
    assert_eq!(run(place.path(), &["verify", "shape"]).status.code(), Some(0));
    fs::write(place.path().join("more/inputs.safetensors"), "no").expect("written");
    let output = run(place.path(), &["verify", "more"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("inputs.safetensors"), "{}", stderr(&output));
    fs::write(place.path().join("shape/model.safetensors"), "no").expect("written");
    assert_eq!(run(place.path(), &["verify", "shape"]).status.code(), Some(3));
}

#[test]
fn a_dump_holds_what_was_computed() {
    let Some(fixtures) = fixtures() else { return };
    let place = tempfile::tempdir().expect("a directory");
    let folder = fixtures.join("clip-rn-openai-tiny");
    let case = folder.to_str().expect("a path");
    let output = run(place.path(), &["verify", case, "--dump", "dump.safetensors"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let dump = open(&place.path().join("dump.safetensors")).expect("opened");
    let expected = open(&folder.join("expected.safetensors")).expect("opened");
    for name in expected.names() {
        assert_eq!(
            dump.info(&name).expect(&name).shape,
            expected.info(&name).expect("there").shape,
            "{name}"
        );
        let pairs = dump
            .read(&name)
            .expect("read")
            .to_f32()
            .into_iter()
            .zip(expected.read(&name).expect("read").to_f32());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= 3e-5 + 1e-4 * b.abs()), "{name}");
    }
    let output = run(place.path(), &["verify", case, "--dump", "nowhere/dump.safetensors"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("nowhere/dump.safetensors: "), "{}", stderr(&output));
}
