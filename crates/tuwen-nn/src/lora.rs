//! Low-rank adaptation of linear layers, with the settings and names of Hugging Face's peft.
//!
//! Paper: arXiv 2106.09685. A layer `y = W x` with a frozen W becomes `y = W x + scaling · B (A x)`, where A `[r, in]`
//! and B `[out, r]` learn. Reference: peft `tuners/lora/layer.py`.

use tuwen_tensor::checkpoint::fits;
use tuwen_tensor::{Activation, Param, Tensor, no_grad, ops};

/// Names of A and B beside the `weight` that they adapt.
pub(crate) const FACTORS: [&str; 2] = ["lora_A.weight", "lora_B.weight"];

/// Which layers are adapted, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoraConfig {
    /// Rank of the change.
    pub r: usize,
    /// What the change is multiplied by, before it is divided by the rank.
    pub lora_alpha: f64,
    /// Divides by the root of the rank instead (rank-stabilised, arXiv 2312.03732).
    pub use_rslora: bool,
    /// Linear layers by the last parts of their paths (`q_proj`), in which `*` stands for any characters.
    pub target_modules: Vec<String>,
    /// Parts of the network, by the last parts of their paths, that learn as a whole beside the adapters.
    pub modules_to_save: Vec<String>,
}

impl LoraConfig {
    /// The factor of an adapter of rank `r`.
    pub fn scaling(&self, r: usize) -> f32 {
        let r = r as f64;
        (self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }) as f32
    }

    /// Whether the linear layer at a path is adapted.
    pub fn adapts(&self, path: &str) -> bool {
        !self.saves(path) && self.target_modules.iter().any(|module| ends_with(path, module))
    }

    /// Whether the parameter or part of a name learns as a whole.
    pub fn saves(&self, name: &str) -> bool {
        let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        ends.into_iter().any(|end| self.modules_to_save.iter().any(|module| ends_with(&name[..end], module)))
    }
}

/// Whether the last parts of a path are these; `*` stands for any characters.
fn ends_with(path: &str, parts: &str) -> bool {
    fits(parts, path) || fits(&format!("*.{parts}"), path)
}

/// The adapter of one linear layer.
pub(crate) struct LowRank {
    pub a: Param,
    pub b: Param,
    pub scaling: f32,
}

impl LowRank {
    /// `scaling · B (A x) + residual`. Shapes: x `[..., in]`, result and residual `[..., out]`.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Tensor {
        let inner = ops::linear(x, &self.a.value(), None, Activation::Identity, None);
        let scaled = ops::scale(&inner, self.scaling);
        ops::linear(&scaled, &self.b.value(), None, Activation::Identity, residual)
    }
}

/// The weight of a plain layer that does what an adapted one does: `weight + scaling · b · a`, off the tape.
///
/// Shapes: weight `[out, in]`, a `[r, in]`, b `[out, r]`.
pub fn merge_lora(weight: &Tensor, a: &Tensor, b: &Tensor, scaling: f32) -> Tensor {
    let columns = ops::permute(&a.detach(), &[1, 0]);
    let scaled = no_grad(|| ops::scale(b, scaling));
    ops::linear(&scaled, &columns, None, Activation::Identity, Some(&weight.detach()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tuwen_tensor::checkpoint::{RawTensor, TensorSource};

    use super::*;
    use crate::{Init, Kind, Linear, Parameters, Scope};

    fn config() -> LoraConfig {
        LoraConfig {
            r: 3,
            lora_alpha: 6.0,
            use_rslora: false,
            target_modules: vec!["fc*".into(), "b.out".into()],
            modules_to_save: vec!["norm".into()],
        }
    }

    fn wave(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.7).sin()).collect()
    }

    /// Two adapted layers with a norm between, B away from its zeros.
    fn network(scope: Scope) -> (Linear, Linear, Parameters) {
        let fc1 = Linear::new(5, 7, Init::Normal(0.4), Init::Const(0.1), &scope.enter("a").enter("fc1"));
        let out = Linear::no_bias(7, 4, Init::Normal(0.4), &scope.enter("b").enter("out"));
        scope.enter("norm").param("weight", &[7], Init::ONES);
        let parameters = scope.finish().expect("nothing is loaded");
        for entry in parameters.iter().filter(|entry| entry.name.ends_with("lora_B.weight")) {
            let shape = entry.param.shape();
            entry.param.assign(&Tensor::new(&wave(shape.iter().product()), &shape));
        }
        (fc1, out, parameters)
    }

    fn forward(fc1: &Linear, out: &Linear) -> Vec<f32> {
        let x = Tensor::new(&wave(10), &[2, 5]);
        let residual = Tensor::new(&wave(14), &[2, 7]);
        out.forward(&fc1.forward_fused(&x, Activation::QuickGelu, Some(&residual))).to_vec()
    }

    #[test]
    fn names_are_matched_by_their_last_parts() {
        let config = config();
        assert!(config.adapts("x.fc1") && config.adapts("fc2") && config.adapts("a.b.out"));
        assert!(!config.adapts("out") && !config.adapts("bb.out") && !config.adapts("x.gfc1"));
        assert!(config.saves("norm.weight") && config.saves("a.norm.b.c") && config.saves("norm"));
        assert!(!config.saves("layer_norm.weight") && !config.saves("normal"));
        assert_eq!((config.scaling(3), LoraConfig { use_rslora: true, ..config }.scaling(4)), (2.0, 3.0));
    }

    #[test]
    fn an_adapter_begins_without_effect_and_alone_learns() {
        let scope = Scope::init(1);
        let plain = Linear::new(5, 7, Init::Normal(0.4), Init::ZEROS, &scope.enter("fc"));
        let scope = Scope::init(1).with_lora(config(), 2);
        let adapted = Linear::new(5, 7, Init::Normal(0.4), Init::ZEROS, &scope.enter("fc"));
        let x = Tensor::new(&wave(10), &[2, 5]);
        assert_eq!(plain.forward(&x).to_vec(), adapted.forward(&x).to_vec());
        let parameters = scope.finish().expect("nothing is loaded");
        let trained: Vec<&str> = parameters.trainable().map(|entry| entry.name.as_str()).collect();
        assert_eq!(trained, ["fc.lora_A.weight", "fc.lora_B.weight"]);
        assert_eq!(parameters.total(), 42, "an adapter is not counted");
        let bound = 5f32.sqrt().recip();
        let a = parameters.get("fc.lora_A.weight").expect("there").param.value().to_vec();
        assert!(a.iter().all(|v| v.abs() <= bound) && a.iter().any(|v| v.abs() > bound / 2.0));
    }

    #[test]
    fn merged_is_unmerged() {
        let (fc1, out, parameters) = network(Scope::init(1).with_lora(config(), 2));
        let expected = forward(&fc1, &out);
        let names = ["a.fc1.bias", "a.fc1.weight", "b.out.weight", "norm.weight"];
        assert_eq!(parameters.names(), names, "a merged model has no adapter");
        let read = |name: &str| (name.to_owned(), parameters.read(name).expect("read").into_owned());
        let merged: BTreeMap<String, RawTensor<'static>> = names.map(read).into();
        let (fc1, out, _) = network(Scope::load(Arc::new(merged)));
        for (got, want) in forward(&fc1, &out).iter().zip(&expected) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
        let (fc1, out, _) = network(Scope::init(1));
        assert!(
            forward(&fc1, &out).iter().zip(&expected).any(|(a, b)| (a - b).abs() > 0.1),
            "it has an effect"
        );
    }

    #[test]
    fn a_loaded_adapter_is_checked_strictly() {
        let (_, _, parameters) = network(Scope::init(1).with_lora(config(), 2));
        let of_kind = |wanted: fn(Kind) -> bool| -> BTreeMap<String, RawTensor<'static>> {
            let raw = |param: &Param| RawTensor::from_f32(&param.shape(), &param.value().to_vec());
            let entries = parameters.iter().filter(|entry| wanted(entry.kind));
            entries.map(|entry| (entry.name.clone(), raw(&entry.param))).collect()
        };
        let base = Arc::new(of_kind(|kind| kind != Kind::Adapter));
        let mut factors = of_kind(|kind| kind == Kind::Adapter);
        let load = |factors: &BTreeMap<String, RawTensor<'static>>| {
            Scope::load_trainable(base.clone()).with_loaded_lora(config(), Arc::new(factors.clone()))
        };
        let (_, _, loaded) = network(load(&factors));
        let values =
            |parameters: &Parameters, name| parameters.get(name).expect("there").param.value().to_vec();
        assert_eq!(values(&loaded, "a.fc1.lora_A.weight"), values(&parameters, "a.fc1.lora_A.weight"));
        let factor = factors.remove("a.fc1.lora_A.weight").expect("there");
        factors.insert("a.fc3.lora_A.weight".into(), factor);
        let scope = load(&factors);
        Linear::new(5, 7, Init::ZEROS, Init::ZEROS, &scope.enter("a").enter("fc1"));
        let report = scope.finish().expect_err("one is missing, another too many");
        assert_eq!(report.missing[0].0, "a.fc1.lora_A.weight");
        assert!(report.unused.iter().any(|name| name == "a.fc3.lora_A.weight"));
    }
}
