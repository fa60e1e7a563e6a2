//! The rows of the table.

use std::fmt;

use super::options::Options;

/// Stages with rows, in the order of the table. A folder of photographs is measured by `bench/folder/compare.py`.
pub const STAGES: [&str; 8] = [
    "encode_image",
    "encode_text",
    "train_step",
    "start_up",
    "caption_first_token",
    "caption_first_token_beams3",
    "caption_token",
    "caption_token_beams3",
];

/// Models that `checkpoints.py` writes. Texts and the start of a process are measured on the first, captions on the last.
pub const MODELS: [&str; 4] =
    ["clip-vit-base-patch32", "clip-vit-large-patch14-336", "clip-rn50", "blip-caption-base"];

/// Precisions, by their names on the command line.
pub const PRECISIONS: [&str; 3] = ["f32", "bf16", "int8"];

const CAPTIONS: usize = 64;
const TRAINING_BATCH: usize = 128;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// A stage of `tuwen bench`.
    pub stage: &'static str,
    /// A checkpoint; training makes its own network.
    pub model: Option<&'static str>,
    /// Inputs of a run.
    pub batch: usize,
    /// The arithmetic.
    pub precision: &'static str,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, batch, precision, .. } = self;
        write!(f, "{stage}, {}, batch {batch}, {precision}", self.model.unwrap_or("small CLIP"))
    }
}

/// The rows that the options ask for.
pub fn rows(options: &Options) -> Vec<Row> {
    let wanted = |stage: &&str| options.stages.iter().any(|name| name == stage);
    STAGES.into_iter().filter(wanted).flat_map(|stage| rows_of(stage, options)).collect()
}

fn rows_of(stage: &'static str, options: &Options) -> Vec<Row> {
    let writes = stage.starts_with("caption");
    let models = MODELS.into_iter().filter(|model| options.models.iter().any(|name| name == model));
    let on = |model: &'static str| models.clone().filter(move |name| *name == model);
    let subjects: Vec<(Option<&'static str>, usize)> = match stage {
        "encode_image" => with_batches(models, options),
        "train_step" => vec![(None, TRAINING_BATCH)],
        _ if writes => with_batches(on(MODELS[3]), options),
        _ => {
            let batch = if stage == "encode_text" { CAPTIONS } else { 1 };
            on(MODELS[0]).map(|model| (Some(model), batch)).collect()
        }
    };
    let chosen = |precision: &&str| options.precisions.iter().any(|name| name == precision);
    // Nobody trains in eight bits, and no peer writes in them.
    let possible = |precision: &&str| !(stage == "train_step" || writes) || *precision != "int8";
    let precisions: Vec<_> = PRECISIONS.into_iter().filter(chosen).filter(possible).collect();
    let row = |(model, batch), precision| Row { stage, model, batch, precision };
    subjects.into_iter().flat_map(|subject| precisions.iter().map(move |&p| row(subject, p))).collect()
}

/// Each model with each batch.
fn with_batches(
    models: impl Iterator<Item = &'static str>,
    options: &Options,
) -> Vec<(Option<&'static str>, usize)> {
    models.flat_map(|model| options.batch.iter().map(move |&batch| (Some(model), batch))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_that_makes_sense_is_a_row() {
        let all = rows(&Options::parse(&[]).expect("nothing said"));
        let count = |stage: &str| all.iter().filter(|row| row.stage == stage).count();
        assert_eq!(STAGES.map(count), [24, 3, 2, 3, 4, 4, 4, 4]);
        let words = ["--models", "clip-rn50", "--precisions", "int8", "--batch", "4"].map(str::to_owned);
        let few = rows(&Options::parse(&words).expect("valid"));
        assert_eq!(
            few,
            [Row { stage: "encode_image", model: Some("clip-rn50"), batch: 4, precision: "int8" }]
        );
    }
}
