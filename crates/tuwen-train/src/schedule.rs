//! The learning rate over time: linear warm-up, then a cosine to zero.

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
}

/// A schedule over a known number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub lr: f64,
    /// Steps until it is reached.
    pub warmup_steps: u64,
    /// All steps, warm-up included.
    pub total_steps: u64,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of a step, counted from 0 (open_clip `scheduler.py`: `cosine_lr`, `const_lr`).
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.decay {
            Decay::Constant => self.lr,
            Decay::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let progress = (step - self.warmup_steps) as f64 / length as f64;
                0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()) * self.lr
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_in_a_line_and_falls_in_a_cosine() {
        let schedule = Schedule { lr: 1e-4, warmup_steps: 3, total_steps: 10, decay: Decay::Cosine };
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
}
