//! A run of `bench`: stage after stage.

use tuwen::ModelFiles;
use tuwen_kernels::{Precision, threads};

use super::clock::Clock;
use super::line::{Line, Timed};
use super::roofline::Roofline;
use super::stage::Stage;
use super::towers::Towers;
use super::{Bench, prepare, process, start_up, train_step};
use crate::arguments::Global;
use crate::console::{Console, Progress};
use crate::failure::Failure;
use crate::models::model_failure;

/// What all stages share.
pub struct Session<'a> {
    /// Options of every verb.
    pub global: &'a Global,
    /// What the model is asked for by.
    pub model: &'a str,
    /// A JPEG file.
    pub photograph: Vec<u8>,
    /// How long to measure.
    pub clock: Clock,
    arguments: &'a Bench,
    console: &'a Console,
    roofline: Roofline,
    progress: Progress<'a>,
}

impl<'a> Session<'a> {
    /// Measures the limits of the machine.
    pub fn new(
        arguments: &'a Bench,
        global: &'a Global,
        console: &'a Console,
        model: &'a str,
        photograph: Vec<u8>,
        precisions: &[Precision],
    ) -> Self {
        let (with, without): (Vec<_>, Vec<_>) =
            arguments.stage.iter().partition::<Vec<&Stage>, _>(|stage| stage.has_precision());
        let total = without.len() + with.len() * precisions.len();
        let progress = console.progress(total as u64, "stages");
        let roofline = Roofline::measure(precisions);
        process::forget_peak_memory();
        let clock = Clock { seconds: arguments.seconds };
        Self { arguments, global, console, model, photograph, clock, roofline, progress }
    }

    /// Measures and prints each stage, those of the network in each precision.
    pub fn run(mut self, precisions: &[Precision]) -> Result<(), Failure> {
        let stages = self.arguments.stage.clone();
        let files = ModelFiles::open(self.model, &self.global.options()).map_err(model_failure)?;
        for &stage in stages.iter().filter(|stage| !stage.has_precision()) {
            let timed = prepare::measure(stage, &self.photograph, &files.processor.transform, self.clock)?;
            self.print(stage, Precision::F32, timed)?;
        }
        for &precision in precisions {
            let needed = stages.iter().any(|stage| stage.needs_weights());
            let towers = needed.then(|| Towers::load(&self, precision)).transpose()?;
            for &stage in stages.iter().filter(|stage| stage.has_precision()) {
                self.measure(stage, precision, towers.as_ref(), &files)?;
            }
        }
        Ok(())
    }

    fn measure(
        &mut self,
        stage: Stage,
        precision: Precision,
        towers: Option<&Towers>,
        files: &ModelFiles,
    ) -> Result<(), Failure> {
        match (stage, towers) {
            (Stage::EncodeImage, Some(towers)) => {
                for &batch in &self.arguments.batch {
                    let timed = towers.images(batch, self.clock)?;
                    self.print(stage, precision, timed)?;
                }
                Ok(())
            }
            (Stage::EncodeText, Some(towers)) => {
                let timed = towers.texts(self.clock)?;
                self.print(stage, precision, timed)
            }
            (Stage::TrainStep, _) if precision == Precision::Int8 => {
                self.console.note("train_step is left out in int8: gradients need more");
                Ok(())
            }
            (Stage::TrainStep, _) => {
                let timed = train_step::measure(precision, self.clock)?;
                self.print(stage, precision, timed)
            }
            (Stage::StartUp, _) => {
                let timed = start_up::measure(self, precision, &files.config)?;
                self.print(stage, precision, timed)
            }
            _ => Ok(()), // prepared before, or nothing was loaded
        }
    }

    fn print(&mut self, stage: Stage, precision: Precision, timed: Timed) -> Result<(), Failure> {
        let Timed { batch, seconds, work, peak_memory } = timed;
        let (limit, bound) = self.roofline.limit(work, precision);
        let line = Line {
            model: if stage == Stage::TrainStep { train_step::MODEL } else { self.model },
            stage,
            batch,
            precision: if stage.has_precision() { precision.name() } else { "u8" },
            threads: threads(),
            seconds,
            per_second: batch as f64 / seconds,
            peak_memory: peak_memory.or_else(process::peak_memory),
            flops: work.flops,
            bytes: work.bytes,
            roofline: limit / seconds,
            bound,
        };
        self.progress.advance(1);
        if self.console.json {
            return self.console.print(serde_json::to_string(&line)?);
        }
        self.console.print(line)
    }
}
