//! What is built in serves every task.

use tuwen::{Ability, BUILTIN, Model, Options, Picture};

const PHOTOGRAPH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/photos/horse_silhouette.jpg");

fn load(ability: Ability) -> Model {
    tuwen::load(ability.builtin(), &Options::default()).expect("built in")
}

#[test]
fn every_task_that_a_verb_has_is_served() {
    use Ability::{Answer, Caption, Compare, EmbedBoth, EmbedImages, EmbedTexts, Match};
    for ability in [EmbedImages, EmbedTexts, EmbedBoth, Compare, Match, Caption, Answer] {
        load(ability).require(ability).expect("able");
    }
    assert!(load(Ability::Explain).grounded().is_some());
    let by_itself = tuwen::load(BUILTIN, &Options::default()).expect("built in");
    assert_eq!(by_itself.fingerprint(), load(Ability::Compare).fingerprint());
}

/// Captions, answers and matches stand on the pixels: another picture, another result.
#[test]
fn the_blip_looks_at_the_picture() {
    let model = load(Ability::Caption);
    let pictures = [Picture::open(PHOTOGRAPH.as_ref()).expect("read"), blank()];
    let captioner = model.captioner().expect("it captions");
    let pixels = pictures.each_ref().map(|picture| captioner.eye().prepare(picture));
    let options = captioner.options();
    let captions: Vec<String> = captioner
        .caption(&pixels, &options)
        .expect("written")
        .into_iter()
        .map(|mut written| written.remove(0).text)
        .collect();
    assert!(captions.iter().all(|caption| caption.split(' ').count() >= 3), "{captions:?}");
    assert_ne!(captions[0], captions[1]);

    let answerer = model.answerer().expect("it answers");
    let seen = answerer.look(&pixels);
    let question = ["what color is it?", "what color is it?"].map(str::to_owned);
    let answers = answerer.write(&seen, &question, &answerer.options()).expect("written");
    assert!(answers.iter().all(|written| !written[0].text.is_empty()));

    let scorer = model.pair_scorer().expect("it matches");
    let text = vec!["a horse"];
    let scores = scorer.score(&scorer.encode(&pixels), &[text.clone(), text]).expect("scored").scores;
    assert!((scores[0][0].itm - scores[1][0].itm).abs() > 1e-4, "{} {}", scores[0][0].itm, scores[1][0].itm);
}

/// A grey square.
fn blank() -> Picture {
    let size = 54 + 12 * 4;
    let mut file = b"BM".to_vec();
    for field in [size, 0, 54, 40, 4, 4, 1 | 24 << 16, 0, 12 * 4, 0, 0, 0, 0] {
        file.extend(u32::to_le_bytes(field));
    }
    file.extend([128; 12 * 4]);
    Picture::decode(&file).expect("a BMP")
}
