//! Runs that begin as a network that was made for another task.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use tuwen::{GroundedFiles, Options};
use tuwen_nn::Parameters;
use tuwen_tensor::checkpoint::TensorSource as _;
use tuwen_train::{BatchSource, Objective, Recipe, Sources, Start, TrainError, Trainer, setup};

use crate::golden::case;
use crate::nlvr::write_pairs;
use crate::resume::{recipe_of, write_pictures, write_vocabulary};

/// A recipe that begins as a network.
fn from(directory: &Path, init_from: &Path, [objective, settings, size]: [&str; 3], data: &str) -> Recipe {
    let text = format!(
        r#"
        seed = 5
        output = "out-{objective}-{data}"
        data = [{{ path = "{data}" }}]
        train = {{ objective = "{objective}", batch_size = 4, epochs = 1, log_every = 1 }}
        optimizer = {{ lr = 0.001 }}
        {settings}
        [model]
        init_from = "{}"
        image_size = {size}
        "#,
        init_from.display()
    );
    let path = directory.join("from.toml");
    fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

/// Takes all steps; gives what was said before.
fn run<O: Objective, D: BatchSource<Batch = O::Batch>>(
    trainer: Result<Trainer<O, D>, TrainError>,
) -> Vec<String> {
    let mut trainer = trainer.unwrap_or_else(|error| panic!("{error}"));
    trainer.run(&mut |_| ControlFlow::Continue(())).expect("runs");
    trainer.objective().notes().to_vec()
}

/// Trains a network that begins as another one, for each task of BLIP; gives what was said.
fn all_tasks(directory: &Path, init_from: &Path) -> Vec<(&'static str, Vec<String>)> {
    write_pictures(&directory.join("pictures"));
    write_pairs(directory);
    let tasks = ["caption", "vqa", "retrieval", "nlvr2"];
    tasks
        .map(|task| {
            let data = if task == "nlvr2" { "pairs.json" } else { "pictures" };
            let settings = format!("blip = {{ task = \"{task}\" }}");
            let recipe = from(directory, init_from, ["blip", &settings, "48"], data);
            let _ = fs::remove_dir_all(recipe.output());
            let sources = Sources::open(&recipe).expect("data");
            let said = match task {
                "nlvr2" => run(setup::nlvr2(recipe, &sources, Start::Anew, &|_| Ok(()))),
                _ => run(setup::blip(recipe, &sources, Start::Anew, &|_| Ok(()))),
            };
            (task, said)
        })
        .into()
}

fn check_notes(said: &[(&str, Vec<String>)]) {
    for (task, said) in said {
        assert!(said[0].ends_with("(made for Pretrain)"), "{task}: {said:?}");
        assert!(said[1].starts_with("taken: ") && said[1].contains("vision_model ("), "{task}: {said:?}");
        let drawn = said.iter().find(|line| line.starts_with("drawn anew: "));
        match *task {
            "caption" => assert!(said[1].contains("text_decoder.bert from text_encoder ("), "{said:?}"),
            "nlvr2" => {
                let drawn = drawn.expect("a head");
                assert!(drawn.contains("cls_head.* (4)") && drawn.contains("merge_layer ("), "{drawn}");
            }
            _ => {}
        }
        assert!(
            said.last().is_some_and(|line| line.starts_with("left: ")) || *task == "vqa",
            "{task}: {said:?}"
        );
    }
}

#[test]
fn every_task_begins_as_a_run_of_pre_training() {
    let directory = tempfile::tempdir().expect("a directory");
    let recipe = recipe_of(directory.path(), 1, ["", "vqa = 1.0, dialect = \"salesforce\""]);
    let sources = Sources::open(&recipe).expect("data");
    run(setup::blip(recipe, &sources, Start::Anew, &|_| Ok(())));
    let said = all_tasks(directory.path(), &directory.path().join("out/final"));
    check_notes(&said);
}

#[test]
fn every_task_begins_as_a_file_of_the_original_program() {
    let Some(folder) = case("blip-sf-pretrain-tiny") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let said = all_tasks(directory.path(), &folder.join("model.pth"));
    check_notes(&said);
}

/// A directory of transformers' begins a network for another task: what both have is taken to the bit, and for images of
/// another size positions are interpolated, that of the class token excepted.
#[test]
fn a_directory_of_transformers_begins_another_task() {
    let Some(folder) = case("blip-hf-tiny-itm") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    write_pictures(&directory.path().join("pictures"));
    write_pairs(directory.path());
    // The network has room for 173 ids: without the letters.
    let vocabulary = directory.path().join("vocab.txt");
    write_vocabulary(&vocabulary);
    let words = fs::read_to_string(&vocabulary).expect("read");
    fs::write(&vocabulary, words.lines().take(120).collect::<Vec<_>>().join("\n")).expect("written");
    let read = |image_size: Option<usize>, name: &str| {
        let options = Options { image_size, ..Options::default() };
        let files = GroundedFiles::open(&folder.to_string_lossy(), &options).expect("opens");
        files.weights.read(name).expect(name).to_f32().to_vec()
    };
    let positions = "vision_model.embeddings.position_embedding";
    for (task, size, grid) in [("vqa", 30, 3), ("vqa", 60, 6), ("nlvr2", 50, 5)] {
        let settings = format!("blip = {{ task = \"{task}\" }}\ntokenizer = {{ from = \"vocab.txt\" }}");
        let data = if task == "nlvr2" { "pairs.json" } else { "pictures" };
        let recipe = from(directory.path(), &folder, ["blip", &settings, &size.to_string()], data);
        let _ = fs::remove_dir_all(recipe.output());
        let sources = Sources::open(&recipe).expect("data");
        let check = |parameters: &Parameters, notes: &[String]| {
            let value = |name: &str| parameters.get(name).expect(name).param.value().to_vec();
            let [got, original, resized] =
                [value(positions), read(None, positions), read(Some(size), positions)];
            let width = original.len() / 10;
            assert_eq!(got.len(), (grid * grid + 1) * width, "{task} {size}");
            assert_eq!((&got, &got[..width]), (&resized, &original[..width]), "{task} {size}");
            assert_eq!(got == original, size == 30);
            let taken = "text_encoder.encoder.layer.1.attention.self.query.weight";
            assert_eq!(value(taken), read(None, taken), "{task}");
            assert!(notes[0].ends_with("(made for Retrieval)"), "{notes:?}");
            let drawn = notes.iter().find(|line| line.starts_with("drawn anew: ")).expect("a head is new");
            assert!(drawn.contains(if task == "vqa" { "text_decoder.cls" } else { "cls_head" }), "{drawn}");
        };
        if task == "nlvr2" {
            let trainer = setup::nlvr2(recipe, &sources, Start::Anew, &|_| Ok(())).expect("a trainer");
            check(trainer.objective().blip().parameters(), trainer.objective().notes());
            run(Ok(trainer));
        } else {
            let trainer = setup::blip(recipe, &sources, Start::Anew, &|_| Ok(())).expect("a trainer");
            check(trainer.objective().blip().parameters(), trainer.objective().notes());
            run(Ok(trainer));
        }
    }
}

#[test]
fn albef_begins_to_answer_as_a_file_of_the_original_program() {
    let Some(folder) = case("albef-sf-pretrain-tiny") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    write_pictures(&directory.path().join("pictures"));
    let settings = "albef = { task = \"vqa\" }";
    let recipe = from(directory.path(), &folder.join("model.pth"), ["albef", settings, "48"], "pictures");
    let sources = Sources::open(&recipe).expect("data");
    let said = run(setup::albef_vqa(recipe, &sources, Start::Anew, &|_| Ok(())));
    assert!(
        said[1].contains("text_decoder.bert from text_encoder (")
            && said[1].contains("text_decoder.cls from cls (")
    );
    assert!(said.last().is_some_and(|line| line.starts_with("left: itm_head (2), temp (1)")), "{said:?}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    write_pictures(&directory.path().join("pictures"));
    write_vocabulary(&directory.path().join("vocab.txt"));
    let Some(folder) = case("blip-sf-tiny-itm") else { return };
    let refused = |[objective, settings]: [&str; 2], init_from: &Path| {
        let recipe = from(directory.path(), init_from, [objective, settings, "120"], "pictures");
        let sources = Sources::open(&recipe).expect("data");
        let error = match objective {
            "albef" => setup::albef(recipe, &sources, Start::Anew, &|_| Ok(())).err(),
            _ => setup::blip(recipe, &sources, Start::Anew, &|_| Ok(())).err(),
        };
        error.expect("refused").to_string()
    };
    let error = refused(["albef", ""], &folder.join("model.pth"));
    assert!(error.contains("is a BLIP, [albef] trains ALBEF"), "{error}");
    let Some(folder) = case("blip-sf-nlvr-tiny") else { return };
    let error = refused(["blip", "blip = { task = \"caption\" }"], &folder.join("model.pth"));
    let expected = "(made for Nlvr) cannot begin a network for blip.task = Caption: it lacks text_decoder.";
    assert!(error.contains(expected) && !error.contains('\n'), "{error}");
}
