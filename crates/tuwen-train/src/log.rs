//! The training log: one JSON object a line, the same for TensorBoard, and a picture of it.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Metrics, TrainError};

mod curve;
mod events;
mod protobuf;
mod scalars;

use events::Events;

/// What one optimizer step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps taken, this one included.
    pub step: u64,
    /// Passes over the data, from 0, to which the step belongs.
    pub epoch: u64,
    /// Total loss, before the step.
    pub loss: f64,
    /// Its terms by name.
    pub losses: Metrics,
    /// Learning rate of the step.
    pub lr: f64,
    /// Quantities of the model worth watching, such as `logit_scale` (the factor), after the step.
    #[serde(flatten)]
    pub gauges: Metrics,
    /// Length of the gradient of all parameters, before clipping.
    pub grad_norm: f64,
    /// Images a second since the last line, reading and evaluation included.
    pub images_per_second: f64,
    /// Samples of this epoch that could not be read.
    pub data_failures: u64,
}

/// The result of one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Steps taken before it.
    pub step: u64,
    /// Passes over the data finished before it.
    pub epoch: u64,
    /// Its name in the recipe.
    pub eval: String,
    /// What was measured.
    pub metrics: Metrics,
}

/// The name of the log in the output directory, and that of its picture.
const LINES: &str = "log.jsonl";
const CURVE: &str = "learning-curve.svg";

/// Files that grow by a line at a time.
pub struct Log {
    path: PathBuf,
    out: BufWriter<File>,
    events: Events,
}

impl Log {
    /// Opens the log in the output directory of a run and cuts it to `length` bytes, and to `step`: what was written
    /// after the checkpoint that a run resumes from will be written again.
    pub fn open(output: &Path, length: u64, step: u64) -> Result<Self, TrainError> {
        let path = output.join(LINES);
        let open = || {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.set_len(length.min(file.metadata()?.len()))?;
            file.seek(SeekFrom::End(0))?;
            Ok(BufWriter::new(file))
        };
        let out = open().map_err(TrainError::io(&path))?;
        Ok(Self { out, path, events: Events::open(output, step)? })
    }

    /// Appends a line.
    pub fn write(&mut self, record: &impl Serialize) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(record).map_err(|e| TrainError::io(&self.path)(e.into()))?;
        line.push(b'\n');
        self.out.write_all(&line).and_then(|()| self.out.flush()).map_err(TrainError::io(&self.path))?;
        self.events.write(&scalars::of_line(&line))
    }

    /// Brings all lines to the disk and returns the length in bytes.
    pub fn sync(&mut self) -> Result<u64, TrainError> {
        let sync = |out: &mut BufWriter<File>| {
            out.flush()?;
            out.get_ref().sync_data()?;
            out.stream_position()
        };
        self.events.sync()?;
        sync(&mut self.out).map_err(TrainError::io(&self.path))
    }

    /// Draws all lines: losses, learning rate, gradient and evaluations over the steps.
    pub fn draw(&self) -> Result<(), TrainError> {
        curve::draw(&self.path, &self.path.with_file_name(CURVE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_the_checkpoint_are_cut() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let record = |step| EvalRecord { step, epoch: 0, eval: "dev".into(), metrics: Metrics::new() };
        let mut log = Log::open(directory.path(), 0, 0).expect("opened");
        log.write(&record(1)).expect("written");
        let length = log.sync().expect("synced");
        log.write(&record(2)).expect("written");
        drop(log);
        let mut log = Log::open(directory.path(), length, 1).expect("opened");
        log.write(&record(3)).expect("written");
        let text = std::fs::read_to_string(directory.path().join(LINES)).expect("read");
        let steps: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<EvalRecord>(line).expect("a whole line").step)
            .collect();
        assert_eq!(steps, [1, 3]);
    }
}
