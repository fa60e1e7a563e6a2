//! `tuwen bench`: a line for each stage, whatever the figures are.

mod common;

use common::{json_lines, run, stderr, workplace};

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
