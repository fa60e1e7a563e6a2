//! What the fuzz targets share: a limit on memory, a place for files, and what is done with a checkpoint.

use std::alloc::System;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cap::Cap;
use tempfile::TempDir;
use tuwen_models::clip::ClipConfig;
use tuwen_models::clip::weights::Layout;
use tuwen_tensor::checkpoint::{Checkpoint, CheckpointError, TensorSource};

/// What a small input may make the process hold; an allocation beyond it ends the process, and so is a finding.
const MOST_MEMORY: usize = 1 << 30;

/// Larger tensors are not turned into numbers, which would take four times their bytes.
const MOST_BYTES: usize = 16 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MOST_MEMORY);

/// A file of this name in the directory of this process, which lies in memory where the system has such a place.
pub fn file(name: &str) -> PathBuf {
    static PLACE: OnceLock<TempDir> = OnceLock::new();
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let place = PLACE.get_or_init(|| tempfile::tempdir_in(parent).expect("a temporary directory"));
    place.path().join(name)
}

/// Puts a file there.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = file(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

/// Reads all that is in an opened checkpoint, as it is and as the weights of a CLIP; an error is one line.
pub fn read_all(opened: Result<Checkpoint, CheckpointError>) {
    let checkpoint = match opened {
        Ok(checkpoint) => checkpoint,
        Err(error) => return one_line(&error),
    };
    read_tensors(&checkpoint);
    if let Some(layout) = Layout::of(&checkpoint) {
        if let Err(error) = ClipConfig::from_openai_shapes(&checkpoint) {
            one_line(&error);
        }
        read_tensors(layout.import(checkpoint).as_ref());
    }
}

fn read_tensors(source: &dyn TensorSource) {
    for name in source.names() {
        let info = source.info(&name).expect("a name that is listed");
        match source.read(&name) {
            Ok(tensor) => {
                assert_eq!(tensor.info(), info);
                assert_eq!(Some(tensor.data.len()), info.byte_len(), "{name}");
                if tensor.data.len() <= MOST_BYTES {
                    tensor.to_f32();
                }
            }
            Err(error) => one_line(&error),
        }
    }
}

/// What is wrong with a checkpoint is a line, not too long, that cannot steer a terminal.
fn one_line(error: &dyn Display) {
    let message = error.to_string();
    assert!(!message.is_empty() && message.len() < 4000, "{} bytes: {message:.200}", message.len());
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

/// What is wrong with anything else is said without a panic; the program cuts and escapes what it shows.
pub fn say(error: &dyn Display) {
    assert!(!error.to_string().trim().is_empty());
}
