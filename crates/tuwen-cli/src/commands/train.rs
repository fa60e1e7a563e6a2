//! `tuwen train RECIPE.toml`: training of CLIP or BLIP, or fine-tuning for classification, by a recipe.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::json;
use tuwen_data::loader::Share;
use tuwen_eval::metrics::is_count;
use tuwen_train::memory::Plan;
use tuwen_train::{
    BatchSource, Event, Metrics, Objective, Outcome, Recipe, Sources, Start, StepRecord, TrainError, Trainer,
    recipe, setup,
};

use crate::console::{Console, Progress};
use crate::failure::{Failure, Status};
use crate::interrupt::stop_on_interrupt;
use crate::{data_check, memory, stores};

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
    /// Train though the memory will hardly suffice
    #[arg(long)]
    force: bool,
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
        let allowed = |plan: &Plan| self.check_memory(plan, console);
        match recipe.train.objective {
            recipe::Objective::Contrastive => {
                let trainer = setup::contrastive(recipe, &sources, start, &allowed).map_err(explain)?;
                self.go(trainer, &output, console)
            }
            recipe::Objective::Classification => {
                let trainer = setup::classification(recipe, &sources, start).map_err(explain)?;
                self.go(trainer, &output, console)
            }
            recipe::Objective::Albef if recipe.albef.task == recipe::AlbefLearns::Vqa => {
                let trainer = setup::albef_vqa(recipe, &sources, start, &allowed).map_err(explain)?;
                self.go(trainer, &output, console)
            }
            recipe::Objective::Albef => {
                let trainer = setup::albef(recipe, &sources, start, &allowed).map_err(explain)?;
                self.go(trainer, &output, console)
            }
            recipe::Objective::Blip if recipe.blip.task == recipe::Task::Nlvr2 => {
                let trainer = setup::nlvr2(recipe, &sources, start, &allowed).map_err(explain)?;
                self.go(trainer, &output, console)
            }
            recipe::Objective::Blip => {
                let trainer = setup::blip(recipe, &sources, start, &allowed).map_err(explain)?;
                self.go(trainer, &output, console)
            }
        }
    }

    /// Runs what is set up.
    fn go<O: Objective, D: BatchSource<Batch = O::Batch>>(
        &self,
        mut trainer: Trainer<O, D>,
        output: &Path,
        console: &Console,
    ) -> Result<Status, Failure> {
        say_shares(&trainer.data().shares(), console);
        let (total, done) = trainer.progress();
        let parameters = trainer.objective().parameters().total();
        let trained = trainer.trained();
        let learn = if trained == parameters { String::new() } else { format!(", {trained} learn") };
        console
            .note(format!("{parameters} parameters{learn}, {total} steps, output in {}", output.display()));
        if done == 0 {
            trainer.objective().notes().iter().for_each(|note| console.note(note));
        }
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

    /// Says how much memory the run will take, and refuses it where there is less.
    fn check_memory(&self, plan: &Plan, console: &Console) -> Result<(), TrainError> {
        let needed = plan.estimate()?.total();
        let Some(available) = memory::available() else { return Ok(()) };
        if needed <= available {
            let [needed, available] = [needed, available].map(|bytes| bytes as f64 / 1e9);
            console.note(format_args!("about {needed:.1} GB of memory, {available:.1} GB are available"));
            return Ok(());
        }
        let error = TrainError::Memory { needed, available, advice: plan.advice(available)? };
        if self.force {
            console.warn(format_args!("warning: {error}"));
            return Ok(());
        }
        Err(error)
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
        TrainError::Memory { ref advice, .. } => {
            let hint = format!("{advice}; --force trains all the same");
            Failure::usage(error).hint(hint)
        }
        error if is_full_disk(&error) => {
            Failure::from(error).hint("make room; `--resume` goes on from the newest checkpoint")
        }
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
        | TrainError::Classes(_)
        | TrainError::UnknownClass { .. }
        | TrainError::Eval { .. }) => Failure::usage(error),
        error @ (TrainError::Load(_) | TrainError::Checkpoint(_)) => Failure::model(error),
        error => error.into(),
    }
}

/// Whether there is no room for what is to be written.
fn is_full_disk(error: &TrainError) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let causes =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |cause| cause.source());
    let mut kinds = causes.filter_map(|cause| Some(cause.downcast_ref::<std::io::Error>()?.kind()));
    kinds.any(|kind| matches!(kind, FileTooLarge | QuotaExceeded | StorageFull))
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
    let shown = |(name, value): (&String, &f64)| {
        let digits = if is_count(name) { 0 } else { 2 };
        format!("{name} {value:.digits$}")
    };
    metrics.iter().map(shown).collect::<Vec<_>>().join("  ")
}
