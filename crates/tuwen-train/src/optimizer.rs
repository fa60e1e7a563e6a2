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
    /// Whether it is for all parameters instead.
    pub decays_all: bool,
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
            let zeros = || Param::new(entry.param.value().full_like(0.0), false);
            Slot {
                name: entry.name.clone(),
                param: entry.param.clone(),
                lr_scale: group_of(&entry.name).map_or(1.0, |group| group.lr_scale),
                decays: settings.decays_all || decays(&entry.name, &entry.param.shape()),
                moments: [zeros(), zeros()],
            }
        };
        Self { settings, slots: parameters.trainable().map(slot).collect(), steps: 0 }
    }

    /// Multiplies the learning rate of each parameter by a factor of its name.
    pub fn scale_lr(&mut self, factor: impl Fn(&str) -> f64) {
        for slot in &mut self.slots {
            slot.lr_scale *= factor(&slot.name);
        }
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
                if clip < 1.0 {
                    let device = gradient.value().device();
                    gradient.update(|buffer| *buffer = device.scale(buffer, clip as f32));
                }
                slot.step(&gradient, lr, &self.settings, self.steps);
            }
        }
        norm
    }

    /// Number of values that learn.
    pub fn trained(&self) -> usize {
        self.slots.iter().map(|slot| slot.param.value().elements()).sum()
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
    fn step(&self, gradient: &Param, lr: f64, settings: &Settings, step: u64) {
        let device: &dyn Device = gradient.value().device();
        let rule = AdamW {
            lr: (lr * self.lr_scale) as f32,
            beta1: settings.betas[0] as f32,
            beta2: settings.betas[1] as f32,
            eps: settings.eps as f32,
            weight_decay: if self.decays { settings.weight_decay as f32 } else { 0.0 },
            step,
        };
        let [first, second] = &self.moments;
        gradient.update(|gradient| {
            first.update(|m| {
                second.update(|v| self.param.update(|param| device.adamw(param, gradient, m, v, &rule)));
            });
        });
    }
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

#[cfg(test)]
mod tests {
    use tuwen_nn::{Init, Scope};
    use tuwen_tensor::ops;

    use super::*;

    const SETTINGS: Settings = Settings {
        betas: [0.9, 0.99],
        eps: 1e-8,
        weight_decay: 0.1,
        decays_all: false,
        grad_clip_norm: None,
    };

    fn parameters() -> Parameters {
        let scope = Scope::init(1);
        scope.enter("layer").param("weight", &[2, 2], Init::Const(1.0));
        scope.enter("layer").param("bias", &[2], Init::Const(1.0));
        scope.finish().expect("nothing is loaded")
    }

    /// The gradient of `sum(scale * parameter)` over all parameters.
    fn gradients(parameters: &Parameters, scale: f32) -> Gradients {
        let terms = parameters.trainable().map(|entry| ops::sum(&ops::scale(&entry.param.value(), scale)));
        terms.reduce(|a, b| ops::add(&a, &b)).expect("parameters").backward()
    }

    fn values(parameters: &Parameters, name: &str) -> Vec<f32> {
        parameters.get(name).expect("a parameter").param.value().to_vec()
    }

    #[test]
    fn the_first_step_is_the_learning_rate_and_decay_spares_vectors() {
        let parameters = parameters();
        let norm = Optimizer::new(&parameters, &[], SETTINGS).step(gradients(&parameters, 3.0), 0.01);
        assert!((norm - 54f64.sqrt()).abs() < 1e-6, "{norm}");
        // 1 - 0.01 * 0.1 - 0.01 and 1 - 0.01
        assert!(values(&parameters, "layer.weight").iter().all(|v| (v - 0.989).abs() < 1e-6));
        assert!(values(&parameters, "layer.bias").iter().all(|v| (v - 0.99).abs() < 1e-6));
    }

    #[test]
    fn groups_scale_and_freeze_in_order() {
        let parameters = parameters();
        let group = |pattern: &str, lr_scale, freeze| Group { pattern: pattern.into(), lr_scale, freeze };
        let groups = [group("*.bias", 0.5, false), group("layer.*", 1.0, true)];
        let mut optimizer = Optimizer::new(&parameters, &groups, SETTINGS);
        optimizer.step(gradients(&parameters, 1.0), 0.01);
        assert_eq!(values(&parameters, "layer.weight"), [1.0; 4]);
        assert!(values(&parameters, "layer.bias").iter().all(|v| (v - 0.995).abs() < 1e-6));
        assert_eq!(optimizer.state().count(), 2);
    }

    #[test]
    fn clipping_shortens_the_gradient_and_reports_its_length() {
        let parameters = parameters();
        let settings = Settings { grad_clip_norm: Some(0.5), ..SETTINGS };
        let mut optimizer = Optimizer::new(&parameters, &[], settings);
        let norm = optimizer.step(gradients(&parameters, 10.0), 0.01);
        assert!((norm - 600f64.sqrt()).abs() < 1e-4, "{norm}");
        let squares: f32 = optimizer
            .state()
            .filter(|(name, _)| name.ends_with("exp_avg"))
            .flat_map(|(_, moment)| moment.to_vec())
            .map(|m| (m / 0.1).powi(2))
            .sum();
        assert!((squares.sqrt() - 0.5).abs() < 1e-4, "{}", squares.sqrt());
    }

    #[test]
    fn a_gradient_that_is_no_number_changes_nothing() {
        let parameters = parameters();
        let mut optimizer = Optimizer::new(&parameters, &[], SETTINGS);
        assert!(optimizer.step(gradients(&parameters, f32::NAN), 0.01).is_nan());
        assert_eq!((values(&parameters, "layer.bias"), optimizer.steps()), (vec![1.0; 2], 0));
    }
}
