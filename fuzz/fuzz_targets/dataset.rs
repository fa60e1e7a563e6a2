//! A data set in one file: tar, Parquet, CSV, TSV; its first samples are read.
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use tuwen_data::dataset::{DatasetSpec, open};
use tuwen_fuzz::{say, write};

/// By the first byte, how the others are called.
const NAMES: [&str; 4] = ["data.tar", "data.parquet", "data.csv", "data.tsv"];
/// Samples that are read of each.
const SAMPLES: usize = 20;

/// A panic that becomes an error is no finding.
static QUIET: Once = Once::new();

fuzz_target!(|data: &[u8]| {
    QUIET.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !tuwen_data::is_guarded() {
                hook(panic);
            }
        }));
    });
    let Some((kind, bytes)) = data.split_first() else { return };
    let path = write(NAMES[usize::from(kind % 4)], bytes);
    match open(&DatasetSpec::new(path)) {
        Ok(dataset) => {
            for index in (0..dataset.len()).take(SAMPLES) {
                let sample = dataset.get(index);
                assert_eq!(sample.as_ref().ok(), dataset.get(index).as_ref().ok(), "the same sample again");
                sample.map_or_else(|error| say(&error), drop);
            }
        }
        Err(error) => say(&error),
    }
});
