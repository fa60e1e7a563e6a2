//! The data sets of a recipe, opened.

use std::sync::Arc;

use tuwen_data::check::{CheckOptions, Source, SourceReport, check};
use tuwen_data::dataset::{self, CutFiles, DataError, Dataset, DatasetSpec, Sample};
use tuwen_eval::{Classes, EvalError};

use crate::recipe::{AlbefLearns, Objective, Task};
use crate::{Recipe, TrainError};

/// The data sets of a recipe, in its order.
pub struct Sources {
    all: Vec<Opened>,
    /// Whether classes are learnt, not texts.
    of_classes: bool,
    /// Whether questions are learnt too.
    of_questions: bool,
    /// Whether sentences about two images are, each of which stands beside several pairs of them.
    of_two_images: bool,
}

struct Opened {
    dataset: Arc<dyn Dataset>,
    weight: f64,
    /// Whether its captions are made from the names of classes.
    has_templates: bool,
}

impl Opened {
    fn to_check(&self, texts_repeat: bool) -> Source<'_> {
        Source { dataset: &*self.dataset, texts_repeat: self.has_templates || texts_repeat }
    }
}

impl Sources {
    /// Opens all of them. Of files that were cut, what is whole is learnt from.
    ///
    /// # Errors
    /// What is no data set, or an empty one.
    pub fn open(recipe: &Recipe) -> Result<Self, DataError> {
        let open = |spec: &DatasetSpec| {
            let spec = &DatasetSpec { cut_files: CutFiles::PassOver, ..recipe.dataset(spec) };
            let dataset = dataset::open(spec)?.into();
            Ok(Opened { dataset, weight: spec.weight, has_templates: !spec.caption_templates.is_empty() })
        };
        let all = recipe.data.iter().map(open).collect::<Result<_, DataError>>()?;
        let objective = recipe.train.objective;
        Ok(Self {
            all,
            of_classes: objective == Objective::Classification,
            of_questions: objective == Objective::Blip && recipe.blip.answers()
                || objective == Objective::Albef && recipe.albef.task == AlbefLearns::Vqa,
            of_two_images: objective == Objective::Blip && recipe.blip.task == Task::Nlvr2,
        })
    }

    /// Samples in all of them.
    pub fn samples(&self) -> usize {
        self.all.iter().map(|source| source.dataset.len()).sum()
    }

    /// Looks at the samples before they are learnt from. `progress` is told how many were looked at since the last time.
    pub fn check(&self, options: &CheckOptions, progress: &mut dyn FnMut(usize)) -> Vec<SourceReport> {
        let options =
            CheckOptions { classes: self.of_classes, questions: self.of_questions, ..options.clone() };
        // The same is asked about many images.
        let sources: Vec<Source> =
            self.all.iter().map(|source| source.to_check(self.of_questions || self.of_two_images)).collect();
        check(&sources, &options, progress)
    }

    /// All captions, from which a vocabulary may be learnt. Samples that cannot be read have none.
    pub fn captions(&self) -> impl Iterator<Item = String> {
        let texts =
            |dataset: &dyn Dataset, index| dataset.get(index).map(|sample| sample.texts).unwrap_or_default();
        self.all.iter().flat_map(move |source| {
            (0..source.dataset.len()).flat_map(move |index| texts(&*source.dataset, index))
        })
    }

    /// All captions, and questions with their answers where they are learnt.
    pub(crate) fn all_texts(&self) -> impl Iterator<Item = String> {
        let of_questions = self.of_questions;
        let texts = move |dataset: &dyn Dataset, index| {
            let Ok(Sample { mut texts, questions, .. }) = dataset.get(index) else { return Vec::new() };
            for question in questions.into_iter().filter(|_| of_questions) {
                texts.push(question.question);
                texts.extend(question.answers);
            }
            texts
        };
        self.all.iter().flat_map(move |source| {
            (0..source.dataset.len()).flat_map(move |index| texts(&*source.dataset, index))
        })
    }

    /// The classes of all samples that can be read.
    ///
    /// # Errors
    /// Samples without a class, or fewer than two classes.
    pub(crate) fn classes(&self) -> Result<Classes, TrainError> {
        let readable = |source: &Opened| {
            let dataset = source.dataset.clone();
            (0..dataset.len()).filter_map(move |index| dataset.get(index).ok())
        };
        let bare = |sample| Sample { image: Vec::new(), texts: Vec::new(), ..sample };
        let samples: Vec<Sample> = self.all.iter().flat_map(readable).map(bare).collect();
        let data = "[[data]]";
        let fail = |error: EvalError| TrainError::Classes(error.to_string());
        let classes = Classes::of(&samples, data).map_err(fail)?;
        match classes.len() {
            0 | 1 => Err(fail(EvalError::OneClass { data: data.into(), count: classes.len() })),
            _ => Ok(classes),
        }
    }

    /// The data sets with their weights.
    pub(crate) fn weighted(&self) -> Vec<(Box<dyn Dataset>, f64)> {
        let weighted =
            |source: &Opened| (Box::new(source.dataset.clone()) as Box<dyn Dataset>, source.weight);
        self.all.iter().map(weighted).collect()
    }
}
