//! `tuwen train RECIPE.toml`: contrastive pre-training by a recipe.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::json;
use tuwen_data::loader::Share;
use tuwen_train::{Event, Metrics, Outcome, Recipe, Sources, Start, StepRecord, TrainError, setup};

use crate::console::{Console, Progress};
use crate::failure::{Failure, Status};
use crate::interrupt::stop_on_interrupt;
use crate::{data_check, stores};

/// Steps over which the loss beside the progress bar is averaged.
const SMOOTHING: f64 = 50.0;

/// Train a model by a recipe.
#[derive(Args)]
pub struct Train {
    /// The recipe: everything that decides the run, in TOML
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Go on from the newest checkpoint in the output directory
    #[arg(long)]
    resume: bool,
    /// Look at every sample of the training data, print what is wrong, and train nothing; exits with 1 if anything is
    #[arg(long, conflicts_with = "resume")]
    check: bool,
}

impl Train {
    /// Runs until the last step, or until the user interrupts; both leave a checkpoint.
    pub fn run(&self, console: &Console) -> Result<Status, Failure> {
        let mut recipe = Recipe::read(&self.recipe).map_err(Failure::usage)?;
        recipe.access = stores::access();
        let output = recipe.output();
        // A run that was killed before its first checkpoint goes on from the first step.
        let start = if self.resume { Start::ResumeIfPossible } else { Start::Anew };
        console.note("reading the data");
        let sources = Sources::open(&recipe).map_err(Failure::usage)?;
        if self.check {
            return data_check::complete(&sources, console);
        }
        data_check::quick(&sources, console)?;
        let mut trainer = setup::contrastive(recipe, &sources, start).map_err(explain)?;
        say_shares(&trainer.data().shares(), console);
        let (total, done) = trainer.progress();
        let parameters = trainer.objective().parameter_count();
        let trained = trainer.trained();
        let learn = if trained == parameters { String::new() } else { format!(", {trained} learn") };
        console
            .note(format!("{parameters} parameters{learn}, {total} steps, output in {}", output.display()));
        match (self.resume, done) {
            (true, 0) => console.note("no checkpoint yet: from the first step"),
            (true, _) => console.note(format!("from step {done} on")),
            (false, _) => {}
        }
        let stop = stop_on_interrupt()?;
        let mut progress = console.progress(total, "steps");
        progress.resume_at(done);
        let mut display = Display { console, progress, loss: None, failure: None };
        let outcome = trainer.run(&mut |event| {
            display.show(&event);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let Display { progress, failure, .. } = display;
        drop(progress);
        let outcome = outcome.map_err(explain)?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let failed = trainer.data().failed_samples();
        for sample in &failed {
            console.warn(sample);
        }
        match outcome {
            Outcome::Finished => console.note(format!("the model is in {}", output.join("final").display())),
            Outcome::Interrupted => {
                console.note(format!("stopped; go on with: tuwen train {} --resume", self.recipe.display()))
            }
        }
        Ok(Status::after(failed.len()))
    }
}

/// Says what each of several sources gives to an epoch.
fn say_shares(shares: &[Share], console: &Console) {
    let all: usize = shares.iter().map(|share| share.per_epoch).sum();
    for Share { dataset, samples, per_epoch } in shares.iter().filter(|_| shares.len() > 1) {
        let percent = 100.0 * *per_epoch as f64 / all as f64;
        console
            .note(format!("{dataset}: {samples} samples, {per_epoch} in each epoch ({percent:.0} % of it)"));
    }
}

fn explain(error: TrainError) -> Failure {
    match error {
        error @ TrainError::OutputInUse(_) => {
            Failure::usage(error).hint("add --resume, or change `output` in the recipe")
        }
        error @ (TrainError::Recipe { .. }
        | TrainError::RecipeChanged { .. }
        | TrainError::UnusedGroup(_)
        | TrainError::Lora(_)
        | TrainError::Lock(_)
        | TrainError::AllFrozen
        | TrainError::Adapter(_)
        | TrainError::NothingToResume(_)
        | TrainError::TooLittleData { .. }
        | TrainError::Model(_)
        | TrainError::Data(_)
        | TrainError::Tokenizer(_)
        | TrainError::Eval { .. }) => Failure::usage(error),
        error @ (TrainError::Load(_) | TrainError::Checkpoint(_)) => Failure::model(error),
        error => error.into(),
    }
}

/// Tells of a run: one line for each evaluation, steps on the bar; with `--json` an object for each logged line.
struct Display<'c> {
    console: &'c Console,
    progress: Progress<'c>,
    /// The running mean of the loss.
    loss: Option<f64>,
    failure: Option<Failure>,
}

impl Display<'_> {
    fn show(&mut self, event: &Event) {
        let printed = match event {
            Event::Step { record, .. } => {
                self.step(record);
                Ok(())
            }
            Event::Logged(record) if self.console.json => self.console.print(json!(record)),
            Event::Eval(record) if self.console.json => self.console.print(json!(record)),
            Event::Eval(record) => {
                let metrics = table(&record.metrics);
                self.console.print(format!("epoch {:>3}  {}  {metrics}", record.epoch, record.eval))
            }
            Event::Logged(_) | Event::Saved(_) => Ok(()),
        };
        // The run goes on though nobody reads; what was lost is said at the end.
        if let Err(failure) = printed {
            self.failure.get_or_insert(failure);
        }
    }

    fn step(&mut self, record: &StepRecord) {
        let loss = self.loss.map_or(record.loss, |loss| loss + (record.loss - loss) / SMOOTHING);
        self.loss = Some(loss);
        self.progress.advance(1);
        let message =
            format!("loss {loss:.3}  lr {:.1e}  {:.0} images/s", record.lr, record.images_per_second);
        self.progress.message(message);
    }
}

fn table(metrics: &Metrics) -> String {
    metrics.iter().map(|(name, value)| format!("{name} {value:.2}")).collect::<Vec<_>>().join("  ")
}
