//! A run that is interrupted and resumed is the run that was not interrupted.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;
use tuwen_nn::{Init, Linear, Parameters, Pass, Scope};
use tuwen_tensor::checkpoint::TensorSource;
use tuwen_tensor::{Tensor, ops};
use tuwen_train::recipe::{Eval, ExportType};
use tuwen_train::{
    BatchSource, Event, Loss, Metrics, Objective, Outcome, Recipe, Settings, Start, TrainError, Trainer,
};

/// Two linear maps, called as those of an image tower, that learn to halve their input.
struct Halving {
    layer: Linear,
    projection: Linear,
    parameters: Parameters,
}

impl Halving {
    fn new(recipe: &Recipe) -> Self {
        let lora = recipe.lora.iter().map(|lora| lora.config());
        let scope = lora.fold(Scope::init(7), |scope, config| scope.with_lora(config, 8));
        let linear = |path| Linear::new(3, 3, Init::Normal(0.5), Init::ZEROS, &scope.enter(path));
        let (layer, projection) = (linear("vision_model.encoder.layers.0.fc1"), linear("visual_projection"));
        Self { layer, projection, parameters: scope.finish().expect("nothing is loaded") }
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
        let halved = self.projection.forward(&self.layer.forward(batch));
        let error = ops::add(&halved, &ops::scale(batch, -0.5));
        Ok(vec![("squares", ops::sum(&ops::mul(&error, &error)))])
    }

    fn evaluate(&self, _: &Recipe, _: &Eval) -> Result<Metrics, TrainError> {
        let norm = self.parameters.iter().map(|entry| f64::from(ops::sum(&entry.param.value()).item())).sum();
        Ok(BTreeMap::from([("mean_recall".to_owned(), norm)]))
    }

    /// Writes the plain values of the projection.
    fn export(&self, directory: &Path, _: ExportType) -> Result<(), TrainError> {
        let fault = |source| TrainError::Io { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(fault)?;
        let values = self.parameters.read("visual_projection.weight")?.data.into_owned();
        std::fs::write(directory.join("projection"), values).map_err(fault)
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
    recipe_with(directory, epochs, ["", ""])
}

/// With more keys: of the whole, and of `[train]` after a comma.
fn recipe_with(directory: &Path, epochs: u64, [keys, train]: [&str; 2]) -> Recipe {
    let text = format!(
        r#"
        output = "out"
        model = {{ init_from = "none" }}
        {keys}
        data = [{{ path = "none" }}]
        train = {{ batch_size = 2, epochs = {epochs}, checkpoint_every = 3, log_every = 1{train} }}
        optimizer = {{ lr = 0.05, warmup_steps = 2, grad_clip_norm = 1.0 }}
        eval = [{{ kind = "retrieval", path = "dev", every_epochs = 2 }}]
        "#
    );
    let path = directory.join("recipe.toml");
    std::fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

fn train(recipe: Recipe, start: Start) -> Result<Trainer<Halving, Numbers>, TrainError> {
    let objective = Halving::new(&recipe);
    Trainer::new(recipe, objective, Numbers, start)
}

fn trainer(directory: &Path, start: Start) -> Trainer<Halving, Numbers> {
    train(recipe(directory, 4), start).expect("a trainer")
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

/// Five batches an epoch are two steps of two; the fifth is left out.
#[test]
fn a_step_of_two_batches_is_one_of_their_mean() {
    let run = |stop: u64| {
        let directory = tempfile::tempdir().expect("a directory");
        let start = |start| {
            train(recipe_with(directory.path(), 2, ["", ", accumulate_steps = 2"]), start).expect("a trainer")
        };
        let mut first = start(Start::Anew);
        for _ in 0..stop {
            first.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
        }
        drop(first);
        start(Start::ResumeIfPossible).run(&mut |_| ControlFlow::Continue(())).expect("runs");
        log(directory.path())
    };
    let whole = run(0);
    let steps: Vec<&Value> = whole.iter().filter(|line| line["loss"].is_number()).collect();
    assert_eq!(steps.len(), 4);
    assert_eq!((&steps[1]["epoch"], &steps[2]["epoch"]), (&0.into(), &1.into()));
    for stop in 1..4 {
        assert_eq!(run(stop), whole, "dropped after step {stop}");
    }

    let directory = tempfile::tempdir().expect("a directory");
    let halving = Halving::new(&recipe(directory.path(), 2));
    let loss = |epoch: u64, batch: u64| {
        let batch = Numbers.epoch(epoch, batch).next().expect("a batch").expect("whole");
        let losses = halving.losses(&batch, &Pass::train()).expect("computed");
        f64::from(losses[0].1.item())
    };
    let expected = (loss(0, 0) + loss(0, 1)) / 2.0;
    assert!((steps[0]["loss"].as_f64().expect("a number") - expected).abs() < 1e-6);
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
    let start = |epochs, start| train(recipe(directory.path(), epochs), start).map(|_| ());
    let message = |result: Result<(), TrainError>| result.expect_err("an error").to_string();
    assert!(message(start(4, Start::Resume)).contains("no checkpoint to resume from"));
    trainer(directory.path(), Start::Anew).run(&mut |_| ControlFlow::Continue(())).expect("runs");
    assert!(message(start(4, Start::Anew)).contains("resume it, or choose another"));
    let changed = message(start(5, Start::Resume));
    assert!(changed.contains("train.epochs: 4 -> 5") && !changed.contains('\n'), "{changed}");
}

/// What a checkpoint holds, by the name of its file, and what was exported at the end.
fn outcome(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let read =
        |path: &str| (path.to_owned(), std::fs::read(directory.join("out").join(path)).unwrap_or_default());
    let checkpoint = "checkpoints/step-00000020";
    let files = ["weights", "optimizer", "average"].map(|file| format!("{checkpoint}/{file}.safetensors"));
    files.iter().map(String::as_str).chain(["final/projection", "best/projection"]).map(read).collect()
}

const LOCK: [&str; 2] = ["lock = { vision = { unlocked_layers = 1 } }", ""];
const LORA: [&str; 2] = [
    "lora = { r = 2, lora_alpha = 4, target_modules = [\"fc1\", \"visual_projection\"] }",
    ", ema_decay = 0.9",
];
const EMA: [&str; 2] = ["", ", ema_decay = 0.9, ema_warmup = true"];

#[test]
fn with_locks_adapters_and_averages_too() {
    for keys in [LOCK, LORA, EMA] {
        let whole = tempfile::tempdir().expect("a directory");
        let run = |directory: &Path, steps: u64, start| {
            let mut trainer = train(recipe_with(directory, 4, keys), start).expect("a trainer");
            for _ in 0..steps {
                trainer.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
            }
            if steps == 0 {
                trainer.run(&mut |_| ControlFlow::Continue(())).expect("runs");
            }
        };
        run(whole.path(), 0, Start::Anew);
        let (lines, files) = (log(whole.path()), outcome(whole.path()));
        let loss = |line: &Value| line["loss"].as_f64().expect("a loss");
        assert!(loss(&lines[20]) < loss(&lines[0]), "{keys:?} learns");
        for stop in [1, 3, 7, 11, 12, 19] {
            let directory = tempfile::tempdir().expect("a directory");
            run(directory.path(), stop, Start::Anew);
            // There is nothing to resume before the first checkpoint.
            run(directory.path(), 0, if stop < 3 { Start::ResumeIfPossible } else { Start::Resume });
            assert_eq!(log(directory.path()), lines, "{keys:?} dropped after step {stop}");
            assert_eq!(outcome(directory.path()), files, "{keys:?} dropped after step {stop}");
        }
    }
}

#[test]
fn a_checkpoint_holds_what_changes() {
    let names = |keys| {
        let directory = tempfile::tempdir().expect("a directory");
        let mut run = train(recipe_with(directory.path(), 4, keys), Start::Anew).expect("a trainer");
        run.run(&mut |_| ControlFlow::Continue(())).expect("runs");
        let path = directory.path().join("out/checkpoints/step-00000020/weights.safetensors");
        tuwen_tensor::checkpoint::open(&path).expect("opened").names()
    };
    assert_eq!(names(LOCK), ["visual_projection.bias", "visual_projection.weight"]);
    let factors = |path: &str| ["A", "B"].map(|factor| format!("{path}.lora_{factor}.weight"));
    assert_eq!(
        names(LORA),
        [factors("vision_model.encoder.layers.0.fc1"), factors("visual_projection")].concat()
    );
    assert_eq!(names(EMA).len(), 4);
}

#[test]
fn the_average_is_what_is_exported() {
    let projection = |keys| {
        let directory = tempfile::tempdir().expect("a directory");
        let mut run = train(recipe_with(directory.path(), 4, keys), Start::Anew).expect("a trainer");
        run.run(&mut |_| ControlFlow::Continue(())).expect("runs");
        let exported = std::fs::read(directory.path().join("out/final/projection")).expect("exported");
        let raw =
            run.objective().parameters.read("visual_projection.weight").expect("there").data.into_owned();
        (exported, raw)
    };
    let (exported, raw) = projection(EMA);
    assert_ne!(exported, raw);
    assert_eq!(projection(["", ""]), (raw.clone(), raw), "the average does not change the run");
}

#[test]
fn what_does_not_learn_must_not_have_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let recipe = || recipe_with(directory.path(), 4, LOCK);
    train(recipe(), Start::Anew).expect("a trainer").run(&mut |_| ControlFlow::Continue(())).expect("runs");
    let changed = Halving::new(&recipe());
    changed.parameters.iter().next().expect("a layer").param.assign(&Tensor::full(0.5, &[3]));
    let resumed = Trainer::new(recipe(), changed, Numbers, Start::Resume).map(|_| ());
    let message = resumed.expect_err("another base").to_string();
    assert!(message.contains("model.init_from holds other weights"), "{message}");
    let message = |keys| {
        let recipe = recipe_with(directory.path(), 4, keys);
        train(recipe, Start::ResumeIfPossible).map(|_| ()).expect_err("wrong").to_string()
    };
    for (keys, expected) in [
        (
            "lock = { vision = { unlocked_layers = 3 } }",
            "[lock] vision.unlocked_layers is 3; the tower has 2 groups",
        ),
        ("lock = { text = {} }", "[lock] text: the network has no such tower"),
        ("lock = { vision = {} }", "nothing is left to learn"),
        (
            "lora = { target_modules = [\"fc3\"] }",
            "no linear layer is called \"fc3\"; known are fc1, visual_projection",
        ),
        (
            "lora = { modules_to_save = [\"head\"], target_modules = [\"fc1\"] }",
            "nothing in the network is called \"head\"",
        ),
        ("lock = { vision = { unlocked_layers = 2 } }", "lock.vision.unlocked_layers: 1 -> 2"),
        ("lora = { target_modules = [\"fc1\"] }", "lora: null -> "),
    ] {
        let message = message([keys, ""]);
        assert!(message.contains(expected) && !message.contains('\n'), "{message}");
    }
    let averaged = message([LOCK[0], ", ema_decay = 0.99"]);
    assert!(averaged.contains("train.ema_decay: null -> 0.99"), "{averaged}");
}
