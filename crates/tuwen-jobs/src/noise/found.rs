//! How much of the noise a filter found.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Noise, Replaced};
use crate::JobError;
use crate::capfilt::{Record, TextSource};

/// What became of texts from the web, some of which are noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Texts.
    pub texts: u64,
    /// Those that are noise.
    pub noise: u64,
    /// Those that were dropped.
    pub dropped: u64,
    /// Noise that was dropped.
    pub found: u64,
    /// Of what was dropped, the part that is noise.
    pub precision: f64,
    /// Of the noise, the part that was dropped.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// The probability that a clean text has a higher ITM score than noise has, ties counted half: what a filter can do
    /// at any threshold.
    pub itm_auc: Option<f64>,
    /// The same by ITC.
    pub itc_auc: Option<f64>,
    /// By kind of noise.
    pub kinds: Kinds,
}

/// Recall of each kind of noise: how many texts, and the part that was dropped.
pub type Kinds = BTreeMap<Noise, (u64, f64)>;

/// Compares the records that a job left in its directory with the list of noise.
///
/// # Errors
/// Files that cannot be read, or are damaged.
pub fn found(job: &Path, list: &Path) -> Result<Found, JobError> {
    let noise: Vec<Replaced> = lines(list)?;
    let noise: BTreeMap<&str, Noise> = noise.iter().map(|line| (line.key.as_str(), line.noise)).collect();
    let folder = job.join("records");
    let entries = fs::read_dir(&folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut paths: Vec<_> = entries.map_err(JobError::io(&folder))?.iter().map(fs::DirEntry::path).collect();
    paths.retain(|path| path.extension().is_some_and(|suffix| suffix == "jsonl"));
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        for record in lines::<Record>(&path)? {
            let kind = noise.get(record.key.as_str()).copied();
            let web = record.texts.into_iter().filter(|text| text.source == TextSource::Web);
            texts.extend(web.map(|text| Text { kind, kept: text.kept, itm: text.itm, itc: text.itc }));
        }
    }
    Ok(count(&texts))
}

/// A text with what is known and what was decided.
struct Text {
    kind: Option<Noise>,
    kept: bool,
    itm: Option<f32>,
    itc: Option<f32>,
}

fn count(texts: &[Text]) -> Found {
    let of = |is: &dyn Fn(&&Text) -> bool| texts.iter().filter(is).count() as u64;
    let (noise, dropped) = (of(&|text| text.kind.is_some()), of(&|text| !text.kept));
    let found = of(&|text| text.kind.is_some() && !text.kept);
    let kinds = Noise::ALL.map(|kind| {
        let all = of(&|text| text.kind == Some(kind));
        (kind, (all, ratio(of(&|text| text.kind == Some(kind) && !text.kept), all)))
    });
    let (precision, recall) = (ratio(found, dropped), ratio(found, noise));
    let f1 = if found == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
    let (itm_auc, itc_auc) = (auc(texts, |text| text.itm), auc(texts, |text| text.itc));
    let texts = texts.len() as u64;
    Found { texts, noise, dropped, found, precision, recall, f1, itm_auc, itc_auc, kinds: kinds.into() }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The area under the curve of true over false positives, by ranks (Mann and Whitney 1947).
fn auc(texts: &[Text], score: impl Fn(&Text) -> Option<f32>) -> Option<f64> {
    let mut scores: Vec<(f32, bool)> =
        texts.iter().filter_map(|text| Some((score(text)?, text.kind.is_none()))).collect();
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let clean = scores.iter().filter(|(_, clean)| *clean).count() as f64;
    let noise = scores.len() as f64 - clean;
    let (mut below, mut pairs) = (0.0, 0.0);
    for ties in scores.chunk_by(|a, b| a.0 == b.0) {
        let good = ties.iter().filter(|(_, clean)| *clean).count() as f64;
        let bad = ties.len() as f64 - good;
        pairs += good * (below + bad / 2.0);
        below += bad;
    }
    (clean > 0.0 && noise > 0.0).then(|| pairs / (clean * noise))
}

/// The lines of a file of JSON lines.
fn lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>, JobError> {
    let file = BufReader::new(File::open(path).map_err(JobError::io(path))?);
    let parse = |(number, line): (usize, std::io::Result<String>)| {
        let line = line.map_err(JobError::io(path))?;
        let problem = |error| format!("line {}: {error}", number + 1);
        serde_json::from_str(&line)
            .map_err(|error| JobError::Damaged { path: path.to_owned(), problem: problem(error) })
    };
    file.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_that_is_dropped_is_found() {
        let text = |kind, kept, itm| Text { kind, kept, itm: Some(itm), itc: None };
        let (shuffled, boilerplate) = (Some(Noise::Shuffled), Some(Noise::Boilerplate));
        let texts = [
            text(None, true, 0.9),
            text(None, true, 0.7),
            text(None, false, 0.3),
            text(shuffled, true, 0.7),
            text(shuffled, false, 0.2),
            text(boilerplate, false, 0.1),
        ];
        let found = count(&texts);
        assert_eq!((found.texts, found.noise, found.dropped, found.found), (6, 3, 3, 2));
        let third = 2.0 / 3.0;
        assert!((found.precision - third).abs() < 1e-12 && (found.f1 - third).abs() < 1e-12, "{found:?}");
        assert_eq!(found.kinds[&Noise::Shuffled], (2, 0.5));
        assert_eq!(found.kinds[&Noise::Language], (0, 0.0));
        // Of nine pairs, seven are in order and one is tied.
        assert!((found.itm_auc.unwrap() - 7.5 / 9.0).abs() < 1e-12, "{found:?}");
        assert_eq!(found.itc_auc, None);
    }
}
