//! `eval linear-probe`: logistic regression on frozen features, as in CLIP's paper or its README.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use tuwen::{Ability, Embedder, ImageFeatures, Model};
use tuwen_data::dataset::Dataset;
use tuwen_eval::logistic::Fit;
use tuwen_eval::suites::{LinearProbe as Probe, Probed, Samples, Strength, split};
use tuwen_eval::{Classes, Encoded, EvalError};

use super::features::Cache;
use super::{Common, Report, encode_all, eval_failure, stem};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::models::model_failure;

/// Arguments of `eval linear-probe`.
#[derive(Args)]
#[command(
    after_help = "Without --c the strength of the penalty is found as in CLIP's paper: a search over 96 values \
    by accuracy on validation samples, then a fit to all. The README of CLIP does --features projected --c 0.316."
)]
pub struct LinearProbe {
    /// The data to learn from
    #[arg(value_name = "TRAIN")]
    train: PathBuf,
    /// The data to measure on
    #[arg(value_name = "TEST")]
    test: PathBuf,
    #[command(flatten)]
    common: Common,
    /// The data by which C is chosen [default: a tenth of TRAIN, taken from each class]
    #[arg(long, value_name = "DATA", conflicts_with = "c")]
    validation: Option<PathBuf>,
    /// What an image is described by: before the projection (pooled), after it, or of length 1
    #[arg(long, value_name = "FEATURES", default_value_t = ImageFeatures::Pooled, value_parser = features)]
    features: ImageFeatures,
    /// The weight of the data against the penalty, as scikit-learn's C [default: searched for]
    #[arg(long, value_name = "C", value_parser = positive)]
    c: Option<f64>,
    /// Iterations of L-BFGS at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    max_iter: u64,
    /// The length of the gradient, as the Hessian measures it, at which a fit ends
    #[arg(long, value_name = "LENGTH", default_value_t = 1e-4, value_parser = positive)]
    tolerance: f64,
    /// Decides which samples serve for validation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the probe to a file, for classify --probe
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Keep features in this directory, and take them from there when model and data are the same
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Megabytes that features and fit may take
    #[arg(long, value_name = "MB", default_value_t = 4096)]
    max_memory: u64,
}

/// Share of the training samples that serve for validation.
const VALIDATION: f64 = 0.1;

impl LinearProbe {
    pub fn run(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        let open = |path: &PathBuf| self.common.open(path);
        let (train, test) = (open(&self.train)?, open(&self.test)?);
        let validation = self.validation.as_ref().map(open).transpose()?;
        let model = global.load(Ability::EmbedImages, console)?;
        let embedder = model.embedder_of(self.features);
        let rows =
            [Some(&train), Some(&test), validation.as_ref()].into_iter().flatten().map(|data| data.len());
        self.check_memory(rows.sum(), embedder.dim(), None)?;
        let began = Instant::now();
        let cache = self.cache.as_deref().map(|directory| Cache::new(directory, &model, self.features));
        let encode = |dataset: &dyn Dataset| encode(embedder, cache.as_ref(), dataset, console);
        let (train, test) = (encode(train.as_ref())?, encode(test.as_ref())?);
        let validation = validation.map(|dataset| encode(dataset.as_ref())).transpose()?;
        let failed = [Some(&train), Some(&test), validation.as_ref()].into_iter().flatten();
        let failed = failed.map(|encoded| encoded.failed.len()).sum();
        let encoded = began.elapsed().as_secs_f64();
        let classes = Classes::of(&train.samples, &train.data).map_err(eval_failure)?;
        let samples = |encoded: Encoded| Samples::of(encoded, &classes).map_err(eval_failure);
        let (train, test) = (samples(train)?, samples(test)?);
        let validation = validation.map(samples).transpose()?;
        self.check_memory(train.len() + test.len(), embedder.dim(), Some(classes.len()))?;
        let began = Instant::now();
        let probed = self.fit(train, validation, &classes, console)?;
        let fitted = began.elapsed().as_secs_f64();
        console
            .note(format_args!("encoded in {encoded:.1} s, fitted in {fitted:.1} s: {}", said_of(&probed)));
        let classifier = probed.fit.classifier(classes.names().to_vec(), self.features, embedder.dim());
        if let Some(path) = &self.save {
            classifier.write(path).map_err(model_failure)?;
            console.note(format_args!("the probe is in {}", path.display()));
        }
        let metrics = test.metrics(&classifier);
        let report = Report { suite: "linear-probe", data: stem(&self.test), model: name(&model), metrics };
        report.print(&self.common.expectations.expected, failed, console)
    }

    fn fit(
        &self,
        train: Samples,
        validation: Option<Samples>,
        classes: &Classes,
        console: &Console,
    ) -> Result<Probed, Failure> {
        let strength = self.c.map_or(Strength::Searched, Strength::Given);
        let probe = Probe { strength, max_iter: self.max_iter, tolerance: self.tolerance };
        let (train, validation) = match (strength, validation) {
            (Strength::Searched, None) => {
                let (train, validation) = split(&train, VALIDATION, self.seed);
                (train, Some(validation))
            }
            (_, validation) => (train, validation),
        };
        // Seven values, two for each of four finer grids, and the last fit.
        let fits = if strength == Strength::Searched { 16 } else { 1 };
        let progress = RefCell::new(console.progress(fits, "fits"));
        let mut tried = |c: f64, fit: &Fit| {
            progress.borrow_mut().advance(1);
            progress.borrow().message(format!("C {c:.3e}"));
            if !fit.converged {
                console.note(format_args!("C {c:.3e}: no convergence in {} iterations", fit.iterations));
            }
        };
        probe.fit(&train, validation.as_ref(), classes.len(), &mut tried).map_err(eval_failure)
    }

    /// Refuses what would not fit into the memory that is allowed, before it is computed.
    fn check_memory(&self, rows: usize, dim: usize, classes: Option<usize>) -> Result<(), Failure> {
        // Twice while a split or a union is made.
        let features = 2 * rows as u64 * dim as u64 * size_of::<f32>() as u64;
        let fit = classes.map_or(0, |classes| Fit::memory(dim, classes));
        let (needed, limit) = ((features + fit).div_ceil(1 << 20), self.max_memory);
        if needed <= limit {
            return Ok(());
        }
        let what = format!("{rows} x {dim} features and the fit");
        Err(eval_failure(EvalError::Memory { needed, limit, what }))
    }
}

/// Encodes a data set, or takes its features from the cache.
fn encode(
    embedder: Embedder<'_>,
    cache: Option<&Cache>,
    dataset: &dyn Dataset,
    console: &Console,
) -> Result<Encoded, Failure> {
    let all = || -> Result<Encoded, Failure> {
        let encoded = encode_all(&embedder, dataset, console).map_err(eval_failure)?;
        encoded.failed.iter().for_each(|reason| console.warn(reason));
        Ok(encoded)
    };
    let Some(cache) = cache else { return all() };
    let place = cache.place(dataset);
    if let Some(encoded) = place.read(dataset, embedder.dim()) {
        console.note(format_args!("{}: features from {}", dataset.name(), place.path().display()));
        return Ok(encoded);
    }
    let encoded = all()?;
    place.write(&encoded)?;
    Ok(encoded)
}

fn said_of(probed: &Probed) -> String {
    let Probed { fit, c, trials } = probed;
    let end = format!("{} iterations to an objective of {:.6}", fit.iterations, fit.objective);
    match trials.len() {
        0 => format!("C {c}, {end}"),
        count => {
            let of_c = |trial: &&tuwen_eval::suites::Trial| trial.c == *c;
            let accuracy = trials.iter().find(of_c).map_or(f64::NAN, |trial| 100.0 * trial.accuracy);
            format!("C {c:.4e} of {count} tried ({accuracy:.2} % of the validation samples), {end}")
        }
    }
}

fn name(model: &Model) -> String {
    model.name().to_owned()
}

fn features(name: &str) -> Result<ImageFeatures, String> {
    let known = ImageFeatures::ALL.map(ImageFeatures::name).join(", ");
    ImageFeatures::find(name).ok_or_else(|| format!("features are {known}"))
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert_eq!(features("pooled"), Ok(ImageFeatures::Pooled));
        assert!(features("raw").expect_err("unknown").contains("pooled, projected, normalized"));
        assert_eq!(positive("0.316"), Ok(0.316));
        for text in ["0", "-1", "inf", "nan", "x"] {
            assert!(positive(text).is_err(), "{text}");
        }
        assert_eq!(stem("a/b-test.parquet".as_ref()), "b-test");
    }
}
