//! Finding the weight file in a model directory.

use std::path::{Path, PathBuf};

use super::{Checkpoint, CheckpointError, open};

/// File names that are tried, best first: Hugging Face's before open_clip's before OpenAI's and Salesforce's,
/// safetensors before pickles.
const WEIGHT_FILES: [&str; 10] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.pt",
    "model.pth",
];

/// The weight files of a directory that go by a usual name, best first; at least one.
///
/// # Errors
/// There is none; the error names other files that may be checkpoints, to be opened by their own path.
pub fn weight_files_in(directory: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = std::fs::read_dir(directory).map_err(CheckpointError::io(directory))?;
    let files: Vec<PathBuf> =
        WEIGHT_FILES.map(|name| directory.join(name)).into_iter().filter(|f| f.is_file()).collect();
    if !files.is_empty() {
        return Ok(files);
    }
    let mut others: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| [".safetensors", ".pt", ".pth", ".bin", ".ckpt"].iter().any(|end| name.ends_with(end)))
        .collect();
    others.sort();
    others.truncate(8);
    let found =
        if others.is_empty() { String::new() } else { format!("; name one of: {}", others.join(", ")) };
    Err(CheckpointError::NoWeights {
        path: directory.to_path_buf(),
        looked_for: WEIGHT_FILES.join(", "),
        found,
    })
}

/// Opens the best weight file of a directory; [`Checkpoint::path`] says which it was.
///
/// # Errors
/// No file by a usual name, or one that does not open (a worse one is not tried instead).
pub fn open_weights_in(directory: &Path) -> Result<Checkpoint, CheckpointError> {
    open(&weight_files_in(directory)?[0])
}

#[cfg(test)]
mod tests {
    use super::super::testing::temporary;
    use super::super::{RawTensor, write_safetensors};
    use super::*;

    #[test]
    fn the_first_of_the_order_wins() {
        let directory = temporary();
        let write = |name: &str| {
            let tensor = [("x".to_owned(), RawTensor::from_f32(&[], &[1.0]))];
            write_safetensors(&directory.path().join(name), tensor, &Default::default()).expect("written");
        };
        write("state_dict.pt");
        let message = open_weights_in(directory.path()).expect_err("no usual name").to_string();
        assert!(
            message.contains("model.safetensors,") && message.contains("name one of: state_dict.pt"),
            "{message}"
        );
        // Named like a pickle, read by content.
        write("open_clip_pytorch_model.bin");
        assert!(
            open_weights_in(directory.path())
                .expect("opened")
                .path()
                .ends_with("open_clip_pytorch_model.bin")
        );
        write("model.safetensors");
        assert!(open_weights_in(directory.path()).expect("opened").path().ends_with("model.safetensors"));
        assert_eq!(weight_files_in(directory.path()).expect("two").len(), 2);
        assert!(open_weights_in(&directory.path().join("nowhere")).is_err());
    }
}
