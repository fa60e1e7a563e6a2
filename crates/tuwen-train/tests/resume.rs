//! A run that is interrupted and resumed is the run that was not interrupted.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;
use tuwen_nn::{Init, Linear, Parameters, Pass, Scope};
use tuwen_tensor::{Tensor, ops};
use tuwen_train::recipe::{Eval, ExportType};
use tuwen_train::{
    BatchSource, Event, Loss, Metrics, Objective, Outcome, Recipe, Settings, Start, TrainError, Trainer,
};

/// A linear map that learns to halve its input.
struct Halving {
    linear: Linear,
    parameters: Parameters,
}

impl Halving {
    fn new() -> Self {
        let scope = Scope::init(7);
        let linear = Linear::new(3, 3, Init::Normal(0.5), Init::ZEROS, &scope.enter("linear"));
        Self { linear, parameters: scope.finish().expect("nothing is loaded") }
    }
}

impl Objective for Halving {
    type Batch = Tensor;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> Settings {
        recipe.optimizer_settings(false)
    }

    fn losses(&self, batch: &Tensor, _: &Pass) -> Result<Vec<Loss>, TrainError> {
        let error = ops::add(&self.linear.forward(batch), &ops::scale(batch, -0.5));
        Ok(vec![("squares", ops::sum(&ops::mul(&error, &error)))])
    }

    fn evaluate(&self, _: &Recipe, _: &Eval) -> Result<Metrics, TrainError> {
        let norm = self.parameters.iter().map(|entry| f64::from(ops::sum(&entry.param.value()).item())).sum();
        Ok(BTreeMap::from([("mean_recall".to_owned(), norm)]))
    }

    fn export(&self, directory: &Path, _: ExportType) -> Result<(), TrainError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| TrainError::Io { path: directory.to_owned(), source })
    }
}

struct Numbers;

impl BatchSource for Numbers {
    type Batch = Tensor;

    fn batches_per_epoch(&self) -> u64 {
        5
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<Tensor, TrainError>>> {
        Box::new((first..5).map(move |batch| {
            let values: Vec<f32> =
                (0..6).map(|i| ((epoch * 30 + batch * 6 + i) as f32 * 0.7).sin()).collect();
            Ok(Tensor::new(&values, &[2, 3]))
        }))
    }

    fn failures(&self) -> u64 {
        0
    }
}

fn recipe(directory: &Path, epochs: u64) -> Recipe {
    let text = format!(
        r#"
        output = "out"
        model = {{ preset = "none" }}
        data = [{{ path = "none" }}]
        train = {{ batch_size = 2, epochs = {epochs}, checkpoint_every = 3, log_every = 1 }}
        optimizer = {{ lr = 0.05, warmup_steps = 2, grad_clip_norm = 1.0 }}
        eval = [{{ kind = "retrieval", path = "dev", every_epochs = 2 }}]
        "#
    );
    let path = directory.join("recipe.toml");
    std::fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

fn trainer(directory: &Path, start: Start) -> Trainer<Halving, Numbers> {
    Trainer::new(recipe(directory, 4), Halving::new(), Numbers, start).expect("a trainer")
}

/// The log without what depends on the clock.
fn log(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("out/log.jsonl")).expect("a log");
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a whole line");
        value.as_object_mut().expect("an object").remove("images_per_second");
        value
    };
    text.lines().map(line).collect()
}

fn weights(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("out/checkpoints/step-00000020/weights.safetensors")).expect("final weights")
}

#[test]
fn it_goes_on_bit_for_bit_wherever_it_was_dropped() {
    let whole = tempfile::tempdir().expect("a directory");
    let outcome = trainer(whole.path(), Start::Anew).run(&mut |_| ControlFlow::Continue(())).expect("runs");
    assert_eq!(outcome, Outcome::Finished);
    let expected = log(whole.path());
    // Twenty steps; evaluations after the second and fourth epoch.
    assert_eq!(expected.len(), 22);
    assert!(expected[10]["eval"] == "dev" && expected[21]["eval"] == "dev");
    let (first, last) = (&expected[0]["loss"], &expected[20]["loss"]);
    assert!(last.as_f64() < first.as_f64(), "it learns: {first} to {last}");
    for stop in 1..20 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut run = trainer(directory.path(), Start::Anew);
        for _ in 0..stop {
            run.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
        }
        drop(run);
        let mut run = trainer(directory.path(), Start::ResumeIfPossible);
        run.run(&mut |_| ControlFlow::Continue(())).expect("runs");
        assert_eq!(log(directory.path()), expected, "dropped after step {stop}");
        assert_eq!(weights(directory.path()), weights(whole.path()), "dropped after step {stop}");
    }
}

#[test]
fn a_wish_to_stop_saves_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut stop_at_4 = |event: Event| match event {
        Event::Step { record, .. } if record.step == 4 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let outcome = trainer(directory.path(), Start::Anew).run(&mut stop_at_4).expect("runs");
    assert_eq!(outcome, Outcome::Interrupted);
    let mut first = None;
    let mut run = trainer(directory.path(), Start::Resume);
    run.advance(&mut |event| {
        if let Event::Step { record, total_steps } = event {
            first = Some((record.step, total_steps));
        }
        ControlFlow::Continue(())
    })
    .expect("a step");
    assert_eq!(first, Some((5, 20)));
}

#[test]
fn two_checkpoints_stay_and_rubble_is_ignored() {
    let directory = tempfile::tempdir().expect("a directory");
    let checkpoints = directory.path().join("out/checkpoints");
    std::fs::create_dir_all(checkpoints.join(".step-00000007.building")).expect("rubble");
    std::fs::write(checkpoints.join(".step-00000007.building/weights.safetensors"), "half").expect("rubble");
    trainer(directory.path(), Start::Anew).run(&mut |_| ControlFlow::Continue(())).expect("runs");
    let mut names: Vec<_> = std::fs::read_dir(&checkpoints)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names, ["step-00000018", "step-00000020"]);
}

#[test]
fn what_cannot_go_on_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = |epochs, start| {
        Trainer::new(recipe(directory.path(), epochs), Halving::new(), Numbers, start).map(|_| ())
    };
    let message = |result: Result<(), TrainError>| result.expect_err("an error").to_string();
    assert!(message(start(4, Start::Resume)).contains("no checkpoint to resume from"));
    trainer(directory.path(), Start::Anew).run(&mut |_| ControlFlow::Continue(())).expect("runs");
    assert!(message(start(4, Start::Anew)).contains("resume it, or choose another"));
    let changed = message(start(5, Start::Resume));
    assert!(changed.contains("train.epochs: 4 -> 5") && !changed.contains('\n'), "{changed}");
}
