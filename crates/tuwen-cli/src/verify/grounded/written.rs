//! Written texts of the cases: ids of rows, and the scores of beams.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tuwen_models::bert::{BertDecoder, BertSequences, EncoderStates};
use tuwen_models::generate::{BeamRules, GenerationConfig, Silent, Start, generate};
use tuwen_tensor::{Tensor, no_grad, ops};

use super::Comparison;
use crate::verify::report::Tolerance;

/// How far scores of beams may be off.
const SCORES: Tolerance = Tolerance { abs: 1e-4, rel: 0.0 };

/// What writes in a case.
pub struct Writer<'m> {
    pub decoder: &'m BertDecoder,
    pub beam_rules: BeamRules,
    /// The id that ends a text, and the one that fills rows.
    pub end: u32,
    pub pad: u32,
}

impl Writer<'_> {
    /// Writes from `prompts` on, a row each, and compares under `name`.
    pub fn compare(
        &self,
        comparison: &mut Comparison<'_>,
        states: &EncoderStates,
        prompts: &[Vec<u32>],
        (name, settings): (&str, &Value),
    ) -> Result<()> {
        let config = self.config(settings);
        let start = |prompt: &Vec<u32>| Start { prompt: prompt.clone(), stream: 0 };
        let starts: Vec<Start> = prompts.iter().map(start).collect();
        let mut sequences = BertSequences::new(self.decoder, states);
        let texts = no_grad(|| generate(&mut sequences, &starts, &config, &mut Silent))?;
        let best: Vec<_> =
            texts.iter().map(|texts| texts.first().context("nothing was written")).collect::<Result<_>>()?;
        let name = format!("{name}.ids");
        let recorded = comparison.expected.integers(&name)?;
        let length = recorded.len() / prompts.len().max(1);
        let rows = recorded.chunks_exact(length.max(1)).zip(prompts).zip(&best);
        let ids = rows.flat_map(|((recorded, prompt), text)| self.row(recorded, prompt, &text.ids));
        let ids = Tensor::new(&ids.collect::<Vec<_>>(), &[prompts.len(), length]);
        comparison.compare(&name, &ids, Tolerance::EXACT)?;
        if config.num_beams > 1 {
            let scores: Vec<f32> = best.iter().map(|text| text.score).collect();
            let scores = Tensor::new(&scores, &[scores.len()]);
            comparison.compare(&name.replace(".ids", ".scores"), &scores, SCORES)?;
        }
        Ok(())
    }

    /// Recorded settings.
    fn config(&self, settings: &Value) -> GenerationConfig {
        let number = |name: &str| settings[name].as_u64().map(|number| number as usize);
        GenerationConfig {
            num_beams: number("num_beams").unwrap_or(1),
            max_length: number("max_length"),
            min_length: number("min_length").unwrap_or(0),
            repetition_penalty: settings["repetition_penalty"].as_f64().unwrap_or(1.0) as f32,
            eos_token_ids: vec![self.end],
            beam_rules: self.beam_rules,
            ..GenerationConfig::default()
        }
    }

    /// A text as a recorded row: what fills it behind the end is padding, or once more the end.
    fn row(&self, recorded: &[i64], prompt: &[u32], ids: &[u32]) -> Vec<f32> {
        let written = prompt.iter().chain(ids).map(|&id| id as f32);
        let filling = recorded.iter().skip(prompt.len() + ids.len()).map(|&id| {
            let fills = [self.pad, self.end].map(i64::from).contains(&id);
            if fills { id as f32 } else { f32::NAN }
        });
        written.chain(filling).take(recorded.len()).collect()
    }
}

/// One step of drawing from a nucleus, as salesforce/BLIP sets it up.
pub fn nucleus(comparison: &mut Comparison<'_>, end: u32, prompt: usize) -> Result<()> {
    let config = GenerationConfig {
        do_sample: true,
        top_p: 0.9,
        repetition_penalty: 1.1,
        min_length: 10,
        eos_token_ids: vec![end],
        ..GenerationConfig::default()
    };
    let chain = [config.processors(prompt), config.warpers()].concat();
    let ids = comparison.expected.integers("nucleus.ids_in")?;
    comparison.expected.leave_out(&["nucleus.ids_in"]);
    let logits = comparison.expected.tensor("nucleus.logits_in")?;
    let [rows, vocabulary] = logits.dims();
    let mut scores = logits.to_vec();
    for (ids, scores) in ids.chunks_exact(ids.len() / rows).zip(scores.chunks_exact_mut(vocabulary)) {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        chain.iter().for_each(|processor| processor.apply(&ids, scores));
    }
    comparison.add("nucleus.probabilities", &ops::softmax(&Tensor::new(&scores, &[rows, vocabulary])))
}
