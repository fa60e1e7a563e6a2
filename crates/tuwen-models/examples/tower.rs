//! Times an image tower of random weights: `tower rn50|b32|l14 BATCH PRECISION`. Each line on stdin runs it once and answers with
//! milliseconds (of the processor, with `single` for one thread), so that versions can be compared in turns; with `profile` it prints the time of each operation instead.

#![allow(clippy::print_stdout)] // its purpose

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::{Duration, Instant};

use tuwen_models::clip::{Clip, ClipConfig, TextConfig, TextPooling, VisionConfig};
use tuwen_models::{ResNetConfig, VitConfig};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::profile::{self, Profile};
use tuwen_tensor::{Activation, Precision, Tensor, no_grad};

fn vit(size: usize, layers: usize, image_size: usize, patch_size: usize) -> VisionConfig {
    VisionConfig::Vit(VitConfig {
        hidden_size: size,
        intermediate_size: 4 * size,
        num_hidden_layers: layers,
        num_attention_heads: size / 64,
        image_size,
        patch_size,
        hidden_act: Activation::QuickGelu,
        layer_norm_eps: 1e-5,
    })
}

fn vision(name: &str) -> (VisionConfig, usize) {
    match name {
        "b32" => (vit(768, 12, 224, 32), 224),
        "l14" => (vit(1024, 24, 336, 14), 336),
        _ => {
            let config =
                ResNetConfig { width: 64, layers: [3, 4, 6, 3], num_attention_heads: 32, image_size: 224 };
            (VisionConfig::ResNet(config), 224)
        }
    }
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// What this thread has had of a processor so far.
fn processor_ms() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) * 1e-6
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let batch: usize = arguments[1].parse().expect("a batch");
    let precision: Precision = arguments[2].parse().expect("a precision");
    let profiled = arguments.iter().any(|argument| argument == "profile");
    let single = arguments.iter().any(|argument| argument == "single");
    if single {
        tuwen_kernels::set_threads(1);
    }
    let (vision, side) = vision(&arguments[0]);
    let config = ClipConfig {
        vision,
        text: TextConfig {
            vocab_size: 64,
            hidden_size: 64,
            intermediate_size: 64,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            max_position_embeddings: 8,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            pooling: TextPooling::FirstEos(63),
        },
        projection_dim: 512,
        logit_scale_init_value: 2.6592,
        logit_bias_init_value: None,
    };
    let clip = Clip::new(&config, Scope::init(1).with_precision(precision)).expect("nothing is loaded");
    let shape = [batch, 3, side, side];
    let pixels = noise(shape.iter().product());
    let mut x = Tensor::new(&pixels, &shape);
    if profiled {
        for entry in clip.parameters().iter() {
            let value = entry.param.value();
            entry.param.assign(&Tensor::on(&Profile, &value.to_vec(), value.shape()));
        }
        x = Tensor::on(&Profile, &pixels, &shape);
    }
    let run = || no_grad(|| clip.embed_image(&x, &Pass::eval()).to_vec()[0]);
    run();
    run();
    if profiled {
        return print_profile(run);
    }
    for _ in std::io::stdin().lock().lines() {
        let start = Instant::now();
        let before = processor_ms();
        let value = run();
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        let elapsed = if single { processor_ms() - before } else { elapsed };
        println!("{elapsed:.3} {value}");
    }
}

/// Prints the least time of each operation over some runs, the longest first.
fn print_profile(run: impl Fn() -> f32) {
    let mut least: BTreeMap<String, (usize, Duration)> = BTreeMap::new();
    profile::take();
    for _ in 0..9 {
        run();
        for (name, (calls, time)) in profile::take() {
            let entry = least.entry(name).or_insert((calls, time));
            entry.1 = entry.1.min(time);
        }
    }
    let mut sorted: Vec<_> = least.into_iter().collect();
    sorted.sort_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
    for (name, (calls, time)) in &sorted {
        let sizes = name.split_once(' ').map_or("", |(_, sizes)| sizes);
        let product: f64 =
            sizes.split(" x ").filter_map(|s| s.rsplit(' ').next()?.parse::<f64>().ok()).product();
        let speed = 2.0 * product * *calls as f64 / time.as_secs_f64() * 1e-9;
        println!("{:9.2} ms {calls:4} {name:48} {speed:6.0}", time.as_secs_f64() * 1e3);
    }
    println!("{:9.2} ms      all", sorted.iter().map(|(_, (_, t))| t.as_secs_f64() * 1e3).sum::<f64>());
}
