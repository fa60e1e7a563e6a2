//! The AdamW update: parameter, gradient and both moments in one pass. Memory is the limit: 28 bytes for an element.

use crate::threads::{CHUNK, SendPtr, parallel_for};

/// Settings of one AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the denominator.
    pub eps: f32,
    /// Decoupled weight decay, relative to the learning rate.
    pub weight_decay: f32,
    /// Number of this step, counted from 1.
    pub step: u64,
}

/// What is the same for every element of a step.
#[derive(Clone, Copy)]
struct Factors {
    decay: f32,
    step_size: f32,
    denominator: f32,
}

multiversion! {
    fn adamw_chunk(
        param: &mut [f32],
        grad: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        options: &AdamW,
        factors: Factors,
    ) {
        let AdamW { beta1, beta2, eps, .. } = *options;
        for (((p, &g), m), v) in param.iter_mut().zip(grad).zip(m).zip(v) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p = *p * factors.decay - factors.step_size * *m / (v.sqrt() * factors.denominator + eps);
        }
    }
}

/// One step of `torch.optim.AdamW`: `m` and `v` are the running means of the gradient and of its square.
pub fn adamw(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], options: &AdamW) {
    let len = param.len();
    assert!(
        grad.len() == len && m.len() == len && v.len() == len,
        "adamw: param, grad, m and v differ in length"
    );
    let correction = |beta: f32| 1.0 - f64::from(beta).powf(options.step as f64);
    let factors = Factors {
        decay: (1.0 - f64::from(options.lr) * f64::from(options.weight_decay)) as f32,
        step_size: (f64::from(options.lr) / correction(options.beta1)) as f32,
        denominator: (1.0 / correction(options.beta2).sqrt()) as f32,
    };
    let (param, m, v) = (SendPtr(param.as_mut_ptr()), SendPtr(m.as_mut_ptr()), SendPtr(v.as_mut_ptr()));
    parallel_for(len.div_ceil(CHUNK), |task| {
        let (start, n) = (task * CHUNK, CHUNK.min(len - task * CHUNK));
        // SAFETY: tasks have disjoint ranges of the three slices, whose length was checked.
        let (param, m, v) = unsafe { (param.slice(start, n), m.slice(start, n), v.slice(start, n)) };
        adamw_chunk(param, &grad[start..start + n], m, v, options, factors);
    });
}
