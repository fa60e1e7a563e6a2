//! Why a model is as large as it is: parameters, operations and memory by part, by kind and by cause, for a checkpoint or
//! for a published architecture without one; and what other sizes would change.

mod cause;
mod kind;
mod network;
mod tree;

use serde::Serialize;
use tuwen_models::GROUNDED_TEXT;
use tuwen_models::clip::ClipConfig;
use tuwen_models::clip::weights::Layout;
use tuwen_models::{albef, blip, clip};
use tuwen_tensor::checkpoint::{Checkpoint, DType, TensorSource};

pub use cause::Cause;
pub use kind::{Kind, KindShare};
use network::Network;
pub use tree::{Part, Usage};
pub use tuwen_models::what_if::{Change, WhatIfError};

use crate::place::Place;
use crate::{Error, GroundedConfig, GroundedFiles, Options, files, grounded};

/// What a model consists of and takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Number of learnable values.
    pub total: usize,
    /// What one image takes; nothing where the network is not known.
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub image: Usage,
    /// What one text of the greatest length takes.
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub text: Usage,
    /// The parts, in the order in which the network has them.
    pub parts: Vec<Part>,
    /// Everything by kind, most parameters first.
    pub kinds: Vec<KindShare>,
    /// What each size is responsible for: what half of it would save.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// What a user should know about the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A size before and after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SizeChange {
    /// Its name, as in a [`Change`].
    pub size: String,
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
}

/// A model at other sizes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// The sizes that differ.
    pub changes: Vec<SizeChange>,
    /// The model with them.
    #[serde(flatten)]
    pub report: Report,
}

/// Names of the published architectures that can be looked at without weights.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    clip::presets::names().chain(blip::presets::names()).chain(albef::presets::names())
}

/// Takes apart a model (directory, file, hub id, built-in name), or a published architecture.
///
/// A checkpoint of another kind than we know is counted as it is; running statistics are no parameters.
///
/// # Errors
/// There is neither such a model nor such an architecture, or its weights cannot be opened.
pub fn report(model: &str, options: &Options) -> Result<Report, Error> {
    match Subject::find(model, options)? {
        Subject::Known(network) => Ok(Report::of_network(&network)),
        Subject::Counted(report) => Ok(report),
    }
}

/// Takes apart a model as it is, and as it would be with other sizes.
///
/// # Errors
/// As [`report`]; sizes that make no network; a model whose sizes are not known.
pub fn what_if(model: &str, changes: &[Change], options: &Options) -> Result<(Report, WhatIf), Error> {
    let network = match Subject::find(model, options)? {
        Subject::Known(network) => network,
        Subject::Counted(_) => return Err(Error::UnknownSizes(model.to_owned())),
    };
    let changed = network.changed(changes)?;
    let changes = differences(&network, &changed);
    Ok((Report::of_network(&network), WhatIf { changes, report: Report::of_network(&changed) }))
}

/// The sizes that differ.
fn differences(before: &Network, after: &Network) -> Vec<SizeChange> {
    let pairs = before.sizes().into_iter().zip(after.sizes());
    let change = |((size, from), (_, to))| SizeChange { size, from, to };
    pairs.map(change).filter(|change| change.from != change.to).collect()
}

/// What a report is about.
enum Subject {
    /// A network, which can be run on shapes, at other sizes too.
    Known(Box<Network>),
    /// Weights that can only be counted.
    Counted(Report),
}

impl Subject {
    fn find(model: &str, options: &Options) -> Result<Self, Error> {
        let (checkpoint, place) = match files::open_checkpoint(model, options) {
            Ok(opened) => opened,
            Err(error @ (Error::NoSuchModel(_) | Error::NotInCache { .. })) => {
                return Self::published(model).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        if GroundedFiles::is_one(&checkpoint) {
            return Ok(Self::of_grounded(checkpoint, &place));
        }
        let Some(layout) = Layout::of(&checkpoint) else {
            return Ok(Self::Counted(Report::of_weights(&checkpoint, Vec::new())));
        };
        let config = files::configuration(&place, layout, &checkpoint).map(|found| found.config);
        Ok(Self::of_clip(layout, checkpoint, config))
    }

    /// The network of a published name.
    fn published(name: &str) -> Option<Self> {
        let blip = || blip::presets::find(name).map(GroundedConfig::Blip);
        let grounded = || blip().or_else(|| albef::presets::find(name).map(GroundedConfig::Albef));
        let clip = clip::presets::find(name).map(Network::Clip);
        clip.or_else(|| grounded().map(Network::Grounded)).map(Box::new).map(Self::Known)
    }

    /// The network of a configuration, unless that is missing or describes other weights.
    fn of_grounded(checkpoint: Checkpoint, place: &Place) -> Self {
        let as_it_is = Report::of_weights(&checkpoint, Vec::new());
        let (note, counted) = match grounded::read(checkpoint, place) {
            Ok((weights, config)) => {
                let counted = Report::of_weights(&weights, Vec::new());
                match config.cost() {
                    Ok(cost) if cost.total() == counted.total => {
                        return Self::Known(Box::new(Network::Grounded(config)));
                    }
                    Ok(cost) => (differ(counted.total, cost.total()), counted),
                    Err(report) => (report.to_string(), counted),
                }
            }
            Err(error) => (format!("only the weights are counted: {error}"), as_it_is),
        };
        Self::Counted(Report { notes: vec![note], ..counted })
    }

    /// The network of a configuration, unless that is missing or describes other weights.
    fn of_clip(layout: Layout, checkpoint: Checkpoint, config: Result<ClipConfig, Error>) -> Self {
        let counted = Report::of_weights(layout.import(checkpoint).as_ref(), Vec::new());
        let note = match config {
            Ok(config) => match config.cost() {
                Ok(cost) if cost.total() == counted.total => {
                    return Self::Known(Box::new(Network::Clip(config)));
                }
                Ok(cost) => differ(counted.total, cost.total()),
                Err(report) => report.to_string(),
            },
            Err(error) => format!("only the weights are counted: {error}"),
        };
        Self::Counted(Report { notes: vec![note], ..counted })
    }
}

fn differ(weights: usize, configuration: usize) -> String {
    format!(
        "the weights hold {weights} values, the configuration describes {configuration}: only the weights are counted"
    )
}

impl Report {
    /// A network whose sizes are known.
    fn of_network(network: &Network) -> Self {
        // A configuration that was checked makes a network.
        let cost = network.cost().unwrap_or_default();
        let note = || format!("a text is {GROUNDED_TEXT} tokens beside an image that was encoded");
        let notes = Vec::from_iter(matches!(network, Network::Grounded(_)).then(note));
        Self { causes: cause::of(network, &cost), notes, ..Self::of_tree(tree::of_cost(&cost)) }
    }

    /// Tensors that are there, whatever network they belong to.
    fn of_weights(source: &dyn TensorSource, notes: Vec<String>) -> Self {
        /// Kept by layers beside their parameters, in PyTorch's words.
        const BUFFERS: [&str; 4] = ["running_mean", "running_var", "num_batches_tracked", "position_ids"];
        let is_buffer = |name: &str| name.rsplit('.').next().is_some_and(|last| BUFFERS.contains(&last));
        let parameter = |name: String| {
            let info = source.info(&name).filter(|info| info.dtype.is_float() || info.dtype == DType::I8)?;
            Some((name, info.len()?)).filter(|(name, _)| !is_buffer(name))
        };
        let mut parameters: Vec<_> = source.names().into_iter().filter_map(parameter).collect();
        parameters.sort_by_cached_key(|(name, _)| natural(name));
        Self { notes, ..Self::of_tree(tree::of_parameters(&parameters)) }
    }

    fn of_tree(root: Part) -> Self {
        let kinds = kind::shares(&root);
        let Part { parameters: total, image, text, parts, .. } = root;
        Self { total, image, text, parts, kinds, causes: Vec::new(), notes: Vec::new() }
    }
}

/// A key that sorts `layers.10` after `layers.9`.
fn natural(name: &str) -> Vec<(usize, String)> {
    name.split('.')
        .map(|part| part.parse().map_or((usize::MAX, part.to_owned()), |n| (n, String::new())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_their_numbers() {
        let mut names = ["x.10.w", "x.9.w", "x.w", "x.9.b"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["x.9.b", "x.9.w", "x.10.w", "x.w"]);
    }

    #[test]
    fn published_architectures_need_no_weights() {
        for (name, total) in [
            ("clip-rn50", 102_007_137),
            ("openai/clip-vit-base-patch32", 151_277_313),
            ("blip-base", 252_441_919),
            ("Salesforce/blip-image-captioning-large", 446_290_492),
            ("blip-itm-base-coco", 223_744_258),
        ] {
            let report = report(name, &Options::default()).expect("published");
            assert_eq!(report.total, total);
            assert_eq!(report.parts.iter().map(|part| part.parameters).sum::<usize>(), total);
            assert_eq!(report.parts[0].path, "vision_model");
            let kinds: usize = report.kinds.iter().map(|kind| kind.parameters).sum();
            let flops: u64 = report.kinds.iter().map(|kind| kind.image.flops + kind.text.flops).sum();
            assert_eq!((kinds, flops), (total, report.image.flops + report.text.flops));
            assert!(report.parts[0].image.flops > 0 && report.parts[0].text == Usage::default());
        }
        assert!(super::report("clip-vit-zero", &Options::default()).is_err());
    }

    #[test]
    fn the_built_in_model_is_known_by_its_configuration() {
        let report = report(crate::BUILTIN, &Options::default()).expect("built in");
        assert!(report.notes.is_empty() && report.image.flops > 0, "{:?}", report.notes);
    }

    #[test]
    fn changes_are_listed_with_what_follows_from_them() {
        let changes = ["width=0.5".parse().expect("a change"), "vocab=1000".parse().expect("a change")];
        let (before, after) = what_if("ViT-B-32", &changes, &Options::default()).expect("a network");
        let sizes: Vec<_> = after.changes.iter().map(|change| change.size.as_str()).collect();
        let expected = "vision.width vision.heads vision.mlp text.width text.heads text.mlp vocab";
        assert_eq!(sizes.join(" "), expected);
        assert!(after.report.total < before.total / 3);
        let vocabulary = after.changes.last().expect("changes");
        assert_eq!((vocabulary.from.as_str(), vocabulary.to.as_str()), ("49408", "1000"));
        for name in ["blip-vqa-base", "albef"] {
            let (before, after) = what_if(name, &changes, &Options::default()).expect("a network");
            let sizes: Vec<_> = after.changes.iter().map(|change| change.size.as_str()).collect();
            assert_eq!(sizes.join(" "), expected);
            assert!(after.report.total < before.total / 3 && after.report.text.flops < before.text.flops / 2);
            let causes: Vec<_> = before.causes.iter().map(|cause| cause.cause).collect();
            assert_eq!(causes, ["width", "depth", "resolution", "vocabulary", "context"]);
        }
    }
}
