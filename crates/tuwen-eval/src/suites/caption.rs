//! Captions against references, whoever wrote them: a file of predictions or a model.

use crate::annotations::{CaptionPredictions, CaptionReferences};
use crate::metrics::caption::{CaptionItem, CaptionOptions, CaptionScores, caption as score};
use crate::{EvalError, Metrics};

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Captioned {
    /// Ids of the images that were measured, in the order of the references.
    pub images: Vec<String>,
    /// The captions as tokens.
    pub items: Vec<CaptionItem>,
    /// The metrics of all and of each.
    pub scores: CaptionScores,
    /// Images that have references and no prediction.
    pub unpredicted: usize,
    /// Predictions without a word; they score nothing.
    pub empty: usize,
    /// References without a word, which are left out.
    pub empty_references: usize,
}

impl Captioned {
    /// The metrics of all, times 100.
    pub fn metrics(&self) -> Metrics {
        self.scores.corpus.metrics()
    }
}

/// Measures a caption for each image against what people wrote; with `partial`, images without one are left out instead of
/// refused.
///
/// # Errors
/// Images that only one side has, and images without a reference that has words.
pub fn caption(
    predictions: &CaptionPredictions,
    references: &CaptionReferences,
    options: &CaptionOptions,
    partial: bool,
) -> Result<Captioned, EvalError> {
    let blank = |text: &String| text.trim().is_empty();
    let pairs = predictions.pair(references, partial)?;
    references.require("references", |captions| !captions.iter().all(blank))?;
    let worded: Vec<Vec<String>> = pairs
        .iter()
        .map(|(_, _, captions)| captions.iter().filter(|text| !blank(text)).cloned().collect())
        .collect();
    let texts = pairs
        .iter()
        .zip(&worded)
        .map(|((_, caption, _), references)| (caption.as_str(), references.as_slice()));
    let items = CaptionItem::corpus(texts);
    Ok(Captioned {
        scores: score(&items, options),
        empty: items.iter().filter(|item| item.candidate.is_empty()).count(),
        items,
        images: pairs.iter().map(|(id, _, _)| (*id).to_owned()).collect(),
        unpredicted: references.entries().len() - pairs.len(),
        empty_references: pairs
            .iter()
            .map(|(_, _, captions)| captions.iter().filter(|text| blank(text)).count())
            .sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Keyed;

    #[test]
    fn what_is_empty_or_missing_is_counted() {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let references = vec![
            ("1".to_owned(), texts(&["A dog runs.", " "])),
            ("2".to_owned(), texts(&["A cat."])),
            ("3".to_owned(), texts(&["A bird."])),
        ];
        let references = Keyed::new("references", "image", references).expect("distinct");
        let predict = |captions: &[(&str, &str)]| {
            let owned = captions.iter().map(|&(id, text)| (id.to_owned(), text.to_owned())).collect();
            Keyed::new("predictions", "image", owned).expect("distinct")
        };
        let predictions = predict(&[("2", "..."), ("1", "a dog runs")]);
        let options = CaptionOptions::default();
        let found = caption(&predictions, &references, &options, true).expect("measured");
        assert_eq!(found.images, ["1", "2"]);
        assert_eq!((found.unpredicted, found.empty, found.empty_references), (1, 1, 1));
        assert_eq!(found.scores.items[0].rouge_l, 1.0);
        assert_eq!(found.metrics()["rouge_l"], 50.0);
        let error = caption(&predictions, &references, &options, false).expect_err("one is missing");
        assert!(error.to_string().contains("lacks 1 of the 3 images"), "{error}");
        let blank =
            Keyed::new("blank", "image", vec![("1".to_owned(), texts(&["", " "]))]).expect("distinct");
        let error = caption(&predict(&[("1", "a")]), &blank, &options, true).expect_err("no words");
        assert_eq!(error.to_string(), "blank: 1 of 1 images have no references; the first is 1");
    }
}
