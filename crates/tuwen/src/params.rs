//! Where the parameters of a model are: counts by part, for a checkpoint or for a published architecture without one.

use serde::Serialize;
use tuwen_models::clip::weights::Layout;
use tuwen_models::clip::{Clip, presets};
use tuwen_nn::{Kind, Scope};
use tuwen_tensor::checkpoint::{DType, TensorSource};

use crate::{Error, Options, files};

/// All parameters of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Count {
    /// Number of learnable values.
    pub total: usize,
    /// The parts, in the order in which the network has them.
    pub parts: Vec<Part>,
}

/// A part of a model: a layer, a group of layers, or a single tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Its path from the root.
    pub path: String,
    /// Number of learnable values in it.
    pub parameters: usize,
    /// Its share in the whole model, 0 to 1.
    pub share: f64,
    /// What it consists of; nothing for a tensor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// Names of the published architectures that can be counted without weights.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    presets::names()
}

/// Counts the parameters of a model (directory, file, hub id, built-in name), or of a published architecture.
///
/// A checkpoint is counted as it is, whatever kind of model it belongs to; running statistics are no parameters.
///
/// # Errors
/// There is neither such a model nor such an architecture, or its weights cannot be opened.
pub fn count(model: &str, options: &Options) -> Result<Count, Error> {
    let (checkpoint, _) = match files::open_checkpoint(model, options) {
        Ok(opened) => opened,
        Err(error @ (Error::NoSuchModel(_) | Error::NotInCache { .. })) => {
            return count_architecture(model).ok_or(error);
        }
        Err(error) => return Err(error),
    };
    let source: Box<dyn TensorSource> = match Layout::of(&checkpoint) {
        Some(layout) => layout.import(checkpoint),
        None => Box::new(checkpoint),
    };
    Ok(count_source(source.as_ref()))
}

fn count_architecture(name: &str) -> Option<Count> {
    let config = presets::find(name)?;
    let clip = Clip::new(&config, Scope::count()).ok()?;
    let parameters = clip.parameters().iter().filter(|entry| entry.kind == Kind::Parameter);
    Some(tree(parameters.map(|entry| (entry.name.clone(), entry.param.shape().iter().product()))))
}

fn count_source(source: &dyn TensorSource) -> Count {
    /// Kept by layers beside their parameters, in PyTorch's words.
    const BUFFERS: [&str; 4] = ["running_mean", "running_var", "num_batches_tracked", "position_ids"];
    let is_buffer = |name: &str| name.rsplit('.').next().is_some_and(|last| BUFFERS.contains(&last));
    let parameter = |name: String| {
        let info = source.info(&name).filter(|info| info.dtype.is_float() || info.dtype == DType::I8)?;
        Some((name, info.len()?)).filter(|(name, _)| !is_buffer(name))
    };
    let mut parameters: Vec<_> = source.names().into_iter().filter_map(parameter).collect();
    parameters.sort_by_cached_key(|(name, _)| natural(name));
    tree(parameters.into_iter())
}

/// A key that sorts `layers.10` after `layers.9`.
fn natural(name: &str) -> Vec<(usize, String)> {
    name.split('.')
        .map(|part| part.parse().map_or((usize::MAX, part.to_owned()), |n| (n, String::new())))
        .collect()
}

fn tree(parameters: impl Iterator<Item = (String, usize)>) -> Count {
    let mut root = Part { path: String::new(), parameters: 0, share: 1.0, parts: Vec::new() };
    for (name, count) in parameters {
        root.parameters += count;
        let mut part = &mut root;
        for end in name.match_indices('.').map(|(dot, _)| dot).chain([name.len()]) {
            part = part.child(&name[..end]);
            part.parameters += count;
        }
    }
    root.share_out(root.parameters);
    Count { total: root.parameters, parts: root.parts }
}

impl Part {
    /// The part of this path, made if it is not there.
    fn child(&mut self, path: &str) -> &mut Self {
        let at = self.parts.iter().position(|part| part.path == path).unwrap_or_else(|| {
            self.parts.push(Self { path: path.to_owned(), parameters: 0, share: 0.0, parts: Vec::new() });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    fn share_out(&mut self, total: usize) {
        self.share = self.parameters as f64 / total.max(1) as f64;
        self.parts.iter_mut().for_each(|part| part.share_out(total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let count = tree([("a.b.w".to_owned(), 6), ("a.c".to_owned(), 3), ("d".to_owned(), 1)].into_iter());
        assert_eq!(count.total, 10);
        let shares: Vec<_> =
            count.parts.iter().map(|part| (part.path.as_str(), part.parameters, part.share)).collect();
        assert_eq!(shares, [("a", 9, 0.9), ("d", 1, 0.1)]);
        assert_eq!(count.parts[0].parts[0].parts[0].path, "a.b.w");
        let mut names = ["x.10.w", "x.9.w", "x.w", "x.9.b"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["x.9.b", "x.9.w", "x.10.w", "x.w"]);
    }

    #[test]
    fn published_architectures_need_no_weights() {
        for (name, total) in [("clip-rn50", 102_007_137), ("openai/clip-vit-base-patch32", 151_277_313)] {
            let count = count(name, &Options::default()).expect("published");
            assert_eq!(count.total, total);
            assert_eq!(count.parts.iter().map(|part| part.parameters).sum::<usize>(), total);
            assert_eq!(count.parts[0].path, "vision_model");
        }
        assert!(super::count("clip-vit-zero", &Options::default()).is_err());
    }
}
