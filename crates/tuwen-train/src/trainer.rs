//! The training loop.

use std::iter::Peekable;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use tuwen_nn::Pass;
use tuwen_tensor::Gradients;

use crate::checkpoint::{self, Checkpoints, State};
use crate::layer_decay::LayerDecay;
use crate::{
    Average, BatchSource, EvalRecord, Log, Metrics, Objective, Optimizer, Recipe, Schedule, StepRecord,
    TrainError, adapter, average,
};

/// Whether a run begins or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the first step; the output directory may hold no other run.
    Anew,
    /// From the newest checkpoint.
    Resume,
    /// From the newest checkpoint if there is one.
    ResumeIfPossible,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was taken.
    Step {
        /// What it did.
        record: &'a StepRecord,
        /// Steps of the whole run.
        total_steps: u64,
    },
    /// A line on a step was logged.
    Logged(&'a StepRecord),
    /// An evaluation was made.
    Eval(&'a EvalRecord),
    /// A checkpoint or a model was written.
    Saved(&'a Path),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are taken, and the model is exported.
    Finished,
    /// It was asked to stop; a checkpoint holds everything.
    Interrupted,
}

/// Told of everything that happens; it may ask to stop after the current step.
pub type Observer<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// A run of training. Dropping it at any moment loses nothing that [`Start::Resume`] does not bring back.
pub struct Trainer<O: Objective, D> {
    recipe: Recipe,
    objective: O,
    optimizer: Optimizer,
    average: Option<Average>,
    schedule: Schedule,
    data: D,
    batches: Peekable<Box<dyn Iterator<Item = Result<O::Batch, TrainError>>>>,
    state: State,
    checkpoints: Checkpoints,
    log: Log,
    /// When the last line was logged or the last evaluation ended, and the images since.
    pace: (Instant, usize),
    /// The observer asked to stop.
    stopping: bool,
}

impl<O: Objective, D: BatchSource<Batch = O::Batch>> Trainer<O, D> {
    /// Prepares a run: brings the objective to the state of the newest checkpoint if it resumes.
    pub fn new(recipe: Recipe, objective: O, data: D, start: Start) -> Result<Self, TrainError> {
        recipe.check_groups(objective.parameters())?;
        recipe.lock.apply(objective.parameters())?;
        recipe.lora.as_ref().map_or(Ok(()), |lora| lora.check_names(objective.parameters()))?;
        let output = recipe.output();
        std::fs::create_dir_all(&output).map_err(TrainError::io(&output))?;
        let checkpoints = Checkpoints::below(&output);
        let latest = match (checkpoints.latest()?, start) {
            (Some(_), Start::Anew) => return Err(TrainError::OutputInUse(output)),
            (None, Start::Resume) => return Err(TrainError::NothingToResume(output)),
            (latest, _) => latest,
        };
        let mut optimizer =
            Optimizer::new(objective.parameters(), &recipe.groups, objective.optimizer_settings(&recipe));
        if let Some(decay) = recipe.optimizer.layer_decay {
            let factors = LayerDecay::new(decay, objective.parameters());
            optimizer.scale_lr(|name| factors.of(name));
        }
        let per_epoch = data.batches_per_epoch();
        if optimizer.trained() == 0 {
            return Err(TrainError::AllFrozen);
        }
        let average = Average::of(objective.parameters(), &recipe.train);
        let fresh = State::new(per_epoch, recipe.fingerprint(), objective.parameters());
        let state = match latest {
            None => fresh,
            Some(path) => {
                let state = checkpoint::read_state(&path)?;
                state.fits(&fresh, &path)?;
                let parameters = objective.parameters();
                checkpoint::restore(&path, state.step, parameters, &mut optimizer, average.as_ref())?;
                state
            }
        };
        Ok(Self {
            schedule: recipe.schedule(per_epoch),
            batches: data.epoch(state.epoch, state.batch).peekable(),
            log: Log::open(&output, state.log_length, state.step)?,
            pace: (Instant::now(), 0),
            stopping: false,
            recipe,
            objective,
            optimizer,
            average,
            data,
            state,
            checkpoints,
        })
    }

    /// Takes all steps that are left, then exports the model to `final` in the output directory.
    pub fn run(&mut self, observer: &mut Observer) -> Result<Outcome, TrainError> {
        while self.state.step < self.schedule.total_steps {
            self.advance(observer)?;
            if self.stopping {
                self.stopping = false;
                self.save(observer)?;
                return Ok(Outcome::Interrupted);
            }
        }
        self.export("final", observer)?;
        Ok(Outcome::Finished)
    }

    /// Takes one step, with the evaluations and the checkpoint that are due after it.
    pub fn advance(&mut self, observer: &mut Observer) -> Result<(), TrainError> {
        let record = self.step()?;
        let total_steps = self.schedule.total_steps;
        let last = record.step == total_steps;
        if last || record.step.is_multiple_of(self.recipe.train.log_every) {
            self.log.write(&record)?;
            self.pace = (Instant::now(), 0);
            self.tell(observer, Event::Logged(&record));
        }
        self.tell(observer, Event::Step { record: &record, total_steps });
        // Batches that do not fill a step are left out, as samples are that do not fill a batch.
        let left = self.data.batches_per_epoch().saturating_sub(self.state.batch);
        let epoch_ended = self.batches.peek().is_none() || left < self.recipe.train.accumulate_steps;
        if epoch_ended {
            (self.state.epoch, self.state.batch) = (self.state.epoch + 1, 0);
            self.batches = self.data.epoch(self.state.epoch, 0).peekable();
        }
        if epoch_ended || last {
            self.evaluate(last, observer)?;
        }
        if last || record.step.is_multiple_of(self.recipe.train.checkpoint_every) {
            self.save(observer)?;
        }
        Ok(())
    }

    /// Forward and backward for each batch of the step, then the update.
    fn step(&mut self) -> Result<StepRecord, TrainError> {
        let step = self.state.step;
        let lr = self.schedule.at(step);
        let (losses, gradients) = self.gradients()?;
        let loss: f64 = losses.values().sum();
        let diverged = |what, value| TrainError::Diverged { step: step + 1, what, value };
        if !loss.is_finite() {
            return Err(diverged("the loss", loss));
        }
        let grad_norm = self.optimizer.step(gradients, lr);
        if !grad_norm.is_finite() {
            return Err(diverged("the gradient's length", grad_norm));
        }
        self.objective.after_step();
        if let Some(average) = &self.average {
            average.update(step);
        }
        let batches = self.recipe.train.accumulate_steps;
        self.state.step += 1;
        self.state.batch += batches;
        self.pace.1 += self.recipe.train.batch_size * batches as usize;
        Ok(StepRecord {
            step: self.state.step,
            epoch: self.state.epoch,
            loss,
            losses,
            lr,
            gauges: self.objective.gauges(),
            grad_norm,
            images_per_second: self.pace.1 as f64 / self.pace.0.elapsed().as_secs_f64(),
            data_failures: self.data.failures(),
        })
    }

    /// The mean of the losses and of the gradients over the batches of a step.
    fn gradients(&mut self) -> Result<(Metrics, Gradients), TrainError> {
        let pass = Pass::train().with_checkpointing(self.recipe.train.gradient_checkpointing);
        let batches = self.recipe.train.accumulate_steps;
        let mut sum = (Metrics::new(), Gradients::default());
        for _ in 0..batches {
            let Some(batch) = self.batches.next() else {
                return Err(TrainError::NoData { failures: self.data.failures() });
            };
            let (losses, gradients) = self.objective.gradients(&batch?, &pass)?;
            losses
                .into_iter()
                .for_each(|(name, loss)| *sum.0.entry(name).or_default() += loss / batches as f64);
            sum.1.accumulate(gradients);
        }
        if batches > 1 {
            sum.1.scale(1.0 / batches as f32);
        }
        Ok(sum)
    }

    /// Makes the evaluations that are due; where the first one is better than ever, exports the model to `best`.
    fn evaluate(&mut self, last: bool, observer: &mut Observer) -> Result<(), TrainError> {
        for (i, eval) in self.recipe.eval.clone().iter().enumerate() {
            if !last && !self.state.epoch.is_multiple_of(eval.every_epochs) {
                continue;
            }
            let metrics =
                average::in_place_of(&self.average, || self.objective.evaluate(&self.recipe, eval))?;
            let main = metrics.get(eval.kind.main_metric()).copied();
            let record =
                EvalRecord { step: self.state.step, epoch: self.state.epoch, eval: eval.name(), metrics };
            self.log.write(&record)?;
            self.tell(observer, Event::Eval(&record));
            if i == 0 && main > self.state.best {
                self.state.best = main;
                self.export("best", observer)?;
            }
        }
        self.pace = (Instant::now(), 0);
        Ok(())
    }

    fn save(&mut self, observer: &mut Observer) -> Result<(), TrainError> {
        self.state.log_length = self.log.sync()?;
        let (parameters, average) = (self.objective.parameters(), self.average.as_ref());
        let path = self.checkpoints.save(&self.state, parameters, &self.optimizer, average)?;
        self.tell(observer, Event::Saved(&path));
        self.log.draw()
    }

    fn export(&mut self, name: &str, observer: &mut Observer) -> Result<(), TrainError> {
        let directory = self.recipe.output().join(name);
        average::in_place_of(&self.average, || match self.recipe.export.adapter {
            true => adapter::export(&directory, self.objective.parameters(), &self.recipe),
            false => self.objective.export(&directory, self.recipe.export.dtype),
        })?;
        self.tell(observer, Event::Saved(&directory));
        Ok(())
    }

    fn tell(&mut self, observer: &mut Observer, event: Event) {
        self.stopping |= observer(event).is_break();
    }

    /// The model and its losses.
    pub fn objective(&self) -> &O {
        &self.objective
    }

    /// Where batches come from.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Number of values that learn.
    pub fn trained(&self) -> usize {
        self.optimizer.trained()
    }

    /// Steps of the whole run and steps taken.
    pub fn progress(&self) -> (u64, u64) {
        (self.schedule.total_steps, self.state.step)
    }
}
