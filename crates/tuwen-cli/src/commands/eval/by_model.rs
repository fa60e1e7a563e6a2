//! What the suites of texts take where a model writes them.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value};
use tuwen_data::dataset::{self, Dataset, DatasetSpec};
use tuwen_eval::WrittenTexts;
use tuwen_eval::annotations::Keyed;
use tuwen_tensor::checkpoint::write_atomically;

use super::{Cut, data_failure};
use crate::console::Console;
use crate::failure::Failure;
use crate::lines::check_place;
use crate::stores;
use crate::writing::WritingArguments;

/// Options for what a model writes.
#[derive(Args)]
pub struct ByModel {
    /// Only the first samples of the data
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "data")]
    limit: Option<u64>,
    /// The folder of the images that a .json file is about [default: that of the file]
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Option<PathBuf>,
    /// What every text begins with [default: that of the model's program]
    #[arg(long, value_name = "TEXT", requires = "data")]
    pub prompt: Option<String>,
    /// Write what the model wrote to a .json file, in the form that --predictions reads
    #[arg(long, value_name = "FILE", requires = "data")]
    save_predictions: Option<PathBuf>,
    #[command(flatten)]
    cut: Cut,
    #[command(flatten)]
    pub writing: WritingArguments,
}

impl ByModel {
    /// The data set that is written about; `questions` are those of a file of annotations.
    pub fn open<'p>(
        &self,
        data: Option<&'p Path>,
        questions: Option<&Path>,
    ) -> Result<(&'p Path, Box<dyn Dataset>), Failure> {
        let path = data.ok_or_else(|| Failure::usage(anyhow!("there is no data to write about")))?;
        self.save_predictions.as_deref().map_or(Ok(()), check_place)?;
        let mut spec = DatasetSpec::new(path);
        (spec.access, spec.cut_files) = (stores::access(), self.cut.files());
        (spec.questions, spec.images) = (questions.map(Path::to_owned), self.images.clone());
        spec.limit = self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((path, dataset::open(&spec).map_err(data_failure)?))
    }

    /// Writes what was predicted, if it is wanted, by the names of an id and of its text.
    pub fn save(&self, predictions: &Keyed<String>, [id_name, text_name]: [&str; 2]) -> Result<(), Failure> {
        let Some(path) = &self.save_predictions else { return Ok(()) };
        let entry = |(id, text): &(String, String)| {
            let fields = [(id_name, id), (text_name, text)];
            Value::Object(Map::from_iter(
                fields.map(|(name, value)| (name.to_owned(), value.as_str().into())),
            ))
        };
        let list: Vec<Value> = predictions.entries().iter().map(entry).collect();
        let text = serde_json::to_string(&list)?;
        Ok(write_atomically(path, |out| out.write_all(text.as_bytes()))?)
    }
}

/// Says what of a data set could not be read, and what is measured otherwise than one may think; `what` is what images should
/// come with.
pub fn tell<P, R>(written: &WrittenTexts<P, R>, what: &str, console: &Console) {
    let WrittenTexts { failed, without, repeated, .. } = written;
    failed.iter().for_each(|reason| console.warn(reason));
    if *without > 0 {
        console.warn(format_args!("{without} images come without {what} and are left out"));
    }
    if *repeated > 0 {
        console
            .warn(format_args!("{repeated} images repeat the key of another: each is measured for itself"));
    }
}
