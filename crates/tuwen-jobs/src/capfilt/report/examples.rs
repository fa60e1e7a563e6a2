//! Some of the texts that were kept and dropped, beside their pictures.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tuwen_data::dataset::{self, Access, Dataset, DatasetSpec};
use tuwen_data::image::Picture;

use super::escaped;
use crate::capfilt::tally::{Example, Tally};

/// The longer side of a thumbnail in pixels, and how good its JPEG file is.
const SIDE: usize = 160;
const QUALITY: f32 = 80.0;

/// Sources that are open, or cannot be opened.
type Open = BTreeMap<String, Option<Box<dyn Dataset>>>;

/// A section for each kind that has examples.
pub(super) fn sections(tally: &Tally, access: &Access) -> String {
    let kinds = [
        ("Dropped texts from the web", &tally.web.examples_dropped),
        ("Kept texts from the web", &tally.web.examples_kept),
        ("Dropped synthetic texts", &tally.synthetic.examples_dropped),
        ("Kept synthetic texts", &tally.synthetic.examples_kept),
    ];
    let mut open = Open::new();
    let mut section = |(title, examples): (&str, &Vec<Example>)| {
        let cards: String = examples.iter().map(|example| card(example, &mut open, access)).collect();
        if cards.is_empty() { cards } else { format!("<h2>{title}</h2><div class=\"cards\">{cards}</div>") }
    };
    kinds.into_iter().map(&mut section).collect()
}

fn card(example: &Example, open: &mut Open, access: &Access) -> String {
    let picture = match thumbnail(example, open, access) {
        Some(file) => format!("<img alt=\"\" src=\"data:image/jpeg;base64,{}\">", STANDARD.encode(file)),
        None => "<div class=\"none\"></div>".into(),
    };
    let score = |name, score: Option<f32>| score.map(|score| format!(" {name} {score:.3}"));
    let scores = [score("itm", example.text.itm), score("itc", example.text.itc)];
    let scores: String = scores.into_iter().flatten().collect();
    let (text, key) = (escaped(&example.text.text), escaped(&example.key));
    format!("<div class=\"card\" title=\"{key}\">{picture}{text}<br><small>{scores}</small></div>")
}

/// A small JPEG file; none where the sample is not there any more.
fn thumbnail(example: &Example, open: &mut Open, access: &Access) -> Option<Vec<u8>> {
    let dataset = open.entry(example.source.clone()).or_insert_with(|| {
        let path = Path::new(&example.source);
        dataset::open(&DatasetSpec { access: access.clone(), ..DatasetSpec::new(path) }).ok()
    });
    let sample = dataset.as_ref()?.get(example.index).ok().filter(|sample| sample.key == example.key)?;
    Picture::decode(&sample.image).ok()?.to_rgb_on_white().thumbnail(SIDE).to_jpeg(QUALITY)
}
