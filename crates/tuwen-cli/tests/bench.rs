//! `tuwen bench`: a line for each stage, whatever the figures are.

mod common;

use common::{fixtures, json_lines, run, stderr, workplace};
use serde_json::Value;

#[test]
fn every_stage_has_its_line() {
    let place = workplace();
    let arguments =
        ["bench", "model", "--seconds", "0", "--batch", "1,3", "--precision", "f32,int8", "--stage"];
    let stages = "decode,resize,encode_image,encode_text,start_up";
    let lines = json_lines(place.path(), &[&arguments[..], &[stages]].concat(), 0);
    let named: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {} {}", line["stage"], line["batch"], line["precision"]).replace('"', ""))
        .collect();
    let of_network = |precision| {
        ["encode_image 1", "encode_image 3", "encode_text 64", "start_up 1"]
            .map(|row| format!("{row} {precision}"))
    };
    let expected: Vec<String> = ["f32", "int8"].into_iter().flat_map(of_network).collect();
    assert_eq!(named[2..], expected);
    assert!(named[0].starts_with("decode ") && named[1].starts_with("resize ") && named[1].ends_with(" u8"));
    for line in &lines {
        let number = |key: &str| line[key].as_f64().unwrap_or_default();
        assert!(number("seconds") > 0.0 && number("roofline") > 0.0 && number("threads") >= 1.0, "{line}");
        let product = number("per_second") * number("seconds");
        assert!((product - number("batch")).abs() < 1e-6 * product, "{line}");
        assert!(!cfg!(target_os = "linux") || number("peak_memory") > 1e6, "{line}");
    }
    let flops = |row: usize| lines[row]["flops"].as_u64().unwrap_or_default();
    assert_eq!(flops(3), 3 * flops(2), "three images are three times one");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let place = workplace();
    for (arguments, status, said) in [
        (&["--batch", "0"][..], 2, "from 1 to 4096"),
        (&["--stage", "dream"], 2, "encode_image"),
        (&["--seconds", "7200"], 2, "from 0 to 3600"),
        (&["--image", "model/config.json", "--stage", "decode"], 2, "error:"),
        (&["--image", "nowhere.jpg"], 2, "nowhere.jpg: cannot be read"),
        (&["nowhere"], 3, "nowhere"),
    ] {
        let output = run(place.path(), &[&["bench"], arguments].concat());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {message}");
        assert!(message.contains(said), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_captioner_has_stages_of_its_own() {
    let Some(fixtures) = fixtures() else { return };
    let model = fixtures.join("blip-sf-tiny-caption/model.pth");
    let (place, model) = (workplace(), model.to_string_lossy());
    let lines = json_lines(place.path(), &["bench", &model, "--seconds", "0", "--batch", "1,2"], 0);
    let of_stage =
        |stage: &str| -> Vec<&Value> { lines.iter().filter(|line| line["stage"] == stage).collect() };
    let flops = |stage: &str| -> Vec<u64> {
        let lines = of_stage(stage);
        let batches: Vec<_> = lines.iter().map(|line| line["batch"].as_u64()).collect();
        assert_eq!(batches, [Some(1), Some(2)], "{stage}");
        for line in &lines {
            assert!(line["seconds"].as_f64() > Some(0.0) && line["bytes"].as_u64() > Some(0), "{line}");
        }
        lines.iter().map(|line| line["flops"].as_u64().expect("a number")).collect()
    };
    assert_eq!(lines.len(), 2 + 2 * 5);
    let (first, token) = (flops("caption_first_token"), flops("caption_token"));
    assert!(first[0] > flops("encode_image")[0]);
    assert_eq!((first[1], token[1]), (2 * first[0], 2 * token[0]));
    // The first token of beams is that of one; from then on they take three steps in one.
    assert_eq!(flops("caption_first_token_beams3"), first);
    assert_eq!(flops("caption_token_beams3"), token.iter().map(|flops| 3 * flops).collect::<Vec<_>>());
}

#[test]
fn a_stage_that_a_model_has_not_is_refused() {
    let place = workplace();
    let output = run(place.path(), &["bench", "model", "--stage", "caption_token"]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("no stage caption_token; it has decode, resize, encode_image"), "{message}");
}
