//! The data sets of a recipe, opened.

use std::sync::Arc;

use tuwen_data::check::{CheckOptions, Source, SourceReport, check};
use tuwen_data::dataset::{self, DataError, Dataset, DatasetSpec};

use crate::Recipe;

/// The data sets of a recipe, in its order.
pub struct Sources(Vec<Opened>);

struct Opened {
    dataset: Arc<dyn Dataset>,
    weight: f64,
    /// Whether its captions are made from the names of classes.
    has_templates: bool,
}

impl Opened {
    fn to_check(&self) -> Source<'_> {
        Source { dataset: &*self.dataset, texts_repeat: self.has_templates }
    }
}

impl Sources {
    /// Opens all of them.
    ///
    /// # Errors
    /// What is no data set, or an empty one.
    pub fn open(recipe: &Recipe) -> Result<Self, DataError> {
        let open = |spec: &DatasetSpec| {
            let dataset = dataset::open(&recipe.dataset(spec))?.into();
            Ok(Opened { dataset, weight: spec.weight, has_templates: !spec.caption_templates.is_empty() })
        };
        recipe.data.iter().map(open).collect::<Result<_, DataError>>().map(Self)
    }

    /// Samples in all of them.
    pub fn samples(&self) -> usize {
        self.0.iter().map(|source| source.dataset.len()).sum()
    }

    /// Looks at the samples before they are learnt from. `progress` is told how many were looked at since the last time.
    pub fn check(&self, options: &CheckOptions, progress: &mut dyn FnMut(usize)) -> Vec<SourceReport> {
        let sources: Vec<Source> = self.0.iter().map(Opened::to_check).collect();
        check(&sources, options, progress)
    }

    /// All captions, from which a vocabulary may be learnt. Samples that cannot be read have none.
    pub fn captions(&self) -> impl Iterator<Item = String> {
        let texts =
            |dataset: &dyn Dataset, index| dataset.get(index).map(|sample| sample.texts).unwrap_or_default();
        self.0.iter().flat_map(move |source| {
            (0..source.dataset.len()).flat_map(move |index| texts(&*source.dataset, index))
        })
    }

    /// The data sets with their weights.
    pub(crate) fn weighted(&self) -> Vec<(Box<dyn Dataset>, f64)> {
        let weighted =
            |source: &Opened| (Box::new(source.dataset.clone()) as Box<dyn Dataset>, source.weight);
        self.0.iter().map(weighted).collect()
    }
}
