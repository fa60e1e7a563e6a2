//! AdamW over the parameters of a network.

use tuwen_nn::Parameters;
use tuwen_tensor::checkpoint::{RawTensor, TensorSource};
use tuwen_tensor::{AdamW, Device, Gradients, Param, Tensor};

use crate::recipe::Group;

/// Settings that hold for every step; the learning rate comes with each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, for the parameters that [`decays`].
    pub weight_decay: f64,
    /// Greatest length of the gradient of all parameters together.
    pub grad_clip_norm: Option<f64>,
}

/// AdamW (arXiv 1711.05101) with its moments.
pub struct Optimizer {
    settings: Settings,
    slots: Vec<Slot>,
    /// Steps taken.
    steps: u64,
}

struct Slot {
    name: String,
    param: Param,
    lr_scale: f64,
    decays: bool,
    /// First and second moment.
    moments: [Param; 2],
}

/// Suffixes under which the moments are saved, PyTorch's words.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

/// Whether weight decay applies to a parameter: not to anything of at most one axis (biases, norms, the temperature,
/// class embeddings), nor to the positions of a transformer. The rule of open_clip, under which the positions of a
/// ResNet's attention pool do decay.
pub fn decays(name: &str, shape: &[usize]) -> bool {
    shape.len() > 1 && !name.ends_with(".position_embedding.weight")
}

impl Optimizer {
    /// An optimizer of every trainable parameter. The first group whose pattern matches a name decides its share of
    /// the learning rate; frozen ones are made so here.
    pub fn new(parameters: &Parameters, groups: &[Group], settings: Settings) -> Self {
        let group_of = |name: &str| groups.iter().find(|group| group.matches(name));
        for entry in parameters.trainable() {
            if group_of(&entry.name).is_some_and(|group| group.freeze) {
                entry.param.set_trainable(false);
            }
        }
        let slot = |entry: &tuwen_nn::Entry| {
            let zeros = || Param::new(zeros_like(&entry.param.value()), false);
            Slot {
                name: entry.name.clone(),
                param: entry.param.clone(),
                lr_scale: group_of(&entry.name).map_or(1.0, |group| group.lr_scale),
                decays: decays(&entry.name, &entry.param.shape()),
                moments: [zeros(), zeros()],
            }
        };
        Self { settings, slots: parameters.trainable().map(slot).collect(), steps: 0 }
    }

    /// Takes a step along gradients and returns their length before clipping. Nothing changes if that is no number.
    pub fn step(&mut self, mut gradients: Gradients, lr: f64) -> f64 {
        let take =
            |slot: &Slot| gradients.take(&slot.param.value()).map(|gradient| Param::new(gradient, false));
        let gradients: Vec<Option<Param>> = self.slots.iter().map(take).collect();
        let mut squares = 0.0;
        for gradient in gradients.iter().flatten() {
            let device = gradient.value().device();
            gradient.update(|buffer| squares += device.sum_squares(buffer));
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return norm;
        }
        self.steps += 1;
        // As torch.nn.utils.clip_grad_norm_ does.
        let clip = self.settings.grad_clip_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        for (slot, gradient) in self.slots.iter().zip(gradients) {
            if let Some(gradient) = gradient {
                slot.step(&gradient, lr, clip, &self.settings, self.steps);
            }
        }
        norm
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moments by name, for saving.
    pub fn state(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.slots.iter().flat_map(|slot| {
            let names = MOMENTS.map(|moment| format!("{}.{moment}", slot.name));
            names.into_iter().zip(slot.moments.iter().map(Param::value))
        })
    }

    /// Takes over saved moments after `steps` steps.
    ///
    /// # Errors
    /// What the source lacks, has in another shape, or cannot read.
    pub fn restore(&mut self, source: &dyn TensorSource, steps: u64) -> Result<(), String> {
        for slot in &self.slots {
            for (param, moment) in slot.moments.iter().zip(MOMENTS) {
                assign(param, source, &format!("{}.{moment}", slot.name))?;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

impl Slot {
    fn step(&self, gradient: &Param, lr: f64, clip: f64, settings: &Settings, step: u64) {
        let device: &dyn Device = gradient.value().device();
        let rule = AdamW {
            lr: (lr * self.lr_scale) as f32,
            beta1: settings.betas[0] as f32,
            beta2: settings.betas[1] as f32,
            eps: settings.eps as f32,
            weight_decay: if self.decays { settings.weight_decay as f32 } else { 0.0 },
            step,
            grad_scale: clip as f32,
        };
        let [first, second] = &self.moments;
        gradient.update(|gradient| {
            first.update(|m| {
                second.update(|v| self.param.update(|param| device.adamw(param, gradient, m, v, &rule)));
            });
        });
    }
}

fn zeros_like(value: &Tensor) -> Tensor {
    Tensor::on(value.device(), &vec![0.0; value.elements()], value.shape())
}

/// Gives a parameter the value that a checkpoint holds under a name.
pub(crate) fn assign(param: &Param, source: &dyn TensorSource, name: &str) -> Result<(), String> {
    let stored: RawTensor = source.read(name).map_err(|error| error.to_string())?;
    let shape = param.shape();
    if stored.shape != shape {
        return Err(format!("{name}: expected shape {shape:?}, got {:?}", stored.shape));
    }
    param.assign(&Tensor::on(param.value().device(), &stored.to_f32(), &shape));
    Ok(())
}
