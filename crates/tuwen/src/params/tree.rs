//! The tree of a model's parts.

use serde::Serialize;
use tuwen_models::{InputCost, ModelCost};

use super::kind::Kind;

/// A part of a model: a layer, a group of layers, or a single tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    /// Its path from the root.
    pub path: String,
    /// What it is, unless it consists of several kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Number of learnable values in it.
    pub parameters: usize,
    /// Its share in the whole model, 0 to 1.
    pub share: f64,
    /// What it takes for one image.
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub image: Usage,
    /// What it takes for one text.
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub text: Usage,
    /// What it consists of; nothing for a tensor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Self>,
}

/// What one input takes; memory in bytes, without parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Operations of products, convolutions and attention, two for each multiplication with its addition.
    pub flops: u64,
    /// Memory of activations at its height in inference, while this part runs; of several parts the highest.
    pub inference_bytes: u64,
    /// Memory of activations that this part keeps for the backward pass; of several parts the sum.
    pub training_bytes: u64,
    /// Memory of the keys and values of its attention; of several parts the sum.
    pub key_value_bytes: u64,
}

impl Usage {
    /// Whether it takes nothing at all.
    #[allow(clippy::trivially_copy_pass_by_ref)] // asked by serde
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another part takes.
    pub(super) fn add(&mut self, other: &Self) {
        self.flops += other.flops;
        self.inference_bytes = self.inference_bytes.max(other.inference_bytes);
        self.training_bytes += other.training_bytes;
        self.key_value_bytes += other.key_value_bytes;
    }
}

/// The tree of these parameters.
pub(super) fn of_parameters(parameters: &[(String, usize)]) -> Part {
    let mut root = Part::default();
    for (name, count) in parameters {
        root.visit(name, &mut |part| part.parameters += count);
    }
    root.finish(root.parameters);
    root
}

/// The tree of a network that was measured.
pub(super) fn of_cost(cost: &ModelCost) -> Part {
    let mut root = of_parameters(&cost.parameters);
    root.add_usage(&cost.image, |part| &mut part.image);
    root.add_usage(&cost.text, |part| &mut part.text);
    root
}

impl Part {
    /// Calls `f` for this part and every one on the way down to a path, which are made if they are not there.
    fn visit(&mut self, path: &str, f: &mut dyn FnMut(&mut Self)) {
        f(self);
        let mut part = self;
        let ends = path.match_indices('.').map(|(dot, _)| dot).chain([path.len()]);
        for end in ends.filter(|&end| end > 0) {
            part = part.child(&path[..end]);
            f(part);
        }
    }

    /// The part of this path, made if it is not there.
    fn child(&mut self, path: &str) -> &mut Self {
        let at = self.parts.iter().position(|part| part.path == path).unwrap_or_else(|| {
            self.parts.push(Self { path: path.to_owned(), ..Self::default() });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    fn add_usage(&mut self, cost: &InputCost, usage: impl Fn(&mut Self) -> &mut Usage) {
        let inference = cost.inference.modules.iter().map(|(path, tally)| {
            let usage = Usage {
                flops: tally.flops,
                inference_bytes: tally.peak,
                key_value_bytes: tally.keys_values,
                training_bytes: 0,
            };
            (path, usage)
        });
        let training = cost.training.modules.iter();
        let training = training.map(|(path, t)| (path, Usage { training_bytes: t.held, ..Usage::default() }));
        for (path, taken) in inference.chain(training) {
            self.visit(path, &mut |part| usage(part).add(&taken));
        }
    }

    /// Fills in shares and kinds.
    fn finish(&mut self, total: usize) {
        self.share = self.parameters as f64 / total.max(1) as f64;
        self.parts.iter_mut().for_each(|part| part.finish(total));
        self.kind = match self.parts.split_first() {
            None => Some(Kind::of(&self.path)),
            Some((first, others)) => first.kind.filter(|_| others.iter().all(|part| part.kind == first.kind)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let root = of_parameters(&[("a.b.w".to_owned(), 6), ("a.c".to_owned(), 3), ("d".to_owned(), 1)]);
        assert_eq!(root.parameters, 10);
        let shares: Vec<_> =
            root.parts.iter().map(|part| (part.path.as_str(), part.parameters, part.share)).collect();
        assert_eq!(shares, [("a", 9, 0.9), ("d", 1, 0.1)]);
        assert_eq!(root.parts[0].parts[0].parts[0].path, "a.b.w");
    }

    #[test]
    fn memory_at_its_height_does_not_add_up() {
        let usage = |bytes| Usage { flops: 1, inference_bytes: bytes, training_bytes: 2, key_value_bytes: 3 };
        let mut sum = usage(5);
        sum.add(&usage(7));
        assert_eq!(sum, Usage { flops: 2, inference_bytes: 7, training_bytes: 4, key_value_bytes: 6 });
    }
}
