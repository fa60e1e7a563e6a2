//! A stack of transformer layers.

use std::sync::Arc;

use tuwen_tensor::{AttentionMask, Tensor};

use crate::transformer::tokens_at;
use crate::{EncoderLayer, EncoderLayerConfig, EncoderLayerInit, Pass, Scope};

/// Transformer layers one after the other, without the norm that follows them.
pub struct Encoder {
    /// What its states are called in a trace: `NAME.layers.0`, ...
    name: &'static str,
    layers: Vec<Arc<EncoderLayer>>,
}

/// Which tokens of a sequence see which; an [`AttentionMask`] that layers may keep for their backward pass.
#[derive(Clone, Default)]
pub struct SequenceMask {
    /// Whether a token sees only those up to itself.
    pub causal: bool,
    /// `[batch, tokens]`, true where a token may be seen.
    pub keys: Option<Arc<[bool]>>,
}

impl SequenceMask {
    /// As the operation takes it.
    pub fn of_layer(&self) -> AttentionMask<'_> {
        AttentionMask { causal: self.causal, keys: self.keys.as_deref(), ..Default::default() }
    }
}

impl Encoder {
    /// Layers under Hugging Face's names (`layers.0`, ...); `name` stands before those of a trace.
    pub fn new(
        name: &'static str,
        layers: usize,
        config: &EncoderLayerConfig,
        init: &EncoderLayerInit,
        scope: &Scope,
    ) -> Self {
        let scope = scope.enter("layers");
        let layer = |i| Arc::new(EncoderLayer::new(config, init, &scope.enter(i)));
        Self { name, layers: (0..layers).map(layer).collect() }
    }

    /// Shapes: `[batch, tokens, hidden_size]` to the same.
    pub fn forward(&self, x: &Tensor, mask: &SequenceMask, pass: &Pass) -> Tensor {
        self.run(&self.layers, x, mask, pass)
    }

    /// The states of one token of each sequence, at these positions: the last layer computes no others, unless the pass
    /// is one of [all tokens](Pass::of_all_tokens); then `all` sees those.
    ///
    /// Shapes: `[batch, tokens, hidden_size]` and `[batch]` to `[batch, hidden_size]`.
    pub fn forward_at(
        &self,
        x: &Tensor,
        positions: &[usize],
        mask: &SequenceMask,
        pass: &Pass,
        all: impl FnOnce(&Tensor),
    ) -> Tensor {
        let last = self.layers.split_last().filter(|_| !pass.is_of_all_tokens());
        let Some((last, before)) = last else {
            let states = self.forward(x, mask, pass);
            all(&states);
            return tokens_at(&states, positions);
        };
        let x = self.run(before, x, mask, pass);
        let (last, mask, positions) = (last.clone(), mask.clone(), positions.to_vec());
        pass.block(&x, move |x, _| last.forward_at(x, &positions, mask.of_layer()))
    }

    fn run(&self, layers: &[Arc<EncoderLayer>], x: &Tensor, mask: &SequenceMask, pass: &Pass) -> Tensor {
        let mut hidden = x.clone();
        for (i, layer) in layers.iter().enumerate() {
            let (layer, mask) = (layer.clone(), mask.clone());
            let drop_path = pass.drop_path(i, self.layers.len());
            hidden = pass.block(&hidden, move |x, _| match drop_path {
                Some(drop_path) => layer.forward_dropping(x, mask.of_layer(), drop_path),
                None => layer.forward(x, mask.of_layer()),
            });
            pass.record(|| format!("{}.layers.{i}", self.name), || hidden.clone());
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use tuwen_tensor::{Activation, no_grad, ops};

    use super::*;
    use crate::{Init, Parameters};

    const SHAPE: [usize; 3] = [3, 7, 16];

    fn encoder(layers: usize) -> (Encoder, Parameters) {
        let config = EncoderLayerConfig {
            hidden_size: 16,
            intermediate_size: 40,
            num_attention_heads: 2,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        };
        let normal = Init::Normal(0.3);
        let init = EncoderLayerInit {
            qkv: normal,
            out_proj: normal,
            fc1: normal,
            fc2: normal,
            mlp_biases: [normal; 2],
        };
        let scope = Scope::init(4);
        let encoder = Encoder::new("x", layers, &config, &init, &scope);
        (encoder, scope.finish().expect("nothing is loaded"))
    }

    fn input() -> Tensor {
        let values: Vec<f32> = (0..SHAPE.iter().product()).map(|i| (i as f32 * 0.7).sin()).collect();
        Tensor::new(&values, &SHAPE)
    }

    fn masks() -> [SequenceMask; 4] {
        let keys: Option<Arc<[bool]>> = Some((0..21).map(|i| i % 7 == 0 || i % 3 != 0).collect());
        [(false, None), (true, None), (false, keys.clone()), (true, keys)]
            .map(|(causal, keys)| SequenceMask { causal, keys })
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0))
    }

    #[test]
    fn one_token_is_as_among_all() {
        for layers in [0, 1, 3] {
            let (encoder, _) = encoder(layers);
            for mask in masks() {
                for positions in [[0, 3, 6], [6, 6, 6], [2, 2, 1]] {
                    let run = |pass: Pass| {
                        no_grad(|| encoder.forward_at(&input(), &positions, &mask, &pass, |_| ())).to_vec()
                    };
                    let (one, among_all) = (run(Pass::eval()), run(Pass::eval().of_all_tokens()));
                    assert!(close(&one, &among_all), "{layers} layers, {positions:?}");
                }
            }
        }
    }

    #[test]
    fn gradients_of_one_token_are_as_among_all() {
        let (encoder, parameters) = encoder(2);
        for mask in masks() {
            let gradients = |pass: Pass| {
                let x = input().leaf();
                let y = encoder.forward_at(&x, &[1, 6, 4], &mask, &pass, |_| ());
                let mut gradients = ops::sum(&ops::mul(&y, &y)).backward();
                let mut all = vec![gradients.take(&x).expect("x is a leaf").to_vec()];
                let of = |entry: &crate::Entry| gradients.get(&entry.param.value()).map(Tensor::to_vec);
                // That of a key's bias is zero but for rounding: a softmax does not see it.
                let known = parameters.trainable().filter(|entry| !entry.name.ends_with("k_proj.bias"));
                all.extend(known.map(|entry| of(entry).expect("learns")));
                all
            };
            let among_all = gradients(Pass::train().of_all_tokens());
            for pass in [Pass::train(), Pass::train().with_checkpointing(true)] {
                for (one, among_all) in gradients(pass).iter().zip(&among_all) {
                    // Sums of terms of both signs: their rounding is that of the largest. One query is multiplied with keys in
                    // another order than many.
                    let largest = among_all.iter().fold(0.0_f32, |largest, g| largest.max(g.abs()));
                    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 5e-6 * largest;
                    assert!(one.iter().zip(among_all).all(close), "{one:?} {among_all:?}");
                }
            }
        }
    }

    #[test]
    fn layers_are_left_out_for_whole_samples_the_same_when_computed_again() {
        let (encoder, _) = encoder(3);
        let plain =
            |pass: &Pass| no_grad(|| encoder.forward(&input(), &SequenceMask::default(), pass)).to_vec();
        let run = |checkpointing| {
            let pass = Pass::train().with_checkpointing(checkpointing).with_drop_path(0.9, 5);
            let x = input().leaf();
            let y = encoder.forward(&x, &SequenceMask::default(), &pass);
            (y.to_vec(), ops::sum(&ops::mul(&y, &y)).backward().take(&x).expect("x is a leaf").to_vec())
        };
        let (kept, again) = (run(false), run(true));
        assert!(kept.0 == again.0 && close(&kept.1, &again.1));
        assert_ne!(kept.0, plain(&Pass::eval()));
        assert_eq!(plain(&Pass::eval().with_drop_path(0.9, 5)), plain(&Pass::eval()));
        // A rate of nothing is the layer itself, in other words.
        let layer = &encoder.layers[1];
        let none = crate::DropPath { rate: 0.0, seed: 1 };
        let [by_branches, fused] = [
            no_grad(|| layer.forward_dropping(&input(), SequenceMask::default().of_layer(), none)),
            no_grad(|| layer.forward(&input(), SequenceMask::default().of_layer())),
        ]
        .map(|x| x.to_vec());
        assert!(close(&by_branches, &fused));
    }

    #[test]
    fn a_trace_has_all_tokens() {
        let (encoder, _) = encoder(2);
        let pass = Pass::traced();
        let mut seen = None;
        encoder.forward_at(&input(), &[0, 0, 0], &SequenceMask::default(), &pass, |all| {
            seen = Some(all.shape().to_vec());
        });
        assert_eq!(seen.as_deref(), Some(&SHAPE[..]));
        let trace = pass.into_trace();
        let names: Vec<&str> = trace.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x.layers.0", "x.layers.1"]);
    }
}
