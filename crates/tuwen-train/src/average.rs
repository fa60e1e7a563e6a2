//! The moving average of what is trained (EMA), which evaluations and exported models use.

use tuwen_nn::Parameters;
use tuwen_tensor::checkpoint::TensorSource;
use tuwen_tensor::{Param, Tensor};

use crate::optimizer::assign;
use crate::recipe::Train;

/// An exponential moving average of every trainable parameter; running statistics, averages already, stay as they are.
///
/// After each step `average += (1 - decay) · (parameter - average)`, in place. With a warm-up the decay is at most
/// `(1 + step) / (10 + step)`, so that the first weights, drawn at random, are soon forgotten (as TensorFlow's
/// `ExponentialMovingAverage` with `num_updates`, and timm's).
pub struct Average {
    slots: Vec<Slot>,
    decay: f64,
    warmup: bool,
}

struct Slot {
    name: String,
    param: Param,
    average: Param,
}

impl Average {
    /// An average that begins at the present values; `None` where the recipe asks for none.
    pub(crate) fn of(parameters: &Parameters, train: &Train) -> Option<Self> {
        Some(Self::new(parameters, train.ema_decay?, train.ema_warmup))
    }

    /// An average that begins at the present values.
    pub fn new(parameters: &Parameters, decay: f64, warmup: bool) -> Self {
        let slot = |entry: &tuwen_nn::Entry| {
            let value = entry.param.value();
            let copy = Tensor::on(value.device(), &value.to_vec(), value.shape());
            Slot { name: entry.name.clone(), param: entry.param.clone(), average: Param::new(copy, false) }
        };
        Self { slots: parameters.trainable().map(slot).collect(), decay, warmup }
    }

    /// Takes the parameters after step number `step`, counted from 0, into account.
    pub fn update(&self, step: u64) {
        let step = step as f64;
        let decay = if self.warmup { self.decay.min((1.0 + step) / (10.0 + step)) } else { self.decay };
        for slot in &self.slots {
            slot.average.lerp(&slot.param.value(), (1.0 - decay) as f32);
        }
    }

    /// Exchanges parameters and averages.
    fn swap(&self) {
        for slot in &self.slots {
            slot.param.swap(&slot.average);
        }
    }

    /// Averages by name, for saving.
    pub fn state(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.slots.iter().map(|slot| (slot.name.clone(), slot.average.value()))
    }

    /// Takes over saved averages.
    ///
    /// # Errors
    /// What the source lacks, has in another shape, or cannot read.
    pub fn restore(&self, source: &dyn TensorSource) -> Result<(), String> {
        self.slots.iter().try_for_each(|slot| assign(&slot.average, source, &slot.name))
    }
}

/// Runs `f` with the averages, if there are any, in place of the parameters, which come back whatever `f` does.
pub(crate) fn in_place_of<T>(average: &Option<Average>, f: impl FnOnce() -> T) -> T {
    struct SwapBack<'a>(&'a Average);
    impl Drop for SwapBack<'_> {
        fn drop(&mut self) {
            self.0.swap();
        }
    }
    let _back = average.as_ref().map(|average| {
        average.swap();
        SwapBack(average)
    });
    f()
}

#[cfg(test)]
mod tests {
    use tuwen_nn::{Init, Scope};

    use super::*;

    /// A parameter that goes 1, 2, 4, 8 and a running statistic beside it.
    fn run(decay: f64, warmup: bool) -> (Parameters, Option<Average>) {
        let scope = Scope::init(1);
        let param = scope.param("weight", &[3], Init::ONES);
        let buffer = scope.buffer("running_mean", &[3], Init::ONES);
        let parameters = scope.finish().expect("nothing is loaded");
        let average = Average::new(&parameters, decay, warmup);
        for (step, value) in [2.0, 4.0, 8.0].into_iter().enumerate() {
            param.assign(&Tensor::full(value, &[3]));
            buffer.assign(&Tensor::full(value, &[3]));
            average.update(step as u64);
        }
        (parameters, Some(average))
    }

    fn values(parameters: &Parameters) -> Vec<f32> {
        parameters.iter().map(|entry| entry.param.value().to_vec()[0]).collect()
    }

    #[test]
    fn the_average_follows_and_takes_the_place_of_what_is_trained() {
        let (parameters, average) = run(0.75, false);
        // 1, then a quarter of the way to 2, to 4 and to 8.
        let expected = [1.0 + 0.25, 1.25 + 0.25 * 2.75, 1.9375 + 0.25 * 6.0625].map(|v: f32| v)[2];
        assert_eq!(values(&parameters), [8.0, 8.0]);
        assert_eq!(in_place_of(&average, || values(&parameters)), [expected, 8.0]);
        assert_eq!(values(&parameters), [8.0, 8.0]);
        assert!(parameters.get("weight").expect("there").param.is_trainable());
        assert_eq!(in_place_of(&None, || values(&parameters)), [8.0, 8.0]);
    }

    #[test]
    fn a_warm_up_forgets_the_beginning() {
        let (parameters, average) = run(0.9999, true);
        let expected = [0.1, 2.0 / 11.0, 0.25].iter().zip([2.0, 4.0, 8.0]);
        let expected =
            expected.fold(1.0, |average: f64, (decay, value)| decay * average + (1.0 - decay) * value);
        let got = f64::from(in_place_of(&average, || values(&parameters))[0]);
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
    }
}
