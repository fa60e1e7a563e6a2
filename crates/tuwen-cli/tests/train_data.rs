//! Training data as people have them: tables with mistakes in them are trained on, and what is wrong is said in a line
//! each.

mod common;

use std::fs;
use std::path::Path;

use common::{json_lines, run, stderr, write_picture};

/// A table of fourteen pairs, of which twelve can be learnt from, and a recipe that takes two steps.
fn write_recipe(directory: &Path) {
    for number in 0..12 {
        write_picture(&directory.join(format!("{number}.png")), [20 * number, 100, 255 - 20 * number]);
    }
    fs::copy(directory.join("1.png"), directory.join("copy.png")).expect("copied");
    let mut rows: Vec<String> =
        (0..11).map(|number| format!("{number}.png\tpicture number {number}")).collect();
    rows.extend(["copy.png\tpicture number 0", "gone.png\tnothing", "11.png\t "].map(str::to_owned));
    fs::write(directory.join("pairs.csv"), format!("filepath\ttitle\n{}\n", rows.join("\n")))
        .expect("written");
    let recipe = r#"
        output = "out"
        data = [{ path = "pairs.csv" }]
        tokenizer = { train_vocab_size = 520 }
        train = { batch_size = 6, epochs = 1, log_every = 1, checkpoint_every = 1 }
        optimizer = { lr = 0.002 }

        [model]
        projection_dim = 16
        vision = { kind = "vit", hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, image_size = 16, patch_size = 8 }
        text = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, max_position_embeddings = 40 }
    "#;
    fs::write(directory.join("recipe.toml"), recipe).expect("written");
}

fn change_recipe(directory: &Path, from: &str, to: &str) {
    let recipe = fs::read_to_string(directory.join("recipe.toml")).expect("read");
    assert!(recipe.contains(from), "{from}");
    fs::write(directory.join("recipe.toml"), recipe.replace(from, to)).expect("written");
}

/// Names in the output directory that begin so.
fn outputs(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory.join("out")).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn mistakes_in_the_data_are_said_and_passed_over() {
    let place = tempfile::tempdir().expect("a directory");
    write_recipe(place.path());
    let output = run(place.path(), &["train", "recipe.toml"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [
        "pairs.csv: 1 of 14 samples have no image, such as line 14: there is no gone.png",
        "pairs.csv: 1 of 14 samples have no text, or an empty one, such as 15:11.png",
        "pairs.csv: 1 of 14 samples have the image of another one, such as 13:copy.png = 3:1.png",
        "pairs.csv: 1 of 14 samples have a text of another one, such as 13:copy.png = 2:0.png",
        "looked at 14 of 14 samples",
    ] {
        assert!(said.lines().any(|line| line.starts_with(expected)), "{expected}\nis not in\n{said}");
    }
    assert_eq!(outputs(place.path(), "events.out.tfevents.").len(), 1);
    let svg = fs::read_to_string(place.path().join("out/learning-curve.svg")).expect("a picture");
    assert!(svg.contains("learning rate"), "{svg}");
    let output = run(place.path(), &["train", "recipe.toml", "--resume"]);
    assert!(stderr(&output).contains("from step 2 on"), "{}", stderr(&output));
    assert_eq!(outputs(place.path(), "events.out.tfevents.").len(), 1, "the file is replaced, not added to");
}

#[test]
fn a_check_tells_everything_and_trains_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    write_recipe(place.path());
    let lines = json_lines(place.path(), &["train", "recipe.toml", "--check"], 1);
    let [report] = &lines[..] else { panic!("one source: {lines:?}") };
    assert_eq!((&report["samples"], &report["usable"]), (&14.into(), &12.into()));
    let counts: Vec<_> = report["findings"].as_array().expect("a list").iter().collect();
    let counts: Vec<_> =
        counts.iter().map(|finding| (finding["problem"].as_str(), finding["count"].as_u64())).collect();
    let expected = ["missing_image", "no_text", "duplicate_image", "duplicate_text"];
    assert_eq!(counts, expected.map(|problem| (Some(problem), Some(1))));
    let output = run(place.path(), &["train", "recipe.toml", "--check", "--quiet"]);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.starts_with("pairs.csv: 14 samples, 12 can be learnt from\n       1 have no image\n"),
        "{table}"
    );
    assert!(!place.path().join("out").exists());

    let table = fs::read_to_string(place.path().join("pairs.csv")).expect("read");
    let clean: Vec<&str> = table.lines().take(12).collect();
    fs::write(place.path().join("pairs.csv"), clean.join("\n")).expect("written");
    let output = run(place.path(), &["train", "recipe.toml", "--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn data_that_cannot_be_used_are_one_line() {
    let place = tempfile::tempdir().expect("a directory");
    write_recipe(place.path());
    fs::write(place.path().join("ragged.csv"), "path,text\n0.png,one\n1.png\n").expect("written");
    fs::write(place.path().join("lost.csv"), "path,text\n/lost/0.png,one\n/lost/1.png,two\n")
        .expect("written");
    fs::write(place.path().join("names.csv"), "picture,words\n0.png,one\n").expect("written");
    for (path, expected) in [
        ("ragged.csv", "ragged.csv line 3: 1 field, the header has 2"),
        ("lost.csv", "lost.csv: none of the 2 samples looked at can be used, the first one because: "),
        ("names.csv", "names.csv line 1: no column of images among picture, words; name it: columns = "),
        #[cfg(not(feature = "remote"))]
        (
            "s3://bucket/{0..3}.tar",
            "s3://bucket/{0..3}.tar lies in a store, and this build reads local files only",
        ),
    ] {
        write_recipe(place.path());
        change_recipe(place.path(), "\"pairs.csv\"", &format!("{path:?}"));
        let output = run(place.path(), &["train", "recipe.toml", "--quiet"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with(&format!("error: {expected}")) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn columns_are_named_in_the_recipe_and_sources_are_weighed() {
    let place = tempfile::tempdir().expect("a directory");
    write_recipe(place.path());
    fs::write(place.path().join("names.csv"), "picture;words\n0.png;one\n1.png;two\n").expect("written");
    let named = r#"{ path = "names.csv", weight = 3.0, columns = { image = "picture", caption = "words" } }"#;
    change_recipe(
        place.path(),
        "[{ path = \"pairs.csv\" }]",
        &format!("[{{ path = \"pairs.csv\" }}, {named}]"),
    );
    let output = run(place.path(), &["train", "recipe.toml"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("pairs.csv: 14 samples, 14 in each epoch (70 % of it)"), "{said}");
    assert!(said.contains("names.csv: 2 samples, 6 in each epoch (30 % of it)"), "{said}");
    let wrong = ("caption = \"words\"", "captoin = \"words\"");
    change_recipe(place.path(), wrong.0, wrong.1);
    let said = stderr(&run(place.path(), &["train", "recipe.toml", "--quiet"]));
    assert!(said.contains("unknown field `captoin`") && said.lines().count() <= 2, "{said}");
}
