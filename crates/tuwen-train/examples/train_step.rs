//! Times a training step of a small CLIP, the one of the benchmarks: 64 pixels in patches of 8, width 256, 6 and 4 layers, texts of
//! 32 tokens of 8192, a batch of 128, AdamW.
//!
//! Prints seconds, memory and page faults of a step. Arguments: `threads=2`, `steps=7`, `precision=f32`, and `profile` for
//! the time of each operation.

#![allow(clippy::print_stdout)] // its purpose

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tuwen_models::VitConfig;
use tuwen_models::clip::{Clip, ClipConfig, TextConfig, TextPooling, TokenIds, VisionConfig};
use tuwen_nn::{ContrastiveLoss, PairLoss, Pass, Scope};
use tuwen_tensor::profile::{self, Profile};
use tuwen_tensor::{Activation, Device, Precision, Tensor, ops};
use tuwen_train::{Optimizer, Settings};

const BATCH: usize = 128;
const CONTEXT: usize = 32;
const VOCABULARY: usize = 8192;
const IMAGE: usize = 64;

fn config() -> ClipConfig {
    let (hidden_size, intermediate_size, num_attention_heads) = (256, 1024, 4);
    let (hidden_act, layer_norm_eps) = (Activation::QuickGelu, 1e-5);
    ClipConfig {
        vision: VisionConfig::Vit(VitConfig {
            hidden_size,
            intermediate_size,
            num_hidden_layers: 6,
            num_attention_heads,
            image_size: IMAGE,
            patch_size: 8,
            hidden_act,
            layer_norm_eps,
        }),
        text: TextConfig {
            vocab_size: VOCABULARY,
            hidden_size,
            intermediate_size,
            num_hidden_layers: 4,
            num_attention_heads,
            max_position_embeddings: CONTEXT,
            hidden_act,
            layer_norm_eps,
            pooling: TextPooling::FirstEos(VOCABULARY as u32 - 1),
        },
        projection_dim: 256,
        logit_scale_init_value: 2.6592,
        logit_bias_init_value: None,
    }
}

/// Pseudo-random numbers in -1 to 1.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Texts as long as the context, each with its end in the last place.
fn texts() -> TokenIds {
    let word = |(i, v): (usize, f32)| match i % CONTEXT {
        0 => VOCABULARY as u32 - 2,
        31 => VOCABULARY as u32 - 1,
        _ => (v.abs() * (VOCABULARY - 2) as f32) as u32,
    };
    let ids = noise(BATCH * CONTEXT).into_iter().enumerate().map(word).collect();
    TokenIds { ids, length: CONTEXT, attention_mask: None }
}

/// A number of this process that the system tells.
fn told(file: &str, find: impl Fn(&str) -> Option<u64>) -> u64 {
    std::fs::read_to_string(file).ok().and_then(|text| find(&text)).unwrap_or(0)
}

fn peak_bytes() -> u64 {
    told("/proc/self/status", |text| {
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    })
}

fn page_faults() -> u64 {
    told("/proc/self/stat", |text| text.rsplit(')').next()?.split_whitespace().nth(7)?.parse().ok())
}

struct Step {
    clip: Clip,
    optimizer: Optimizer,
    loss: ContrastiveLoss,
    pixels: Tensor,
    tokens: TokenIds,
}

impl Step {
    fn new(precision: Precision, device: Option<&'static dyn Device>) -> Self {
        let clip = Clip::new(&config(), Scope::init(1).with_precision(precision)).expect("nothing is loaded");
        if let Some(device) = device {
            for entry in clip.parameters().iter() {
                let value = entry.param.value();
                entry.param.assign(&Tensor::on(device, &value.to_vec(), value.shape()));
            }
        }
        let settings = Settings {
            betas: [0.9, 0.98],
            eps: 1e-6,
            weight_decay: 0.2,
            decays_all: false,
            grad_clip_norm: Some(1.0),
        };
        let shape = [BATCH, 3, IMAGE, IMAGE];
        let values = noise(shape.iter().product());
        Self {
            optimizer: Optimizer::new(clip.parameters(), &[], settings),
            loss: ContrastiveLoss::new(PairLoss::Softmax),
            pixels: device.map_or_else(|| Tensor::new(&values, &shape), |d| Tensor::on(d, &values, &shape)),
            tokens: texts(),
            clip,
        }
    }

    fn run(&mut self) -> f32 {
        let pass = Pass::train();
        let image = self.clip.embed_image(&self.pixels, &pass);
        let text = ops::l2_normalize(&self.clip.text_features_by_length(&self.tokens, &pass));
        let loss = self.loss.forward(&image, &text, &self.clip.temperature(), None);
        let value = loss.item();
        self.optimizer.step(loss.backward(), 1e-4);
        value
    }
}

/// Prints the least time of each operation over some steps, the longest first.
fn print_profile(step: &mut Step, steps: usize) {
    let mut least: BTreeMap<String, (usize, Duration)> = BTreeMap::new();
    profile::take();
    for _ in 0..steps {
        step.run();
        for (name, (calls, time)) in profile::take() {
            let entry = least.entry(name).or_insert((calls, time));
            entry.1 = entry.1.min(time);
        }
    }
    let mut sorted: Vec<_> = least.into_iter().collect();
    sorted.sort_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    for (name, (calls, time)) in &sorted {
        let speed = name.split_once(' ').map(|(_, sizes)| {
            let product: f64 = sizes.split(" x ").filter_map(|size| size.parse::<f64>().ok()).product();
            format!("{:6.0} GFLOP/s", 2.0 * product * *calls as f64 / time.as_secs_f64() * 1e-9)
        });
        println!("{:9.2} ms {calls:4} {name:32} {}", milliseconds(*time), speed.unwrap_or_default());
    }
    println!("{:9.2} ms      all", sorted.iter().map(|(_, (_, time))| milliseconds(*time)).sum::<f64>());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |key: &str| arguments.iter().find_map(|a| a.strip_prefix(key)?.strip_prefix('='));
    let number = |key: &str, default: usize| value(key).map_or(default, |v| v.parse().expect("a number"));
    let (threads, steps) = (number("threads", 0), number("steps", 7));
    let precision: Precision = value("precision").unwrap_or("f32").parse().expect("a precision");
    tuwen_kernels::set_threads(threads);
    let profiled = arguments.iter().any(|argument| argument == "profile");
    let mut step = Step::new(precision, profiled.then_some(&Profile));
    let before = step.run();
    step.run();
    if profiled {
        return print_profile(&mut step, steps);
    }
    let faults = page_faults();
    let mut loss = 0.0;
    let mut seconds: Vec<f64> = (0..steps)
        .map(|_| {
            let start = Instant::now();
            loss = step.run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    let faults = (page_faults() - faults) / steps as u64;
    seconds.sort_by(f64::total_cmp);
    println!(
        "{precision}: median {:.3} s, least {:.3} s, peak {:.0} MB, {faults} page faults a step, loss {before} to {loss}",
        seconds[steps / 2],
        seconds[0],
        peak_bytes() as f64 / 1e6,
    );
}
