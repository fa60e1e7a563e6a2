//! The learning rate over time: linear warm-up, then a decay at each step or each epoch.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Half a cosine, to zero at the last step.
    #[default]
    Cosine,
    /// Not at all.
    Constant,
    /// The same cosine over the epochs, constant within each (salesforce/BLIP, salesforce/ALBEF). The warm-up lies in the
    /// first epoch.
    CosinePerEpoch,
    /// By a factor after each epoch (salesforce/BLIP's pre-training). The warm-up lies in the first epoch.
    ExponentialPerEpoch,
}

/// A schedule over a known number of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub lr: f64,
    /// Steps until it is reached.
    pub warmup_steps: u64,
    /// All steps, warm-up included.
    pub total_steps: u64,
    /// What follows the warm-up.
    pub decay: Decay,
    /// Where the warm-up begins; a step above zero unless given.
    pub warmup_lr: Option<f64>,
    /// Where the decay ends.
    pub min_lr: f64,
    /// What the rate is multiplied with after each epoch, where it is so.
    pub decay_rate: f64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// All epochs.
    pub epochs: u64,
}

impl Schedule {
    /// The learning rate of a step, counted from 0 (open_clip `scheduler.py`: `cosine_lr`, `const_lr`; salesforce/BLIP
    /// `utils.py`: `warmup_lr_schedule`, `cosine_lr_schedule`, `step_lr_schedule`).
    pub fn at(&self, step: u64) -> f64 {
        let epoch = step / self.steps_per_epoch.max(1);
        let per_epoch = matches!(self.decay, Decay::CosinePerEpoch | Decay::ExponentialPerEpoch);
        if step < self.warmup_steps && !(per_epoch && epoch > 0) {
            return self.warming_up(step);
        }
        match self.decay {
            Decay::Constant => self.lr,
            Decay::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                self.cosine((step - self.warmup_steps) as f64 / length as f64)
            }
            Decay::CosinePerEpoch => self.cosine(epoch as f64 / self.epochs.max(1) as f64),
            Decay::ExponentialPerEpoch => (self.lr * self.decay_rate.powf(epoch as f64)).max(self.min_lr),
        }
    }

    fn warming_up(&self, step: u64) -> f64 {
        let steps = self.warmup_steps as f64;
        match self.warmup_lr {
            Some(first) => first + (self.lr - first) * step as f64 / steps,
            None => self.lr * (step + 1) as f64 / steps,
        }
    }

    /// Half a cosine from the highest rate down, of which such a part is over.
    fn cosine(&self, progress: f64) -> f64 {
        let left = 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
        left * (self.lr - self.min_lr) + self.min_lr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_in_a_line_and_falls_in_a_cosine() {
        let schedule = Schedule { lr: 1e-4, warmup_steps: 3, total_steps: 10, ..Schedule::default() };
        // The rates that the reference used over ten steps.
        let expected = [
            3.3333333333333335e-05,
            6.666666666666667e-05,
            0.0001,
            0.0001,
            9.504844339512095e-05,
            8.117449009293668e-05,
            6.112604669781572e-05,
            3.887395330218429e-05,
            1.8825509907063327e-05,
            4.951556604879048e-06,
        ];
        for (step, expected) in (0..).zip(expected) {
            assert!((schedule.at(step) - expected).abs() < 1e-18, "step {step}: {}", schedule.at(step));
        }
        assert!(schedule.at(10).abs() < 1e-18 && schedule.at(99).abs() < 1e-18);
        assert_eq!(Schedule { decay: Decay::Constant, ..schedule }.at(9), 1e-4);
    }

    #[test]
    fn epochs_have_one_rate_each() {
        let of = |decay| Schedule {
            lr: 3e-4,
            warmup_steps: 4,
            total_steps: 50,
            decay,
            warmup_lr: Some(1e-6),
            min_lr: 1e-4,
            decay_rate: 0.9,
            steps_per_epoch: 10,
            epochs: 5,
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        let cosine = of(Decay::CosinePerEpoch);
        for (step, expected) in [(0, 1e-6), (1, 7.575e-5), (3, 2.2525e-4), (4, 3e-4), (9, 3e-4)] {
            near(cosine.at(step), expected);
        }
        for epoch in 1..5 {
            let left = 0.5 * (1.0 + (std::f64::consts::PI * f64::from(epoch) / 5.0).cos());
            let step = 10 * u64::from(epoch as u32);
            near(cosine.at(step), 1e-4 + 2e-4 * left);
            assert_eq!(cosine.at(step), cosine.at(step + 9));
        }
        let exponential = of(Decay::ExponentialPerEpoch);
        near(exponential.at(10), 2.7e-4);
        near(exponential.at(29), 3e-4 * 0.81);
        assert_eq!(Schedule { epochs: 40, ..exponential }.at(390), 1e-4);
        // What the first epoch does not bring to its height begins the second there.
        assert_eq!(Schedule { warmup_steps: 30, ..exponential }.at(10), exponential.at(10));
    }
}
