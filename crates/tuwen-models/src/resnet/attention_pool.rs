//! The attention pool of a ModifiedResNet: attention of the mean of all positions to all positions and itself.

use std::sync::{Arc, Mutex};

use tuwen_nn::{Init, Linear, Pass, Scope};
use tuwen_tensor::{Activation, AttentionMask, Deferred, Param, Precision, Tensor, ops};

use super::ResNetConfig;

/// Attention of the mean of all positions to all positions and itself.
pub(super) struct AttentionPool {
    positional_embedding: Param,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    c_proj: Linear,
    heads: usize,
    turned: Mutex<Option<Arc<Turned>>>,
}

impl AttentionPool {
    pub(super) fn new(config: &ResNetConfig, output_dim: usize, scope: &Scope) -> Self {
        let width = config.pooled_size();
        let init = Init::Normal((width as f32).sqrt().recip());
        let linear = |name, out| Linear::new(width, out, init, Init::fan_in(width), &scope.enter(name));
        let positions = config.grid() * config.grid() + 1;
        Self {
            positional_embedding: scope.param("positional_embedding", &[positions, width], init),
            q_proj: linear("q_proj", width),
            k_proj: linear("k_proj", width),
            v_proj: linear("v_proj", width),
            c_proj: linear("c_proj", output_dim),
            heads: config.num_attention_heads,
            turned: Mutex::default(),
        }
    }

    /// Shapes: `[batch, height, width, channels]` to `[batch, output_dim]`.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let [batch, height, width, channels] = x.dims();
        let positions = x.reshape(&[batch, height * width, channels]);
        let mean = ops::mean_axis(&positions, 1).reshape(&[batch, 1, channels]);
        pass.record(|| "vision.attnpool.mean_token".into(), || mean.reshape(&[batch, channels]));
        let tokens = ops::concat(&[&mean, &positions], 1);
        let tokens = ops::add(&tokens, &self.positional_embedding.value());
        pass.record(|| "vision.attnpool.tokens".into(), || tokens.clone());
        let query = ops::narrow(&tokens, 1, 0, 1);
        if let Some(turned) = self.turned(pass) {
            let pooled = turned.attend(&self.q_proj.forward(&query), &tokens);
            return self.c_proj.forward(&pooled.reshape(&[batch, channels]));
        }
        let (q, k, v) =
            (self.q_proj.forward(&query), self.k_proj.forward(&tokens), self.v_proj.forward(&tokens));
        pass.record(
            || "vision.attnpool.weights".into(),
            || ops::attention_weights(&q, &k, self.heads, AttentionMask::default()),
        );
        let pooled =
            ops::attention(&q, &k, &v, self.heads, AttentionMask::default(), self.q_proj.precision());
        self.c_proj.forward(&pooled.reshape(&[batch, channels]))
    }

    /// The projections of keys and values turned around, in inference; all keys and values are computed where a trace shows
    /// them, where published operations are counted, and where there are adapters.
    fn turned(&self, pass: &Pass) -> Option<Arc<Turned>> {
        if pass.is_training() || pass.is_of_all_tokens() {
            return None;
        }
        let ((k, _), (v, bias)) = (self.k_proj.plain()?, self.v_proj.plain()?);
        let version = [self.k_proj.version(), self.v_proj.version()];
        let mut cache = self.turned.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(turned) = cache.as_ref().filter(|turned| turned.version == version) {
            return Some(turned.clone());
        }
        let turned = Arc::new(Turned::new(&k, &v, bias, self.heads, version));
        *cache = Some(turned.clone());
        Some(turned)
    }
}

/// Attention of one query, which needs neither keys nor values of its tokens.
///
/// A head's score of token t is `q · (Wk t + b)`: a product of `q Wk`, one vector for each head, with the token itself. (What
/// the bias adds is the same for all tokens, and softmax takes it away.) Its result is `Σ p (Wv t + b)`, which is `Wv (Σ p t) + b`. So
/// the tokens serve all heads as keys and as values, and each weight meets one vector for each head instead of one for
/// each token: a tenth of the operations of a pool of 50 tokens.
struct Turned {
    version: [[u64; 2]; 2],
    /// For each head `[width, head_dim]`.
    keys: Vec<Tensor>,
    /// For each head `[head_dim, width]`, and its part of the bias.
    values: Vec<(Tensor, Option<Tensor>)>,
    precision: Precision,
}

impl Turned {
    fn new(k: &Tensor, v: &Tensor, bias: Option<Tensor>, heads: usize, version: [[u64; 2]; 2]) -> Self {
        let [width, inner] = k.dims();
        let head_dim = width / heads;
        let part = |weight: &Tensor, head: usize, shape: &[usize], scale: Option<f32>| {
            let rows =
                HeadRows { weight: weight.detach(), rows: head * head_dim..(head + 1) * head_dim, scale };
            // What has been packed is not needed any more.
            let part = if weight.is_on_cpu() { Tensor::deferred(shape, rows) } else { rows.take() };
            part.with_precision(weight.precision())
        };
        // Attention divides by the root of the width that it sees, which here is the whole one.
        let scale = ((inner as f32) / (head_dim as f32)).sqrt();
        let keys = (0..heads).map(|head| part(k, head, &[inner, head_dim], Some(scale))).collect();
        let bias = |head| bias.as_ref().map(|bias| ops::narrow(bias, 0, head * head_dim, head_dim).detach());
        let values = (0..heads).map(|head| (part(v, head, &[head_dim, inner], None), bias(head))).collect();
        Self { version, keys, values, precision: k.precision() }
    }

    /// Shapes: query `[batch, 1, width]`, tokens `[batch, tokens, width]`; the result is shaped as the query.
    fn attend(&self, query: &Tensor, tokens: &Tensor) -> Tensor {
        let (axis, heads) = (1, self.keys.len());
        let head_dim = query.last_dim() / heads;
        let part = |(head, weight): (usize, &Tensor)| {
            multiply(&ops::narrow(query, 2, head * head_dim, head_dim), weight, None)
        };
        let queries: Vec<Tensor> = self.keys.iter().enumerate().map(part).collect();
        let queries = ops::concat(&queries.iter().collect::<Vec<_>>(), axis);
        let mixed = ops::attention(&queries, tokens, tokens, 1, AttentionMask::default(), self.precision);
        let part = |(head, (weight, bias)): (usize, &(Tensor, Option<Tensor>))| {
            multiply(&ops::narrow(&mixed, axis, head, 1), weight, bias.as_ref())
        };
        let pooled: Vec<Tensor> = self.values.iter().enumerate().map(part).collect();
        ops::concat(&pooled.iter().collect::<Vec<_>>(), 2)
    }
}

fn multiply(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    ops::linear(x, weight, bias, Activation::Identity, None)
}

/// Some rows of a weight: as they are, or as columns and scaled.
struct HeadRows {
    weight: Tensor,
    rows: std::ops::Range<usize>,
    scale: Option<f32>,
}

impl HeadRows {
    fn take(&self) -> Tensor {
        let ids: Vec<u32> = self.rows.clone().map(|row| row as u32).collect();
        let rows = ops::gather_rows(&self.weight, &ids);
        self.scale.map_or(rows.clone(), |scale| ops::scale(&ops::permute(&rows, &[1, 0]), scale))
    }
}

impl Deferred for HeadRows {
    fn with_values(&self, read: &mut dyn FnMut(&[f32])) {
        read(&self.take().to_vec());
    }
}

#[cfg(test)]
mod tests {
    use tuwen_tensor::meter::measure;
    use tuwen_tensor::no_grad;

    use super::*;

    #[test]
    fn one_query_gets_what_it_gets_from_all_keys_and_values() {
        let config = ResNetConfig { width: 8, layers: [1; 4], num_attention_heads: 4, image_size: 64 };
        let pool = AttentionPool::new(&config, 24, &Scope::init(3));
        let shape = [3, 2, 2, config.pooled_size()];
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 0.7).sin()).collect();
        let x = Tensor::new(&values, &shape);
        let expected = pool.forward(&x, &Pass::eval().of_all_tokens()).to_vec();
        let got = pool.forward(&x, &Pass::eval()).to_vec();
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5 * expected.abs().max(1.0), "{got} {expected}");
        }
    }

    #[test]
    fn it_is_counted_as_it_is_computed() {
        let config = ResNetConfig { width: 8, layers: [1; 4], num_attention_heads: 4, image_size: 224 };
        let pool = AttentionPool::new(&config, 24, &Scope::count());
        let x = Tensor::shape_only(&[1, 7, 7, config.pooled_size()]);
        let flops = |pass: Pass| {
            no_grad(|| pool.forward(&x, &pass));
            measure(|| no_grad(|| pool.forward(&x, &pass))).1.flops
        };
        let (turned, whole) = (flops(Pass::eval()), flops(Pass::eval().of_all_tokens()));
        assert!(turned > 0 && turned < whole / 4, "{turned} of {whole}");
    }
}
