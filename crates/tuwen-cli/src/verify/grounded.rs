//! BLIP and ALBEF: every named intermediate, what heads give, and losses.

use anyhow::{Context as _, Result, bail};
use tuwen::{GroundedFiles, GroundedNetwork, Options};
use tuwen_models::TokenIds;
use tuwen_nn::Pass;
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{Checkpoint, TensorSource, open};

use super::case::{Case, tensor, token_ids};
use super::report::{Expected, Report, Tolerance};

mod albef;
mod blip;
mod losses;

/// The weights of a case, in its own program's file or in transformers'.
const WEIGHTS: [&str; 2] = ["model.pth", "model.safetensors"];
/// What is recorded of written texts, by the beginnings of names.
const WRITTEN: &[&str] = &["generate.", "nucleus."];
/// What needs momentum copies of the weights and queues.
const OF_TRAINING: &[&str] =
    &["loss_ita", "loss_mlm", "mlm_logits_momentum", "text_proj_m.", "vision_proj_m.", "weights_"];

/// Whether a case is of a BLIP or ALBEF network.
pub fn fits(case: &Case) -> Result<bool> {
    let path = WEIGHTS.map(|name| case.path(name)).into_iter().find(|path| path.exists());
    // A file that cannot be read is named when the model is opened.
    let checkpoint = path.and_then(|path| open(&path).ok());
    Ok(checkpoint.is_some_and(|checkpoint| GroundedFiles::is_one(&checkpoint)))
}

/// Computes and compares.
pub fn run(case: &Case) -> Result<Report> {
    let files = open_model(case, None)?;
    let mut comparison = Comparison {
        case,
        report: Report::default(),
        expected: Expected::new(case.tensors("expected.safetensors")?),
        inputs: case.tensors("inputs.safetensors")?,
        tolerance: case.tolerance()?,
        vocab_size: files.config.text().vocab_size,
    };
    match &files.load()? {
        GroundedNetwork::Blip(blip) => blip::run(&mut comparison, &files, blip)?,
        GroundedNetwork::Albef(albef) => albef::run(&mut comparison, &files, albef)?,
    }
    let Comparison { mut report, mut expected, tolerance, .. } = comparison;
    for (names, what) in [(WRITTEN, "written texts"), (OF_TRAINING, "training with momentum copies")] {
        let count = expected.leave_out(names);
        if count > 0 {
            report.notes.push(format!("{count} tensors of {what} are not compared here"));
        }
    }
    expected.finish(&mut report, tolerance);
    Ok(report)
}

fn open_model(case: &Case, image_size: Option<usize>) -> Result<GroundedFiles> {
    let name = WEIGHTS.into_iter().find(|name| case.has(name)).context("no weights")?;
    let path = case.path(name).to_string_lossy().into_owned();
    Ok(GroundedFiles::open(&path, &Options { image_size, ..Options::default() })?)
}

/// A case under way.
struct Comparison<'c> {
    case: &'c Case,
    report: Report,
    expected: Expected<Checkpoint>,
    inputs: Checkpoint,
    tolerance: Tolerance,
    vocab_size: usize,
}

impl Comparison<'_> {
    fn add(&mut self, name: &str, value: &Tensor) -> Result<()> {
        self.expected.check(&mut self.report, name, value, self.tolerance)
    }

    fn number(&mut self, name: &str, value: f64) -> Result<()> {
        self.add(name, &Tensor::new(&[value as f32], &[1]))
    }

    /// What a pass kept, under the names that the case has for it.
    fn add_trace(&mut self, pass: Pass, rename: impl Fn(&str) -> String) -> Result<()> {
        pass.into_trace().iter().try_for_each(|(name, value)| self.add(&rename(name), value))
    }

    fn wants(&self, name: &str) -> bool {
        self.expected.wants(name)
    }

    fn has(&self, input: &str) -> bool {
        self.inputs.info(input).is_some()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        tensor(&self.inputs, name)
    }

    /// Images as transformers or as Salesforce's programs call them, of the size that the network takes.
    fn images(&self, size: usize) -> Result<Tensor> {
        self.squares(if self.has("image") { "image" } else { "pixel_values" }, size)
    }

    fn squares(&self, name: &str, size: usize) -> Result<Tensor> {
        let images = self.tensor(name)?;
        match images.shape() {
            &[_, 3, height, width] if (height, width) == (size, size) => Ok(images),
            other => bail!("{name} has shape {other:?}, the network takes [batch, 3, {size}, {size}]"),
        }
    }

    fn tokens(&self, ids: &str, mask: Option<&str>) -> Result<TokenIds> {
        token_ids(&self.inputs, ids, mask, self.vocab_size)
    }

    fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let raw = self.inputs.read(name)?;
        raw.to_i64().with_context(|| format!("{name}: expected integers, got {}", raw.dtype))
    }

    /// Numbers of rows below a count.
    fn rows(&self, name: &str, count: usize) -> Result<Vec<u32>> {
        let row = |row: i64| u32::try_from(row).ok().filter(|&row| (row as usize) < count);
        let rows: Option<Vec<u32>> = self.integers(name)?.into_iter().map(row).collect();
        rows.with_context(|| format!("{name}: a row is not below {count}"))
    }
}

/// What the cases call states of the image encoder.
fn vision_names(name: &str) -> String {
    name.replace("vision.layers.", "vision.block.")
}
