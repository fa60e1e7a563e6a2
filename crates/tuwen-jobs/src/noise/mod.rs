//! Noise that is known: it is added to a clean data set, so that what a filter finds of it can be counted.

mod found;
mod phrases;

use std::path::Path;

use serde::{Deserialize, Serialize};
use tuwen_data::dataset::{Access, DatasetSpec, open};
use tuwen_data::rng::Rng;

pub use found::{Found, Kinds, found};

use crate::JobError;
use crate::files::{PartialFile, write};

/// A kind of text that does not tell what is on the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// The text of another picture.
    Shuffled,
    /// A text in another language.
    Language,
    /// What stands around pictures on web pages.
    Boilerplate,
}

impl Noise {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Shuffled, Self::Language, Self::Boilerplate];
}

/// A text that was replaced: a line of `noise.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The key of the sample.
    pub key: String,
    /// How it was replaced.
    pub noise: Noise,
    /// What it was replaced by.
    pub text: String,
}

/// How much noise is added.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Part of the samples, in `0..=1`; kinds of noise are drawn alike.
    pub fraction: f32,
    /// What decides which samples.
    pub seed: u64,
    /// Uses the first samples only.
    pub limit: Option<usize>,
}

/// Writes a tar file of the samples of a data set, each with its first text or with noise in its place, and beside it
/// the list of what was replaced. Returns how many texts were.
///
/// # Errors
/// A data set that cannot be read, has fewer than two texts or a sample without one, and files that cannot be written.
pub fn add(source: &Path, tar: &Path, list: &Path, amount: Amount) -> Result<usize, JobError> {
    let spec = DatasetSpec { limit: amount.limit, access: Access::default(), ..DatasetSpec::new(source) };
    let dataset = open(&spec)?;
    let mut builder = tar::Builder::new(PartialFile::create(tar)?);
    let mut lines = String::new();
    let mut replaced = 0;
    let text = |index: usize| {
        let texts = dataset.get(index)?.texts;
        let problem = || format!("sample {index} has no text");
        texts
            .into_iter()
            .next()
            .ok_or_else(|| JobError::Damaged { path: source.to_owned(), problem: problem() })
    };
    for index in 0..dataset.len() {
        let sample = dataset.get(index)?;
        let mut rng = Rng::new(&[amount.seed, index as u64]);
        let noise = rng.chance(amount.fraction).then(|| Noise::ALL[rng.below(3) as usize]);
        let said = match noise {
            None => text(index)?,
            Some(Noise::Shuffled) => text(another(index, dataset.len(), &mut rng))?,
            Some(Noise::Language) => phrases::foreign(&mut rng),
            Some(Noise::Boilerplate) => phrases::boilerplate(&mut rng),
        };
        for (suffix, bytes) in [("jpg", sample.image.as_slice()), ("txt", said.as_bytes())] {
            append(&mut builder, &format!("{}.{suffix}", sample.key), bytes).map_err(JobError::io(tar))?;
        }
        if let Some(noise) = noise {
            replaced += 1;
            let line = Replaced { key: sample.key, noise, text: said };
            lines += &serde_json::to_string(&line).map_err(|error| JobError::io(list)(error.into()))?;
            lines.push('\n');
        }
    }
    write(list, lines.as_bytes())?;
    builder.into_inner().map_err(JobError::io(tar))?.finish()?;
    Ok(replaced)
}

/// The number of any other sample.
fn another(index: usize, len: usize, rng: &mut Rng) -> usize {
    let drawn = rng.below(len.saturating_sub(1) as u64) as usize;
    (drawn + usize::from(drawn >= index)).min(len - 1)
}

fn append(builder: &mut tar::Builder<PartialFile>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_added_to_a_part_and_listed() {
        let place = tempfile::tempdir().unwrap();
        let (folder, tar, list) =
            (place.path().join("in"), place.path().join("a.tar"), place.path().join("a.jsonl"));
        std::fs::create_dir(&folder).unwrap();
        for i in 0..200 {
            std::fs::write(folder.join(format!("{i:03}.jpg")), format!("image {i}")).unwrap();
            std::fs::write(folder.join(format!("{i:03}.txt")), format!("text {i:03}")).unwrap();
        }
        let amount = Amount { fraction: 0.4, seed: 7, limit: None };
        let count = add(&folder, &tar, &list, amount).unwrap();
        let lines = std::fs::read_to_string(&list).unwrap();
        let replaced: Vec<Replaced> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(count == replaced.len() && (50..110).contains(&count), "{count}");
        assert!(
            Noise::ALL.iter().all(|noise| replaced.iter().filter(|line| line.noise == *noise).count() > 10)
        );
        let noisy = open(&DatasetSpec::new(&tar)).unwrap();
        for index in 0..200 {
            let sample = noisy.get(index).unwrap();
            let own = format!("text {}", sample.key);
            match replaced.iter().find(|line| line.key == sample.key) {
                Some(line) => assert!(sample.texts == [line.text.clone()] && line.text != own),
                None => assert_eq!(sample.texts, [own]),
            }
        }
        let first = std::fs::read(&tar).unwrap();
        add(&folder, &tar, &list, amount).unwrap();
        assert!(std::fs::read(&tar).unwrap() == first, "the same seed, the same noise");
    }

    #[test]
    fn another_sample_is_any_but_this() {
        let mut rng = Rng::new(&[1]);
        let drawn: std::collections::BTreeSet<usize> = (0..200).map(|_| another(2, 5, &mut rng)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0, 1, 3, 4]);
    }
}
