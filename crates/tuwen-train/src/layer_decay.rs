//! Layer-wise learning rates: the lower a layer of a tower, the less it learns.

use std::collections::BTreeMap;

use tuwen_nn::Parameters;

/// Learning-rate factors by parameter name: 1 for what follows the last layer of a tower, and for each layer below
/// `decay` times that of the layer above; the embeddings are the lowest.
///
/// The layers are those of timm's `param_groups_layer_decay`: each block of a transformer is one, as is each block of a
/// ResNet, whose stem counts as embeddings.
pub(crate) struct LayerDecay {
    decay: f64,
    /// Blocks of each tower.
    depths: BTreeMap<&'static str, Vec<(usize, usize)>>,
}

/// Where a parameter stands.
enum Layer {
    Embeddings,
    /// A block by its stage and its number in the stage.
    Block(usize, usize),
    Last,
}

impl LayerDecay {
    pub fn new(decay: f64, parameters: &Parameters) -> Self {
        let mut depths = BTreeMap::<_, Vec<_>>::new();
        for entry in parameters.iter() {
            if let Some((tower, Layer::Block(stage, block))) = place(&entry.name) {
                let blocks = depths.entry(tower).or_default();
                if let Err(gap) = blocks.binary_search(&(stage, block)) {
                    blocks.insert(gap, (stage, block));
                }
            }
        }
        Self { decay, depths }
    }

    /// The factor of a parameter.
    pub fn of(&self, name: &str) -> f64 {
        let Some((tower, layer)) = place(name) else { return 1.0 };
        let blocks = self.depths.get(tower).map_or(&[][..], Vec::as_slice);
        let above = match layer {
            Layer::Last => 0,
            Layer::Embeddings => blocks.len() + 1,
            Layer::Block(stage, block) => {
                let below = blocks.partition_point(|&known| known < (stage, block));
                blocks.len() - below
            }
        };
        self.decay.powi(i32::try_from(above).unwrap_or(i32::MAX))
    }
}

/// The tower of a parameter and its layer there; `None` for what belongs to no tower.
fn place(name: &str) -> Option<(&'static str, Layer)> {
    const TOWERS: [&str; 4] = ["vision_model", "text_model", "text_encoder", "text_decoder.bert"];
    let (tower, rest) =
        TOWERS.iter().find_map(|&tower| Some((tower, name.strip_prefix(tower)?.strip_prefix('.')?)))?;
    let number = |part: Option<&str>| part.and_then(|part| part.parse().ok());
    let transformer = ["encoder.layers.", "encoder.layer."].iter().find_map(|start| rest.strip_prefix(start));
    let layer = if let Some(rest) = transformer {
        Layer::Block(0, number(rest.split('.').next())?)
    } else if let Some(rest) = rest.strip_prefix("layer") {
        let mut parts = rest.split('.');
        Layer::Block(number(parts.next())?, number(parts.next())?)
    } else if ["embeddings.", "pre_layrnorm.", "conv", "bn"].iter().any(|start| rest.starts_with(start)) {
        Layer::Embeddings
    } else {
        Layer::Last
    };
    Some((tower, layer))
}

#[cfg(test)]
mod tests {
    use tuwen_nn::{Init, Scope};

    use super::*;

    fn factors(names: &[&str]) -> LayerDecay {
        let scope = Scope::init(0);
        names.iter().for_each(|name| drop(scope.param(name, &[1], Init::ZEROS)));
        LayerDecay::new(0.5, &scope.finish().expect("nothing is loaded"))
    }

    #[test]
    fn a_transformer_has_a_layer_for_each_block() {
        let names =
            ["vision_model.encoder.layers.0.mlp.fc1.weight", "vision_model.encoder.layers.1.mlp.fc1.weight"];
        let factors = factors(&names);
        for (name, expected) in [
            ("vision_model.embeddings.patch_embedding.weight", 0.125),
            ("vision_model.pre_layrnorm.bias", 0.125),
            (names[0], 0.25),
            (names[1], 0.5),
            ("vision_model.post_layernorm.weight", 1.0),
            ("visual_projection.weight", 1.0),
            ("classifier.weight", 1.0),
            ("logit_scale", 1.0),
        ] {
            assert_eq!(factors.of(name), expected, "{name}");
        }
    }

    #[test]
    fn berts_are_towers_too() {
        let names = ["text_encoder.encoder.layer.0.x", "text_encoder.encoder.layer.1.x"];
        let decoder = "text_decoder.bert.encoder.layer.0.attention.self.query.weight";
        let factors = factors(&[names[0], names[1], decoder]);
        for (name, expected) in [
            ("text_encoder.embeddings.word_embeddings.weight", 0.125),
            (names[0], 0.25),
            (names[1], 0.5),
            (decoder, 0.5),
            ("text_decoder.cls.predictions.bias", 1.0),
            ("itm_head.weight", 1.0),
        ] {
            assert_eq!(factors.of(name), expected, "{name}");
        }
    }

    #[test]
    fn a_resnet_has_a_layer_for_each_block_of_its_stages() {
        let names = [
            "vision_model.layer2.0.conv1.weight",
            "vision_model.layer1.0.conv1.weight",
            "vision_model.layer1.1.bn1.weight",
        ];
        let factors = factors(&names);
        for (name, expected) in [
            ("vision_model.conv1.weight", 0.0625),
            ("vision_model.bn3.bias", 0.0625),
            (names[1], 0.125),
            (names[2], 0.25),
            ("vision_model.layer2.0.downsample.0.weight", 0.5),
            ("vision_model.attnpool.c_proj.weight", 1.0),
        ] {
            assert_eq!(factors.of(name), expected, "{name}");
        }
    }
}
