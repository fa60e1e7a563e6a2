//! A run of `bench`: stage after stage.

use anyhow::anyhow;
use tuwen::{Model, Opened, Options};
use tuwen_kernels::{Precision, threads};

use super::clock::Clock;
use super::grounded::Grounded;
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
    files: Opened,
    stages: Vec<Stage>,
    arguments: &'a Bench,
    console: &'a Console,
    roofline: Roofline,
    progress: Progress<'a>,
}

/// A model in memory.
enum Loaded {
    Clip(Towers),
    Grounded(Grounded),
}

impl<'a> Session<'a> {
    /// Opens the model and measures the limits of the machine.
    pub fn new(
        arguments: &'a Bench,
        global: &'a Global,
        console: &'a Console,
        model: &'a str,
        photograph: Vec<u8>,
        precisions: &[Precision],
    ) -> Result<Self, Failure> {
        let files = Opened::open(model, &global.options()).map_err(model_failure)?;
        let stages = chosen(&arguments.stage, &files)?;
        let with = stages.iter().filter(|stage| stage.has_precision()).count();
        let total = stages.len() - with + with * precisions.len();
        let progress = console.progress(total as u64, "stages");
        let roofline = Roofline::measure(precisions);
        process::forget_peak_memory();
        let clock = Clock { seconds: arguments.seconds };
        Ok(Self { arguments, global, console, model, files, stages, photograph, clock, roofline, progress })
    }

    /// Measures and prints each stage, those of the network in each precision.
    pub fn run(mut self, precisions: &[Precision]) -> Result<(), Failure> {
        let stages = self.stages.clone();
        for &stage in stages.iter().filter(|stage| !stage.has_precision()) {
            let transform = match &self.files {
                Opened::Clip(files) => &files.processor.transform,
                Opened::Grounded(files) => &files.processor.transform,
            };
            let timed = prepare::measure(stage, &self.photograph, transform, self.clock)?;
            self.print(stage, Precision::F32, timed)?;
        }
        for &precision in precisions {
            let needed = stages.iter().any(|stage| stage.needs_weights());
            let loaded = needed.then(|| self.load(precision)).transpose()?;
            for &stage in stages.iter().filter(|stage| stage.has_precision()) {
                self.measure(stage, precision, loaded.as_ref())?;
            }
        }
        Ok(())
    }

    fn load(&self, precision: Precision) -> Result<Loaded, Failure> {
        let options = Options { precision, ..self.global.options() };
        let model: Model = tuwen::load(self.model, &options).map_err(model_failure)?;
        Ok(match &self.files {
            Opened::Clip(_) => Loaded::Clip(Towers::new(model, precision)?),
            Opened::Grounded(files) => {
                Loaded::Grounded(Grounded::new(model, &files.config, &self.photograph, precision)?)
            }
        })
    }

    fn measure(
        &mut self,
        stage: Stage,
        precision: Precision,
        loaded: Option<&Loaded>,
    ) -> Result<(), Failure> {
        let clock = self.clock;
        match (stage, loaded) {
            (Stage::TrainStep, _) if precision == Precision::Int8 => {
                self.console.note("train_step is left out in int8: gradients need more");
                Ok(())
            }
            (Stage::TrainStep, _) => {
                let timed = train_step::measure(precision, clock)?;
                self.print(stage, precision, timed)
            }
            (Stage::StartUp, _) => {
                let timed = match &self.files {
                    Opened::Clip(files) => start_up::measure(self, precision, &files.config)?,
                    Opened::Grounded(_) => return Ok(()), // not chosen
                };
                self.print(stage, precision, timed)
            }
            (Stage::EncodeText, Some(Loaded::Clip(towers))) => {
                let timed = towers.texts(clock)?;
                self.print(stage, precision, timed)
            }
            (_, Some(Loaded::Clip(towers))) => self.each_batch(stage, precision, |n| towers.images(n, clock)),
            (_, Some(Loaded::Grounded(model))) => {
                self.each_batch(stage, precision, |n| match stage.writing() {
                    Some(writing) => model.captions(writing, n, clock),
                    None => Ok(model.images(n, clock)),
                })
            }
            (_, None) => Ok(()), // prepared before
        }
    }

    fn each_batch(
        &mut self,
        stage: Stage,
        precision: Precision,
        measure: impl Fn(usize) -> Result<Timed, Failure>,
    ) -> Result<(), Failure> {
        self.arguments.batch.iter().try_for_each(|&batch| self.print(stage, precision, measure(batch)?))
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

/// The stages that are asked for, or all that the model has.
fn chosen(asked: &[Stage], files: &Opened) -> Result<Vec<Stage>, Failure> {
    let has = Stage::of(files);
    // A step of training makes its own network.
    let possible = |stage: &Stage| has.contains(stage) || *stage == Stage::TrainStep;
    if let Some(stage) = asked.iter().find(|stage| !possible(stage)) {
        let names: Vec<String> = has.iter().map(Stage::to_string).collect();
        let names = names.join(", ");
        return Err(Failure::usage(anyhow!("{}: no stage {stage}; it has {names}", files.name())));
    }
    Ok(if asked.is_empty() { has } else { asked.to_vec() })
}
