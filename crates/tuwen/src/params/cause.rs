//! What each size of a model is responsible for.

use serde::Serialize;
use tuwen_models::ModelCost;
use tuwen_models::what_if::Size;

use super::network::Network;
use super::{SizeChange, differences};

/// What half of a size would save, as shares of the whole model, 0 to 1.
///
/// Sizes act together (a layer's matrices grow with the square of the width and with the depth), so the shares of all
/// causes do not add up to one: each says how much smaller the model would be if nothing but this size was halved, or
/// brought as near to half as a network can be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// The size: width, depth, resolution, vocabulary or context.
    pub cause: &'static str,
    /// What halving it changes.
    pub changes: Vec<SizeChange>,
    /// Share of the parameters that goes away.
    pub parameters: f64,
    /// Share of the operations for one image.
    pub image_flops: f64,
    /// Share of the operations for one text.
    pub text_flops: f64,
    /// Share of the activations that training keeps for an image and a text.
    pub training_bytes: f64,
}

const CAUSES: [(&str, Size); 5] = [
    ("width", Size::Width),
    ("depth", Size::Depth),
    ("resolution", Size::Image),
    ("vocabulary", Size::Vocab),
    ("context", Size::Context),
];

/// The causes of a model that takes `cost`. One that cannot be halved is left out.
pub(super) fn of(network: &Network, cost: &ModelCost) -> Vec<Cause> {
    let cause = |&(cause, size): &(&'static str, Size)| {
        let halved = network.halved(size)?;
        let smaller = halved.cost().ok()?;
        let saved = |of: fn(&ModelCost) -> u64| {
            let whole = of(cost).max(1) as f64;
            (whole - of(&smaller) as f64) / whole
        };
        Some(Cause {
            cause,
            changes: differences(network, &halved),
            parameters: saved(|cost| cost.total() as u64),
            image_flops: saved(|cost| cost.image.inference.flops),
            text_flops: saved(|cost| cost.text.inference.flops),
            training_bytes: saved(|cost| cost.image.training.held + cost.text.training.held),
        })
    };
    CAUSES.iter().filter_map(cause).collect()
}

#[cfg(test)]
mod tests {
    use tuwen_models::clip::presets;

    use super::*;

    #[test]
    fn each_size_saves_what_it_is_responsible_for() {
        let network = Network::Clip(presets::find("ViT-B-32").expect("published"));
        let causes = of(&network, &network.cost().expect("published"));
        let cause = |name: &str| causes.iter().find(|cause| cause.cause == name).expect(name);
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-3, "{got}, not {expected}");
        // Half of 49408 vectors of 512 in 151.28 million.
        close(cause("vocabulary").parameters, 49408.0 * 256.0 / 151_277_313.0);
        assert_eq!((cause("vocabulary").image_flops, cause("vocabulary").text_flops), (0.0, 0.0));
        // Layers of both towers: 85.05 and 37.83 million.
        close(cause("depth").parameters, (85_054_464.0 + 37_828_608.0) / 2.0 / 151_277_313.0);
        // A quarter of the patches: 224 / 32 = 7 becomes 3.
        assert_eq!(cause("resolution").changes[0].to, "96");
        assert!(cause("resolution").image_flops > 0.75 && cause("resolution").text_flops == 0.0);
        assert!(cause("width").parameters > 0.7 && cause("width").parameters < 0.75);
        // 77 tokens become 39.
        assert!(cause("context").text_flops > 0.49 && cause("context").image_flops == 0.0);
    }
}
