//! Caption metrics against the COCO caption tools, and against values that other programs publish.

#![allow(clippy::print_stderr)] // what is skipped is said

#[path = "../../tuwen/tests/common/golden.rs"]
mod golden;

use std::path::Path;

use serde_json::Value;
use tuwen_eval::metrics::caption::{
    CaptionItem, CaptionOptions, CaptionScore, CaptionScores, caption, tokenize, tokenize_corpus,
};

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|value| text(value).to_owned()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Compares each metric of a table that is computed here; METEOR and SPICE need data that are not.
fn assert_score(what: &str, score: &CaptionScore, expected: &Value, tolerance: f64) {
    let [bleu_1, bleu_2, bleu_3, bleu_4] = score.bleu;
    let mut compared = 0;
    for (name, got) in [
        ("Bleu_1", bleu_1),
        ("Bleu_2", bleu_2),
        ("Bleu_3", bleu_3),
        ("Bleu_4", bleu_4),
        ("ROUGE_L", score.rouge_l),
        ("CIDEr", score.cider_d),
    ] {
        let Some(expected) = expected[name].as_f64() else { continue };
        assert!((got - expected).abs() <= tolerance, "{what}: {name} is {got}, expected {expected}");
        compared += 1;
    }
    assert!(compared >= 3, "{what}: {compared} metrics compared");
}

#[test]
fn tokens_of_the_coco_tools() {
    let Some(case) = golden::case("caption-metrics") else { return };
    let cases = json(&case.join("expected.json"))["ptb"].clone();
    let captions: Vec<&str> = list(&cases).iter().map(|case| text(&case["text"])).collect();
    for (tokens, case) in tokenize_corpus(&captions).iter().zip(list(&cases)) {
        assert_eq!(tokens.join(" "), text(&case["tokens"]), "{}", case["text"]);
    }
    for item in list(&json(&case.join("items.json"))) {
        assert_eq!(tokenize(text(&item["hypothesis"])).join(" "), text(&item["hypothesis_tokens"]));
        for (reference, tokens) in texts(&item["references"]).iter().zip(texts(&item["references_tokens"])) {
            assert_eq!(tokenize(reference).join(" "), tokens);
        }
    }
}

#[test]
fn scores_of_the_coco_tools() {
    let Some(case) = golden::case("caption-metrics") else { return };
    let tolerance =
        json(&case.join("meta.json"))["tolerance"]["corpus and item scores"].as_f64().expect("a number");
    let items = json(&case.join("items.json"));
    let pairs: Vec<(String, Vec<String>)> = list(&items)
        .iter()
        .map(|item| (text(&item["hypothesis"]).to_owned(), texts(&item["references"])))
        .collect();
    let CaptionScores { corpus, items: scores } = caption(
        &CaptionItem::corpus(pairs.iter().map(|(caption, references)| (caption.as_str(), &references[..]))),
        &CaptionOptions::default(),
    );
    assert_score("corpus", &corpus, &json(&case.join("expected.json"))["corpus"], tolerance);
    assert_eq!(scores.len(), list(&items).len());
    for (score, item) in scores.iter().zip(list(&items)) {
        assert_score(text(&item["id"]), score, &item["scores"], tolerance);
    }
    // What METEOR 1.5 gives for these tokens: -l en -m "exact stem" -w "1.0 0.6" and no function words.
    let meteor = scores.iter().take(5).map(|score| score.meteor_exact_stem).chain([corpus.meteor_exact_stem]);
    let expected = [
        1.0,
        0.13540242388034424,
        0.2884200502432426,
        0.42618850012597786,
        0.5735161987800452,
        0.3695330267662824,
    ];
    for (got, expected) in meteor.zip(expected) {
        assert!((got - expected).abs() < 1e-9, "{got}, expected {expected}");
    }
}

/// The published values, where they are at hand.
fn published() -> Option<(std::path::PathBuf, Value)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/metrics")).to_owned();
    let path = folder.join("expected.json");
    if !path.is_file() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    let values = json(&path);
    Some((folder, values))
}

#[test]
fn values_of_nlg_eval() {
    let Some((folder, published)) = published() else { return };
    let lines = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).expect("read");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (captions, first, second) =
        (lines("nlg_eval_hyp.txt"), lines("nlg_eval_ref1.txt"), lines("nlg_eval_ref2.txt"));
    let items: Vec<CaptionItem> = (0..captions.len())
        .map(|i| CaptionItem::from_tokens(&captions[i], &[&first[i], &second[i]]))
        .collect();
    let expected = &published["nlg-eval examples (nlg_eval_hyp.txt against nlg_eval_ref1.txt, nlg_eval_ref2.txt; line i of each file is item i)"];
    assert_score("nlg-eval", &caption(&items, &CaptionOptions::default()).corpus, &expected["corpus"], 1e-5);
    for case in list(&published["single sentence"]["cases"]) {
        let references = texts(&case["refs"]);
        let references: Vec<&str> = references.iter().map(String::as_str).collect();
        let item = CaptionItem::from_tokens(text(&case["hyp"]), &references);
        assert_score(text(&case["hyp"]), &caption(&[item], &CaptionOptions::default()).corpus, case, 1e-5);
    }
}

#[test]
fn values_of_aac_metrics() {
    let Some((_, published)) = published() else { return };
    let example = &published["aac-metrics README example"];
    let (captions, references) = (texts(&example["candidates"]), list(&example["references"]));
    let references: Vec<Vec<String>> = references.iter().map(texts).collect();
    let items =
        CaptionItem::corpus(captions.iter().map(String::as_str).zip(references.iter().map(Vec::as_slice)));
    let scores = caption(&items, &CaptionOptions::default());
    let close = |got: f64, expected: &Value| {
        let expected = expected.as_f64().expect("a number");
        assert!((got - expected).abs() <= 1e-4, "{got}, expected {expected}");
    };
    close(scores.corpus.bleu[0], &example["corpus"]["bleu_1"]);
    close(scores.corpus.cider_d, &example["corpus"]["cider_d"]);
    for (score, expected) in scores.items.iter().zip(list(&example["per_item"]["cider_d"])) {
        close(score.cider_d, expected);
    }
}

#[test]
fn the_image_that_coco_shows_is_read_as_it_is() {
    let Some((folder, published)) = published() else { return };
    let shown = &published["coco-caption fakecap"]["one_image"];
    let predictions = tuwen_eval::annotations::caption_predictions(
        &folder.join("coco_captions_val2014_fakecap_results.json"),
    )
    .expect("read");
    assert_eq!(predictions.entries().len(), 1000);
    assert!(predictions.entries().iter().any(|(_, caption)| caption == text(&shown["caption"])));
    assert_eq!(
        tokenize(&texts(&shown["references"])[0]).join(" "),
        "a train traveling down tracks next to lights"
    );
}
