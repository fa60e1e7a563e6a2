//! What fuzzing begins with, and what it found: files that make a data set or an error, and end.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

use std::path::Path;

use tuwen_data::dataset::{DatasetSpec, open};

/// By the first byte of an input, how the rest is called, as the fuzz target has it.
const NAMES: [&str; 4] = ["data.tar", "data.parquet", "data.csv", "data.tsv"];

#[test]
fn inputs_of_the_fuzzer_are_samples_or_errors() {
    let seeds = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/dataset"));
    let Ok(inputs) = std::fs::read_dir(seeds) else {
        eprintln!("skipped: no {}", seeds.display());
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, mut samples) = (0, 0);
    for input in inputs {
        let bytes = std::fs::read(input.unwrap().path()).unwrap();
        let path = folder.path().join(NAMES[usize::from(bytes[0] % 4)]);
        std::fs::write(&path, &bytes[1..]).unwrap();
        let Ok(dataset) = open(&DatasetSpec::new(&path)) else { continue };
        opened += 1;
        samples += (0..dataset.len().min(20)).filter(|&index| dataset.get(index).is_ok()).count();
    }
    assert!(opened >= 8 && samples > 0, "{opened} data sets, {samples} samples");
}
