//! A directory whose weights are whole and whose other files contradict them: it is refused, or the model works.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuwen::{ModelFiles, Options};
use tuwen_fuzz::{file, say, write};

/// What the input is, by its first byte.
const NAMES: [&str; 3] = ["config.json", "open_clip_config.json", "preprocessor_config.json"];

fuzz_target!(
    init: drop(write("model.safetensors", include_bytes!("../seeds/model.safetensors"))),
    |data: &[u8]| {
        let Some((kind, text)) = data.split_first() else { return };
        let name = NAMES[usize::from(kind % 3)];
        for other in NAMES {
            let _ = std::fs::remove_file(file(other));
        }
        if kind % 3 == 2 {
            write("config.json", include_bytes!("../seeds/config.json"));
        }
        let path = write(name, text);
        let directory = path.parent().expect("a directory").to_string_lossy();
        let opened = ModelFiles::open(&directory, &Options::default()).and_then(tuwen::Model::new);
        match opened {
            Ok(model) => drop(model),
            Err(error) => say(&error),
        }
    }
);
