//! `match`: images against texts.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde::Serialize;
use tuwen::{Ability, EncodedTexts, Model, PairScore, PairScorer};

use crate::arguments::Global;
use crate::console::Console;
use crate::explain;
use crate::failure::{Failure, Status};
use crate::images::{self, ImageInputs, stdin_twice};
use crate::labels::note_unknown_scripts;
use crate::lines::Lines;
use crate::models::{model_failure, warn_of_cut};
use crate::pipeline::each_batch;
use crate::texts::TextInputs;

/// Arguments of `match`.
#[derive(Args)]
#[command(group = images::required())]
#[command(mut_group("TextInputs", |group| group.required(true)))]
pub struct Match {
    #[command(flatten)]
    images: ImageInputs,
    #[command(flatten)]
    texts: TextInputs,
    /// By what the probability is told: over the texts by their vectors (itc), or for each text by the head that saw image
    /// and text (itm). Unless given it is itc, and what the head says comes besides where the model has one
    #[arg(long, value_name = "HEAD")]
    head: Option<Head>,
    /// Draw what each word of the texts looks at in the image (one image; models with an itm head)
    #[arg(long, value_name = "FILE.png")]
    explain: Option<PathBuf>,
    /// Write JSON lines to a file, which appears when it is whole
    #[arg(long, value_name = "FILE.jsonl")]
    output: Option<PathBuf>,
}

/// What compares images with texts.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Head {
    /// Vectors of images and of texts
    Itc,
    /// A head that saw both: BLIP and ALBEF
    Itm,
}

#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    matches: Vec<Fit<'a>>,
}

#[derive(Serialize)]
struct Fit<'a> {
    text: &'a str,
    similarity: f32,
    probability: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    itm: Option<f32>,
}

/// Runs `match`.
pub fn run(arguments: &Match, global: &Global, console: &Console) -> Result<Status, Failure> {
    let Match { images, texts, head, explain, output } = arguments;
    images.check()?;
    if images.uses_of_stdin() + texts.uses_of_stdin() > 1 {
        return Err(stdin_twice());
    }
    Lines::check(output.as_deref())?;
    let texts = &texts.read(images.null)?;
    if texts.is_empty() {
        return Err(Failure::usage(anyhow!("there are no texts to compare with")));
    }
    let model = global.load(arguments.task(), console)?;
    note_unknown_scripts("texts", texts, &model, console);
    if let Some(path) = explain {
        let explained = explain::to_file(path, images, &model, |grounded, pixels| {
            texts.iter().map(|text| grounded.explain_match(pixels, text)).collect()
        });
        explained?;
        console.note(format_args!("what words look at is in {}", path.display()));
    }
    let by_pairs = match head {
        Some(head) => *head == Head::Itm,
        None => model.require(Ability::Match).is_ok(),
    };
    let failed = if by_pairs {
        arguments.pairs(&model, texts, console)?
    } else {
        arguments.vectors(&model, texts, console)?
    };
    Ok(Status::after(failed))
}

impl Match {
    /// What the model is needed for.
    fn task(&self) -> Ability {
        match (self.head, &self.explain) {
            (Some(Head::Itm), _) | (_, Some(_)) => Ability::Match,
            _ => Ability::Compare,
        }
    }

    /// Compares vectors, and returns how many inputs failed.
    fn vectors(&self, model: &Model, texts: &[String], console: &Console) -> Result<usize, Failure> {
        let matcher = model.matcher(texts).map_err(model_failure)?;
        warn_of_cut(texts, matcher.truncated(), model, console);
        Lines::write(self.output.as_deref(), console, |lines| {
            each_batch(&self.images, model.embedder(), console, |batch| {
                let cosines = matcher.similarities(&batch.computed);
                batch.good().zip(cosines).try_for_each(|(record, cosines)| {
                    let matches = fits(texts, &cosines, &model.probabilities(&cosines), &[]);
                    lines.put(&Line { input: &record.input, matches }, table)
                })
            })
        })
    }

    /// Scores pairs, and returns how many inputs failed.
    fn pairs(&self, model: &Model, texts: &[String], console: &Console) -> Result<usize, Failure> {
        let scorer = model.pair_scorer().map_err(model_failure)?;
        let encoded = scorer.encode_texts(texts).map_err(model_failure)?;
        warn_of_cut(texts, encoded.truncated(), model, console);
        Lines::write(self.output.as_deref(), console, |lines| {
            each_batch(&self.images, scorer, console, |batch| {
                let scores = all_pairs(scorer, &batch.computed, &encoded);
                batch.good().zip(scores).try_for_each(|(record, scores)| {
                    let cosines: Vec<f32> = scores.iter().map(|score| score.similarity).collect();
                    let itm: Vec<f32> = scores.iter().map(|score| score.itm).collect();
                    let matches = match self.head {
                        Some(Head::Itm) => fits(texts, &cosines, &itm, &itm),
                        _ => fits(texts, &cosines, &model.probabilities(&cosines), &itm),
                    };
                    lines.put(&Line { input: &record.input, matches }, table)
                })
            })
        })
    }
}

/// What there is to say of an image and each text; `itm` is empty without that head.
fn fits<'t>(texts: &'t [String], cosines: &[f32], probabilities: &[f32], itm: &[f32]) -> Vec<Fit<'t>> {
    let fit = |(number, text): (usize, &'t String)| Fit {
        text,
        similarity: cosines[number],
        probability: probabilities[number],
        itm: itm.get(number).copied(),
    };
    texts.iter().enumerate().map(fit).collect()
}

/// Scores of every image with every text.
fn all_pairs(
    scorer: PairScorer<'_>,
    images: &tuwen::EncodedImages,
    texts: &EncodedTexts,
) -> Vec<Vec<PairScore>> {
    let all: Vec<u32> = (0..texts.len() as u32).collect();
    scorer.score_pairs(images, texts, &vec![all; images.len()])
}

/// The image, and the texts with cosine and percentages below; that of the head comes last.
fn table(line: &Line<'_>) -> String {
    let row = |fit: &Fit| {
        let itm = fit.itm.map(|itm| format!("  itm {:6.2} %", 100.0 * itm)).unwrap_or_default();
        format!("\n{:8.4} {:7.2} %{itm}  {}", fit.similarity, 100.0 * fit.probability, fit.text)
    };
    std::iter::once(line.input.to_owned()).chain(line.matches.iter().map(row)).collect()
}
