//! Which shards there are, and which of them are left to do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use tuwen_data::dataset::{Access, DataError};

use super::manifest::Manifest;
use crate::JobError;
use crate::sources::Source;

/// A source and its shards.
pub(super) struct Planned {
    pub source: Source,
    pub samples: usize,
    pub shards: Vec<Shard>,
}

/// A stretch of samples.
pub(super) struct Shard {
    pub name: String,
    pub range: Range<usize>,
    pub done: bool,
}

/// What is to be done.
pub(super) struct Plan {
    pub sources: Vec<Planned>,
    /// Sources that cannot be read.
    pub damaged: Vec<(Source, DataError)>,
}

impl Plan {
    /// Looks at all sources; those of which shards are finished and that have not changed are not opened.
    ///
    /// # Errors
    /// A source that is another than the one that finished shards were made of.
    pub fn new(
        sources: Vec<Source>,
        manifests: &BTreeMap<String, Manifest>,
        shard_size: usize,
        (target, access): (&Path, &Access),
    ) -> Result<Self, JobError> {
        let mut plan = Self { sources: Vec::new(), damaged: Vec::new() };
        for source in sources {
            let finished = |part: usize| {
                let manifest = manifests.get(&name(&source.stem, part));
                manifest.filter(|manifest| manifest.holds(target))
            };
            let prefix = format!("{}-", source.stem);
            let mut later =
                manifests.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
            let known = later.find(|(name, _)| is_part(name, &prefix)).map(|(_, manifest)| manifest);
            match samples(&source, known, access) {
                Ok(samples) => {
                    let shards = (0..samples.div_ceil(shard_size)).map(|part| Shard {
                        name: name(&source.stem, part),
                        range: part * shard_size..samples.min((part + 1) * shard_size),
                        done: finished(part).is_some(),
                    });
                    plan.sources.push(Planned { shards: shards.collect(), source, samples });
                }
                Err(JobError::Data(error)) => plan.damaged.push((source, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(plan)
    }

    /// All shards.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.sources.iter().flat_map(|planned| &planned.shards)
    }
}

/// How many samples a source has; `known` is what is told of it.
fn samples(source: &Source, known: Option<&Manifest>, access: &Access) -> Result<usize, JobError> {
    let changed = |difference| Err(JobError::SourceChanged { path: source.path.clone(), difference });
    match known {
        None => Ok(source.open(access)?.len()),
        Some(known) if known.source_bytes != source.bytes => {
            let length =
                |bytes: Option<u64>| bytes.map_or("no file".into(), |bytes| format!("{bytes} bytes"));
            changed(format!("it was {}, now it is {}", length(known.source_bytes), length(source.bytes)))
        }
        Some(known) if source.bytes.is_some() => Ok(known.source_samples),
        Some(known) => match source.open(access)?.len() {
            now if now == known.source_samples => Ok(now),
            now => changed(format!("it had {} samples, now it has {now}", known.source_samples)),
        },
    }
}

/// The name of a shard.
fn name(stem: &str, part: usize) -> String {
    format!("{stem}-{part:04}")
}

/// Whether a name is a prefix and the number of a part.
fn is_part(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
}
