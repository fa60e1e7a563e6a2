//! Tokenization: ids of many texts as three programs give them, truncation, padded batches, decoding.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tuwen_data::tokenizer::{ClipTokenizer, Flavour, Overflow};
use tuwen_tensor::checkpoint::{DType, RawTensor};

use super::case::Case;
use super::report::{Report, Tolerance};

const CASES: &str = "cases.jsonl";
const BATCH: &str = "batch.json";

/// The programs, in the words of the case.
const PROGRAMS: [(&str, Flavour); 3] =
    [("openai", Flavour::OpenAi), ("open_clip", Flavour::OpenClip), ("hf", Flavour::HuggingFace)];

/// Tokens that OpenAI's `tokenize` takes before it refuses.
const CONTEXT_LENGTH: usize = 77;

type Ids = Vec<u32>;

/// A text with its ids; where a program is not mentioned its ids are OpenAI's.
#[derive(Deserialize)]
struct Line {
    text: String,
    openai: Ids,
    #[serde(default)]
    openai_error: bool,
    openai_decoded: Option<String>,
    /// `open_clip`, `hf`, and the truncated rows of all three.
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

impl Line {
    fn other(&self, name: &str) -> Result<Option<Ids>> {
        self.others.get(name).map(|ids| Ids::deserialize(ids).with_context(|| name.to_owned())).transpose()
    }
}

#[derive(Deserialize)]
struct Batches {
    texts: Vec<String>,
    openai: Vec<Ids>,
    open_clip: Vec<Ids>,
    hf: Masked,
    hf_max_length: Masked,
}

#[derive(Deserialize)]
struct Masked {
    input_ids: Vec<Ids>,
    attention_mask: Vec<Ids>,
}

/// Whether a case is about CLIP's tokenizer.
pub fn fits(case: &Case) -> Result<bool> {
    let text = if case.has(CASES) && case.has(BATCH) { case.text(CASES)? } else { return Ok(false) };
    Ok(text.lines().next().is_some_and(|line| serde_json::from_str::<Line>(line).is_ok()))
}

/// Encodes and compares.
pub fn run(case: &Case) -> Result<Report> {
    let path = case.path(CASES);
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{} line {}", path.display(), number + 1))
    };
    let lines: Vec<Line> = case.text(CASES)?.lines().enumerate().map(parse).collect::<Result<_>>()?;
    let batches: Batches =
        serde_json::from_value(case.json(BATCH)?).with_context(|| case.path(BATCH).display().to_string())?;
    let mut report = Report::default();
    for (name, flavour) in PROGRAMS {
        check_texts(name, &ClipTokenizer::openai().with_flavour(flavour), &lines, &mut report)?;
    }
    let openai = ClipTokenizer::openai();
    let refuses = |line: &Line| openai.encode_batch(&[&line.text], CONTEXT_LENGTH, Overflow::Error).is_err();
    let wrong = lines.iter().filter(|line| refuses(line) != line.openai_error);
    count("openai_error", wrong.map(|line| line.text.clone()), &mut report);
    let decodes =
        |line: &&Line| line.openai_decoded.as_ref().is_some_and(|text| openai.decode(&line.openai) != *text);
    count("openai_decoded", lines.iter().filter(decodes).map(|line| line.text.clone()), &mut report);
    check_batches(&batches, &mut report)?;
    Ok(report)
}

fn check_texts(name: &str, tokenizer: &ClipTokenizer, lines: &[Line], report: &mut Report) -> Result<()> {
    let (mut wrong, mut wrong_truncated) = (Vec::new(), Vec::new());
    for line in lines {
        let expected = line.other(name)?.unwrap_or_else(|| line.openai.clone());
        let got = tokenizer.encode(&line.text);
        if got != expected {
            wrong.push(format!("{:?}: expected {expected:?}, got {got:?}", line.text));
        }
        if let Some(expected) = line.other(&format!("{name}_truncated"))? {
            let batch = tokenizer.encode_batch(&[&line.text], expected.len(), Overflow::Truncate)?;
            if batch.ids != expected || batch.truncated.is_empty() {
                wrong_truncated.push(line.text.clone());
            }
        }
    }
    count(name, wrong.into_iter(), report);
    count(&format!("{name}_truncated"), wrong_truncated.into_iter(), report);
    Ok(())
}

fn check_batches(batches: &Batches, report: &mut Report) -> Result<()> {
    let Batches { texts, openai, open_clip, hf, hf_max_length } = batches;
    for (name, flavour, ids, mask) in [
        ("batch.openai", Flavour::OpenAi, openai, None),
        ("batch.open_clip", Flavour::OpenClip, open_clip, None),
        ("batch.hf", Flavour::HuggingFace, &hf.input_ids, Some(&hf.attention_mask)),
        (
            "batch.hf_max_length",
            Flavour::HuggingFace,
            &hf_max_length.input_ids,
            Some(&hf_max_length.attention_mask),
        ),
    ] {
        let length = ids.first().map_or(0, Vec::len);
        let tokenizer = ClipTokenizer::openai().with_flavour(flavour);
        let batch = tokenizer.encode_batch(texts, length, Overflow::Truncate)?;
        let shape = [texts.len(), length];
        report.compare(name, integers(&shape, &batch.ids), &rows(ids, length), Tolerance::EXACT);
        if let Some(mask) = mask {
            let got: Ids = batch.attention_mask.iter().map(|&real| real.into()).collect();
            let name = format!("{name}.attention_mask");
            report.compare(&name, integers(&shape, &got), &rows(mask, length), Tolerance::EXACT);
        }
    }
    Ok(())
}

/// Recorded rows as one tensor; rows of another length make a shape that fits nothing.
fn rows(rows: &[Ids], length: usize) -> RawTensor<'static> {
    let ids = rows.concat();
    let shape = if ids.len() == rows.len() * length { vec![rows.len(), length] } else { vec![ids.len()] };
    integers(&shape, &ids)
}

/// Ids as a stored tensor.
pub(super) fn integers(shape: &[usize], ids: &[u32]) -> RawTensor<'static> {
    let data: Vec<u8> = ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
    RawTensor { dtype: DType::I64, shape: shape.to_vec(), data: data.into() }
}

fn count(name: &str, mut wrong: impl Iterator<Item = String>, report: &mut Report) {
    let first = wrong.next();
    let different = wrong.count() + usize::from(first.is_some());
    report.count(name, different, first);
}
