//! One shard: its samples through the models, batch by batch, and what is decided to the disk.

use std::collections::HashSet;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tuwen_data::dataset::Dataset;
use tuwen_data::image::RgbImage;

use super::plan::{Planned, Shard};
use super::read::{Item, Preparation, Problem, batches};
use super::run::{Event, Watch};
use super::tally::Tally;
use super::write::{self, DataWriter};
use super::{JudgedText, Manifest, Record, Settings, seed};
use crate::directory::JobDirectory;
use crate::files::{PartialFile, write_json};
use crate::{Caption, JobError, Models, Scores};

/// What shards are made with.
pub(super) struct Workshop<'w, F> {
    pub settings: &'w Settings,
    pub models: &'w Models<'w, F>,
    pub directory: &'w JobDirectory,
    pub preparation: Preparation,
}

/// A shard that is being written.
struct Open {
    data: Box<dyn DataWriter>,
    records: PartialFile,
    names: HashSet<String>,
    keys: HashSet<String>,
    tally: Tally,
    source: String,
}

/// What the models said of the pictures of a batch.
struct Verdicts {
    captions: Vec<Vec<Caption>>,
    scores: Vec<Vec<Scores>>,
}

impl<F> Workshop<'_, F> {
    /// Makes a shard; none if it was stopped before its end, which leaves nothing of it.
    pub fn make(
        &self,
        (planned, shard): (&Planned, &Shard),
        dataset: &dyn Dataset,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Manifest>, JobError> {
        let data_name = format!("{}.{}", shard.name, self.settings.format.suffix());
        let data_path = self.directory.file(&data_name);
        let mut open = Open {
            data: write::create(self.settings.format, &data_path)?,
            records: PartialFile::create(&self.directory.records(&shard.name))?,
            names: HashSet::new(),
            keys: HashSet::new(),
            tally: Tally::default(),
            source: planned.source.path.display().to_string(),
        };
        let records_path = self.directory.records(&shard.name);
        if self.fill(&mut open, shard, dataset, &records_path, watch)?.is_break() {
            return Ok(None);
        }
        let Open { data, records, tally, source, .. } = open;
        // Records first: they tell which data are the job's.
        records.finish()?;
        let data = match tally.kept {
            0 => None,
            _ => {
                data.finish()?;
                Some((data_name, data_path.metadata().map_err(JobError::io(&data_path))?.len()))
            }
        };
        let manifest = Manifest {
            shard: shard.name.clone(),
            source,
            source_bytes: planned.source.bytes,
            source_samples: planned.samples,
            first: shard.range.start,
            data,
            tally,
        };
        write_json(&self.directory.manifest(&shard.name), &manifest)?;
        Ok(Some(manifest))
    }

    fn fill(
        &self,
        open: &mut Open,
        shard: &Shard,
        dataset: &dyn Dataset,
        records_path: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<ControlFlow<()>, JobError> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let preparation = (&self.preparation, self.settings.batch_size);
            let batches = batches(scope, dataset, shard.range.clone(), preparation, &stop);
            let mut take = || {
                for batch in &batches {
                    let count = batch.len();
                    for (item, record) in self.judge(batch)? {
                        if let Some(reason) = &record.error {
                            (watch.tell)(Event::Failed { key: &record.key, source: &open.source, reason });
                        }
                        open.push(item, record).map_err(|error| error.at(records_path))?;
                    }
                    (watch.tell)(Event::Samples(count));
                    if watch.is_stopped() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            };
            let taken = take();
            stop.store(true, Ordering::Relaxed);
            drop(batches);
            taken
        })
    }

    /// Lets the models say what they think of a batch.
    fn judge(&self, mut batch: Vec<Item>) -> Result<Vec<(Item, Record)>, JobError> {
        let good = |item: &&mut Item| item.picture.is_ok();
        let pictures: Vec<Vec<RgbImage>> = batch
            .iter_mut()
            .filter(good)
            .filter_map(|item| Some(std::mem::take(item.picture.as_mut().ok()?)))
            .collect();
        let samples: Vec<&Item> = batch.iter().filter(|item| item.picture.is_ok()).collect();
        let verdicts = if samples.is_empty() { None } else { Some(self.ask(&samples, pictures)?) };
        let mut verdicts =
            verdicts.into_iter().flat_map(|Verdicts { captions, scores }| captions.into_iter().zip(scores));
        let judge = |item: Item| {
            let key = item.sample.key.clone();
            let record = match &item.picture {
                Ok(_) => {
                    let (captions, scores) = verdicts.next().unwrap_or_default();
                    let web = item.sample.texts.iter().cloned().map(JudgedText::web);
                    let texts = web.chain(captions.into_iter().map(JudgedText::synthetic));
                    let rule = &self.settings.rule;
                    let texts = texts.zip(scores).map(|(text, scores)| text.judged(scores, rule));
                    Record::judged(key, item.index, texts.collect())
                }
                Err(Problem::NoImage) => Record::judged(key, item.index, Vec::new()),
                Err(Problem::Broken(reason)) => Record::failed(key, item.index, reason.clone()),
            };
            (item, record)
        };
        Ok(batch.into_iter().map(judge).collect())
    }

    /// Encodes pictures, once for both models where they share what they see with, writes captions and scores all texts.
    fn ask(&self, samples: &[&Item], pictures: Vec<Vec<RgbImage>>) -> Result<Verdicts, JobError> {
        let Models { captioner, filter, .. } = self.models;
        let mut views = split(pictures);
        let filter_view = views.pop().unwrap_or_default();
        let own = views.pop();
        let seeds: Vec<u64> = samples.iter().map(|item| seed(self.settings.seed, &item.sample.key)).collect();
        let mut features = None;
        let captions = match captioner {
            Some(captioner) => {
                let seen = captioner.encode(own.as_ref().unwrap_or(&filter_view)).map_err(JobError::Model)?;
                let captions = captioner.captions(&seen, &seeds).map_err(JobError::Model)?;
                features = own.is_none().then_some(seen);
                captions
            }
            None => vec![Vec::new(); samples.len()],
        };
        let features = match features {
            Some(features) => features,
            None => filter.encode(&filter_view).map_err(JobError::Model)?,
        };
        let texts: Vec<Vec<String>> = samples
            .iter()
            .zip(&captions)
            .map(|(item, captions)| {
                let written = captions.iter().map(|caption| caption.text.clone());
                item.sample.texts.iter().cloned().chain(written).collect()
            })
            .collect();
        let scores = filter.scores(&features, &texts, self.settings.rule.heads()).map_err(JobError::Model)?;
        Ok(Verdicts { captions, scores })
    }
}

/// From the views of each picture to the pictures of each view.
fn split(pictures: Vec<Vec<RgbImage>>) -> Vec<Vec<RgbImage>> {
    let mut views: Vec<Vec<RgbImage>> = Vec::new();
    for picture in pictures {
        views.resize_with(views.len().max(picture.len()), Vec::new);
        views.iter_mut().zip(picture).for_each(|(view, image)| view.push(image));
    }
    views
}

/// Something that could not be written, and where.
struct Unwritten(std::io::Error, Option<std::path::PathBuf>);

impl Unwritten {
    fn at(self, records: &Path) -> JobError {
        let Self(source, path) = self;
        JobError::Io { path: path.unwrap_or_else(|| records.to_owned()), source }
    }
}

impl Open {
    /// Writes what was decided of a sample.
    fn push(&mut self, item: Item, mut record: Record) -> Result<(), Unwritten> {
        self.tally.without_text += u64::from(record.error.is_none() && item.sample.texts.is_empty());
        self.tally.without_image += u64::from(matches!(item.picture, Err(Problem::NoImage)));
        self.tally.duplicate_keys += u64::from(!self.keys.insert(record.key.clone()));
        if record.kept {
            let name = write::unique(write::member_name(&record.key), &mut self.names);
            record.renamed = (name != record.key).then(|| name.clone());
            let sample =
                write::Cleaned { name, image: item.sample.image, metadata: item.metadata, record: &record };
            self.data.push(&sample).map_err(|error| Unwritten(error, Some(self.data.path().to_owned())))?;
        }
        self.tally.add(&record, &self.source);
        let line = serde_json::to_string(&record).map_err(|error| Unwritten(error.into(), None))?;
        writeln!(self.records, "{line}").map_err(|error| Unwritten(error, None))
    }
}
