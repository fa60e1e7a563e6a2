//! A job from beginning to end.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;

use super::plan::Plan;
use super::read::Preparation;
use super::report::report;
use super::shard::Workshop;
use super::tally::Tally;
use super::{Manifest, Paths, Settings, Summary, seed};
use crate::directory::JobDirectory;
use crate::files::{write, write_json};
use crate::{JobError, Models, sources};

/// Something that happened.
#[derive(Debug)]
pub enum Event<'e> {
    /// What there is to do is known.
    Planned {
        /// All samples.
        samples: u64,
        /// Those of shards that were finished before.
        done: u64,
    },
    /// A source cannot be read; the others are done all the same.
    Damaged {
        /// The file and the reason, in one line.
        reason: &'e str,
    },
    /// A sample cannot be used.
    Failed {
        /// Its key.
        key: &'e str,
        /// The file it lies in.
        source: &'e str,
        /// What is wrong.
        reason: &'e str,
    },
    /// So many samples went through the models.
    Samples(usize),
    /// A shard is finished.
    Shard(&'e Manifest),
}

/// Who follows a job.
pub struct Watch<'w> {
    /// Raised where the job is to stop after the batch at hand; the shard at hand is given up then.
    pub stop: &'w AtomicBool,
    /// Is told what happens.
    pub tell: &'w mut dyn FnMut(Event<'_>),
}

impl Watch<'_> {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Begins a job or goes on with it, to its end; then writes the summary and the report.
///
/// Sources that cannot be read are left out and told in the summary; once they can be, the same job does them too.
///
/// # Errors
/// A source or target that cannot be used, a target of other settings or in use by another process, a model that fails,
/// a file that cannot be written, and a stop that was asked for. Shards that were finished stay so.
pub fn run<F>(
    paths: &Paths,
    settings: &Settings,
    models: &Models<'_, F>,
    watch: &mut Watch<'_>,
) -> Result<Summary, JobError> {
    settings.check()?;
    let sources = sources::find(&paths.source, &paths.access)?;
    let value = serde_json::to_value(settings).map_err(|error| JobError::io(&paths.target)(error.into()))?;
    let directory = JobDirectory::open(&paths.target, &value, paths.restart)?;
    let mut manifests = directory.manifests::<Manifest>()?;
    let place = (paths.target.as_path(), &paths.access);
    let plan = Plan::new(sources, &manifests, settings.shard_size, place)?;
    tell_plan(&plan, watch);

    let preparation = Preparation::of(models, settings.exact_decode);
    let workshop = Workshop { settings, models, directory: &directory, preparation };
    let (mut damaged, shards) = (reasons(&plan), plan.shards().count());
    let stopped = |done: usize| JobError::Stopped { done, shards };
    for planned in &plan.sources {
        let left: Vec<_> = planned.shards.iter().filter(|shard| !shard.done).collect();
        if left.is_empty() {
            continue;
        }
        let dataset = match planned.source.open(&paths.access) {
            Ok(dataset) => dataset,
            Err(error) => {
                let reason = error.to_string();
                (watch.tell)(Event::Damaged { reason: &reason });
                damaged.push([planned.source.path.display().to_string(), reason]);
                continue;
            }
        };
        for shard in left {
            let made = workshop.make((planned, shard), &*dataset, watch)?;
            let Some(manifest) = made else { return Err(stopped(finished(&plan, &manifests))) };
            (watch.tell)(Event::Shard(&manifest));
            manifests.insert(shard.name.clone(), manifest);
            if watch.is_stopped() {
                return Err(stopped(finished(&plan, &manifests)));
            }
        }
    }
    let names: HashSet<&str> = plan.shards().map(|shard| shard.name.as_str()).collect();
    manifests.retain(|name, _| names.contains(name.as_str()));
    let summary = summary(&directory, manifests.values(), damaged)?;
    write(&directory.file("report.html"), report(settings, &summary, &paths.access).as_bytes())?;
    write_json(&directory.file("summary.json"), &summary)?;
    Ok(summary)
}

fn tell_plan(plan: &Plan, watch: &mut Watch<'_>) {
    for (_, error) in &plan.damaged {
        (watch.tell)(Event::Damaged { reason: &error.to_string() });
    }
    let samples = |done: bool| {
        let shards = plan.shards().filter(|shard| !done || shard.done);
        shards.map(|shard| shard.range.len() as u64).sum()
    };
    (watch.tell)(Event::Planned { samples: samples(false), done: samples(true) });
}

fn reasons(plan: &Plan) -> Vec<[String; 2]> {
    let reason =
        |(source, error): &(sources::Source, _)| [source.path.display().to_string(), format!("{error}")];
    plan.damaged.iter().map(reason).collect()
}

/// How many of the planned shards have a manifest.
fn finished(plan: &Plan, manifests: &std::collections::BTreeMap<String, Manifest>) -> usize {
    plan.shards().filter(|shard| manifests.contains_key(&shard.name)).count()
}

/// Adds up what is told of the shards. Keys of all shards are compared by their hash.
fn summary<'m>(
    directory: &JobDirectory,
    manifests: impl Iterator<Item = &'m Manifest>,
    damaged: Vec<[String; 2]>,
) -> Result<Summary, JobError> {
    #[derive(Deserialize)]
    struct Key {
        key: String,
    }
    let (mut tally, mut keys, mut shards, mut duplicates) = (Tally::default(), HashSet::new(), 0, 0);
    for manifest in manifests {
        tally.merge(&manifest.tally);
        shards += 1;
        let path = directory.records(&manifest.shard);
        let lines = BufReader::new(File::open(&path).map_err(JobError::io(&path))?).lines();
        for line in lines {
            let line = line.map_err(JobError::io(&path))?;
            let damaged =
                |error| JobError::Damaged { path: path.clone(), problem: format!("damaged: {error}") };
            let Key { key } = serde_json::from_str(&line).map_err(damaged)?;
            duplicates += u64::from(!keys.insert(seed(0, &key)));
        }
    }
    tally.duplicate_keys = duplicates;
    Ok(Summary { shards, damaged, tally })
}
