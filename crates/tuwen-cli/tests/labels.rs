//! Labels and templates from files, and labels that a model cannot know.

mod common;

use std::fs;
use std::path::Path;

use common::{fixtures, json_lines, run, stderr, workplace};

const CLASSIFY: [&str; 4] = ["classify", "red.png", "--model", "model"];

/// What `classify` says on stderr, and its status.
fn said(place: &Path, arguments: &[&str]) -> (i32, String) {
    let output = run(place, &[&CLASSIFY[..], arguments].concat());
    (output.status.code().expect("a status"), stderr(&output))
}

#[test]
fn labels_and_templates_of_a_data_set_are_those_given_one_by_one() {
    let place = workplace();
    let names = r#"{"pets": ["cat", "dog", "cat"], "birds": ["bird"]}"#;
    let templates = r#"{"pets": ["a photo of a {c}.", "the {}"], "birds": []}"#;
    fs::write(place.path().join("names.json"), names).expect("written");
    fs::write(place.path().join("templates.json"), templates).expect("written");
    fs::write(place.path().join("templates.txt"), "a photo of a {c}.\n\nthe {}\n").expect("written");
    let classified = |arguments: &[&str]| json_lines(place.path(), &[&CLASSIFY[..], arguments].concat(), 0);
    let expected =
        classified(&["--labels", "cat,dog", "--template", "a photo of a {}.", "--template", "the {}"]);
    let names = ["--labels-file", "names.json", "--dataset", "pets"];
    for templates in ["templates.json", "templates.txt"] {
        assert_eq!(classified(&[&names[..], &["--templates-file", templates]].concat()), expected);
    }
    let (status, notes) = said(place.path(), &[&names[..], &["--templates-file", "templates.txt"]].concat());
    assert_eq!(status, 0);
    assert!(notes.contains("used once: cat") && notes.contains("1 blank template\n"), "{notes}");
}

#[test]
fn wrong_files_are_usage_errors_in_a_line_and_a_hint() {
    let place = workplace();
    let write = |name: &str, text: &str| fs::write(place.path().join(name), text).expect("written");
    write("names.json", r#"{"pets": ["cat", "dog"], "none": [], "odd": [1]}"#);
    write("templates.json", r#"{"pets": ["a photo"], "none": [], "birds": ["a {}"]}"#);
    write("list.json", "[\"cat\"]");
    write("broken.json", "{\"pets\": [");
    let pets = ["--labels-file", "names.json", "--dataset", "pets"];
    let and = |more: &[&'static str]| [&pets[..], more].concat();
    for (arguments, expected) in [
        (
            vec!["--labels-file", "names.json"],
            "names.json holds 3 data sets\nhint: choose one with --dataset: ",
        ),
        (
            vec!["--labels-file", "names.json", "--dataset", "cars"],
            "names.json has no data set \"cars\"\nhint: it has: ",
        ),
        (vec!["--labels-file", "names.json", "--dataset", "none"], "there are no labels"),
        (vec!["--labels-file", "names.json", "--dataset", "odd"], "data set \"odd\": entry 1 is no text: 1"),
        (vec!["--labels-file", "broken.json"], "broken.json: EOF"),
        (vec!["--labels", "cat", "--dataset", "pets"], "no file to take the data set \"pets\" from"),
        (and(&["--templates-file", "templates.json"]), "templates.json: \"a photo\": it has no {}"),
        (and(&["--templates-file", "none.json"]), "none.json: "),
        (and(&["--templates-file", "templates.json", "--template", "{}"]), "cannot be used with"),
        (
            vec!["--labels", "a", "--templates-file", "templates.json", "--dataset", "none"],
            "templates.json: there are no templates of data set \"none\"",
        ),
        (
            vec!["--labels-file", "list.json", "--templates-file", "templates.json"],
            "templates.json holds 3 data sets",
        ),
    ] {
        let (status, message) = said(place.path(), &arguments);
        assert_eq!(status, 2, "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn languages_that_do_not_fit_are_noted_in_a_line() {
    let place = workplace();
    let write = |name: &str, text: &str| fs::write(place.path().join(name), text).expect("written");
    write("it_classnames.json", r#"["gatto", "cane"]"#);
    write("en_templates.txt", "a photo of a {}");
    write("ru.txt", "фото {}");
    let unknown = |count| format!("note: {count}) are in a script that this model's tokenizer knows only");
    for (arguments, expected) in [
        (vec!["--labels", "猫,狗,cat", "--template", "{}"], vec![unknown("2 of 3 labels (猫, 狗")]),
        (
            vec!["--labels", "кот,кит,пес,бык", "--templates-file", "ru.txt"],
            vec![unknown("4 of 4 labels (кот, кит, пес, ...")],
        ),
        (
            vec!["--labels", "cat,dog", "--templates-file", "ru.txt"],
            vec!["note: the labels are in Latin script and the templates in Cyrillic".to_owned()],
        ),
        (
            vec!["--labels-file", "it_classnames.json", "--templates-file", "en_templates.txt"],
            vec!["labels are in language \"it\" and the templates in \"en\"".to_owned()],
        ),
        (vec!["--labels", "Käse,café,naïve,😀,7"], vec![]),
        (vec!["--labels", "猫,狗", "--quiet"], vec![]),
    ] {
        let (status, notes) = said(place.path(), &arguments);
        assert_eq!((status, notes.lines().count()), (0, expected.len()), "{arguments:?}: {notes}");
        assert!(expected.iter().all(|line| notes.contains(line)), "{arguments:?}: {notes}");
    }
    let output = run(place.path(), &["match", "red.png", "--text", "кот", "--model", "model"]);
    assert!(stderr(&output).contains("1 of 1 texts (кот) are in a script"), "{}", stderr(&output));
}

#[test]
fn the_lists_of_clip_benchmarks_are_read() {
    let Some(fixtures) = fixtures() else { return };
    let prompts = fixtures.with_file_name("data").join("prompts");
    let path = |name: &str| prompts.join(name).display().to_string();
    let (names, templates) = (path("en_classnames.json"), path("en_zeroshot_classification_templates.json"));
    let place = workplace();
    for (dataset, classes) in [("pets", 37), ("mnist", 10), ("fer2013", 7)] {
        let files = ["--labels-file", &names, "--templates-file", &templates, "--dataset", dataset];
        let lines = json_lines(place.path(), &[&CLASSIFY[..], &files].concat(), 0);
        assert_eq!(lines[0]["labels"].as_array().map(Vec::len), Some(classes), "{dataset}");
        let (_, notes) = said(place.path(), &files);
        assert!(!notes.contains("script"), "{notes}");
    }
}
