//! A run of everything at once: it goes on bit for bit, learns, and exports what loads.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};
use tuwen::{GroundedFiles, GroundedNetwork, Options};
use tuwen_train::{Grounded, GroundedData, Outcome, Recipe, Sources, Start, Trainer, setup};

const COLOURS: [(&str, [u8; 3]); 4] =
    [("red", [200, 30, 30]), ("green", [20, 180, 40]), ("blue", [30, 40, 210]), ("white", [240, 240, 240])];

/// Coloured squares, the right or the left half of which is black, with captions and questions.
pub fn write_pictures(folder: &Path) {
    fs::create_dir_all(folder).expect("created");
    for (number, (colour, pixel)) in COLOURS.into_iter().enumerate() {
        for (side, name) in ["left", "right"].into_iter().enumerate() {
            let pixels: Vec<u8> = (0..16 * 16)
                .flat_map(|i| if (i % 16 < 8) == (side == 0) { pixel } else { [0, 0, 0] })
                .collect();
            let path = folder.join(format!("{number}-{side}.png"));
            let mut encoder = png::Encoder::new(fs::File::create(path).expect("created"), 16, 16);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().expect("written").write_image_data(&pixels).expect("written");
            let text = json!({
                "captions": [format!("a {colour} half on the {name}"), format!("{colour} is {name}")],
                "qa": [{"question": "what color?", "answer": colour}, {"question": "where is it?", "answers": [name]}],
            });
            fs::write(folder.join(format!("{number}-{side}.json")), text.to_string()).expect("written");
        }
    }
}

pub fn write_vocabulary(path: &Path) {
    let mut tokens: Vec<String> = (0..104).map(|id| format!("[unused{id}]")).collect();
    for (id, token) in [(0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]")] {
        tokens[id] = token.to_owned();
    }
    let words = "a half on the is it what where color red green blue white left right ? . [DEC]";
    tokens.extend(words.split(' ').map(str::to_owned));
    tokens.extend(('a'..='z').flat_map(|letter| [letter.to_string(), format!("##{letter}")]));
    fs::write(path, tokens.join("\n")).expect("written");
}

/// A recipe in a directory with its pictures; `train` and `blip` are appended.
pub fn recipe_of(directory: &Path, epochs: u64, [train, blip]: [&str; 2]) -> Recipe {
    write_pictures(&directory.join("pictures"));
    write_vocabulary(&directory.join("vocab.txt"));
    let text = format!(
        r#"
        seed = 5
        output = "out"
        data = [{{ path = "pictures" }}]
        tokenizer = {{ from = "vocab.txt", train_vocab_size = 200 }}
        augment = {{ fit = "squash", translate = 0.05 }}
        train = {{ objective = "blip", batch_size = 4, epochs = {epochs}, checkpoint_every = 3, log_every = 1{train} }}
        optimizer = {{ lr = 0.003, warmup_steps = 2 }}
        blip = {{ {blip} }}
        export = {{ dtype = "int8" }}
        eval = [
            {{ kind = "retrieval", path = "pictures", every_epochs = 2 }},
            {{ kind = "caption", path = "pictures", every_epochs = 2, name = "caption" }},
            {{ kind = "vqa", path = "pictures", every_epochs = 2, name = "vqa" }},
            {{ kind = "matching", path = "pictures", every_epochs = 2, name = "matching" }},
            {{ kind = "loss", path = "pictures", every_epochs = 2, name = "loss" }},
        ]
        [model]
        projection_dim = 16
        initializer_range = 0.1
        vision = {{ kind = "vit", hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, image_size = 16, patch_size = 8 }}
        text = {{ hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, max_position_embeddings = 16 }}
        "#
    );
    let path = directory.join("recipe.toml");
    fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

fn trainer(recipe: Recipe, start: Start) -> Trainer<Grounded, GroundedData> {
    let sources = Sources::open(&recipe).expect("data");
    setup::blip(recipe, &sources, start, &|_| Ok(())).expect("a trainer")
}

pub fn log(directory: &Path) -> Vec<Value> {
    let text = fs::read_to_string(directory.join("out/log.jsonl")).expect("a log");
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a whole line");
        value.as_object_mut().expect("an object").remove("images_per_second");
        value
    };
    text.lines().map(line).collect()
}

const EVERYTHING: [&str; 2] = [
    ", micro_batch_size = 2",
    "vqa = 1.0, texts_per_image = 2, dropout = 0.2, momentum = 0.9, queue_size = 8, alpha = 0.3",
];

#[test]
fn it_goes_on_bit_for_bit_wherever_it_was_dropped() {
    let whole = tempfile::tempdir().expect("a directory");
    let outcome =
        trainer(recipe_of(whole.path(), 4, EVERYTHING), Start::Anew).run(&mut |_| ControlFlow::Continue(()));
    assert_eq!(outcome.expect("runs"), Outcome::Finished);
    let expected = log(whole.path());
    let export = |directory: &Path| fs::read(directory.join("out/final/model.safetensors")).expect("a model");
    for stop in [1, 3, 5, 7] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut run = trainer(recipe_of(directory.path(), 4, EVERYTHING), Start::Anew);
        for _ in 0..stop {
            run.advance(&mut |_| ControlFlow::Continue(())).expect("a step");
        }
        drop(run);
        let again = recipe_of(directory.path(), 4, EVERYTHING);
        trainer(again, Start::ResumeIfPossible).run(&mut |_| ControlFlow::Continue(())).expect("runs");
        assert_eq!(log(directory.path()), expected, "dropped after step {stop}");
        assert!(export(directory.path()) == export(whole.path()), "after step {stop}");
    }
    let checkpointing = [", micro_batch_size = 2, gradient_checkpointing = true", EVERYTHING[1]];
    let directory = tempfile::tempdir().expect("a directory");
    let run = trainer(recipe_of(directory.path(), 4, checkpointing), Start::Anew)
        .run(&mut |_| ControlFlow::Continue(()));
    assert_eq!(run.expect("runs"), Outcome::Finished);
    // Gradients of what encoder and decoder share are summed in another order.
    for (got, expected) in
        log(directory.path()).iter().zip(&expected).filter(|(line, _)| line["loss"].is_number())
    {
        let [got, expected] = [got, expected].map(|line| line["loss"].as_f64().expect("a loss"));
        assert!((got - expected).abs() <= 1e-3 * expected, "{got} {expected}");
    }
}

#[test]
fn matching_begins_when_it_is_told_to() {
    let place = tempfile::tempdir().expect("a directory");
    let recipe = recipe_of(place.path(), 3, ["", "vqa = 1.0, itm_start_epoch = 1"]);
    trainer(recipe, Start::Anew).run(&mut |_| ControlFlow::Continue(())).expect("runs");
    let learnt: Vec<(u64, bool)> = log(place.path())
        .iter()
        .filter(|line| line["losses"].is_object())
        .map(|line| (line["epoch"].as_u64().expect("a number"), line["losses"]["itm"].is_number()))
        .collect();
    assert_eq!(learnt, [(0, false), (0, false), (1, true), (1, true), (2, true), (2, true)]);
}

#[test]
fn what_is_learnt_is_exported_and_loads() {
    let place = tempfile::tempdir().expect("a directory");
    let recipe = recipe_of(place.path(), 120, ["", "vqa = 1.0, texts_per_image = 2, dropout = 0.0"]);
    trainer(recipe, Start::Anew).run(&mut |_| ControlFlow::Continue(())).expect("runs");
    let lines = log(place.path());
    let metrics = |name: &str| {
        let line = lines.iter().rev().find(|line| line["eval"] == name).expect("an evaluation");
        line["metrics"].clone()
    };
    let number = |eval: &str, name: &str| metrics(eval)[name].as_f64().expect("a number");
    for (eval, metric, limit) in [
        ("pictures", "mean_recall", 75.0),
        ("caption", "bleu_4", 60.0),
        // Half of the questions are answered by guessing well.
        ("vqa", "accuracy", 60.0),
    ] {
        assert!(number(eval, metric) > limit, "{eval}: {}", metrics(eval));
    }
    // To tell left from right beside an image takes longer than a test has.
    assert!(number("matching", "itm_accuracy") >= 50.0, "{}", metrics("matching"));
    assert!(number("loss", "lm") < 1.5 && number("loss", "negative_loss") < 0.0, "{}", metrics("loss"));
    let directory = place.path().join("out/final");
    let files = GroundedFiles::open(&directory.to_string_lossy(), &Options::default()).expect("opens");
    assert!(files.tokenizer.is_some());
    let GroundedNetwork::Blip(blip) = files.load().expect("loads") else { panic!("a BLIP") };
    assert!(blip.captioner().is_some() && blip.answerer().is_some() && blip.matcher().is_some());
}
