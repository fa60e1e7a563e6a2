//! The parts of a tower from input to output, by which it is locked from below (LiT, arXiv 2111.07991).
//!
//! The groups are those of open_clip's `--lock-image-unlocked-groups` and `--lock-text-unlocked-layers`
//! (`open_clip/transformer.py`, `lock` and `lock_text_tower`). A ModifiedResNet, which open_clip locks as a whole only,
//! has its stem, its four stages and its attention pool.

use std::fmt;

use tuwen_nn::{Entry, Parameters};

/// One of the two towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tower {
    /// The image tower with its projection.
    Vision,
    /// The text tower with its projection.
    Text,
}

impl fmt::Display for Tower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vision => "vision",
            Self::Text => "text",
        })
    }
}

/// Where in a tower a parameter is. The order is that of the computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Embeddings and the norm after them, or the stem.
    Bottom,
    /// A layer of a transformer or a stage of a ResNet.
    Layer(usize),
    /// The norm after the last layer, which belongs to it.
    LastNorm,
    /// The projection, or the attention pool.
    Top,
}

impl Tower {
    /// The place of a parameter by its name, if it is of this tower.
    fn place(self, name: &str) -> Option<Place> {
        let (model, projection, last_norm) = match self {
            Self::Vision => ("vision_model.", "visual_projection.", "post_layernorm."),
            Self::Text => ("text_model.", "text_projection.", "final_layer_norm."),
        };
        if name.starts_with(projection) {
            return Some(Place::Top);
        }
        let rest = name.strip_prefix(model)?;
        let number = |rest: &str| rest.split('.').next()?.parse().ok();
        let layer =
            rest.strip_prefix("encoder.layers.").or_else(|| rest.strip_prefix("layer")).and_then(number);
        Some(match layer {
            Some(layer) => Place::Layer(layer),
            None if rest.starts_with(last_norm) => Place::LastNorm,
            None if rest.starts_with("attnpool.") => Place::Top,
            None => Place::Bottom,
        })
    }

    /// The parameters and buffers of this tower in groups, from input to output; none if there is no such tower.
    pub fn groups(self, parameters: &Parameters) -> Vec<Vec<&Entry>> {
        let placed = parameters.iter().filter_map(|entry| Some((self.place(&entry.name)?, entry)));
        let mut placed: Vec<(Place, &Entry)> = placed.collect();
        placed.sort_by_key(|&(place, _)| place);
        let mut groups: Vec<Vec<&Entry>> = Vec::new();
        let mut last = None;
        for (place, entry) in placed {
            let joins = last == Some(place) || place == Place::LastNorm;
            match groups.last_mut() {
                Some(group) if joins => group.push(entry),
                _ => groups.push(vec![entry]),
            }
            last = Some(place);
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use tuwen_nn::Scope;

    use super::*;
    use crate::clip::{Clip, presets};

    fn groups(preset: &str, tower: Tower) -> Vec<Vec<String>> {
        let config = presets::find(preset).expect("a preset");
        let clip = Clip::new(&config, Scope::count()).expect("nothing is loaded");
        let names = |group: Vec<&Entry>| group.into_iter().map(|entry| entry.name.clone()).collect();
        tower.groups(clip.parameters()).into_iter().map(names).collect()
    }

    /// What is in a group, by its first and last name and its size.
    fn bounds(group: &[String]) -> (&str, &str, usize) {
        (&group[0], &group[group.len() - 1], group.len())
    }

    #[test]
    fn transformers_have_embeddings_layers_and_a_projection() {
        for (tower, bottom, norm, top) in [
            (Tower::Vision, 5, "vision_model.post_layernorm.bias", "visual_projection.weight"),
            (Tower::Text, 2, "text_model.final_layer_norm.bias", "text_projection.weight"),
        ] {
            let groups = groups("clip-vit-base-patch32", tower);
            assert_eq!(groups.len(), 14, "{tower}");
            assert_eq!(groups[0].len(), bottom, "{tower}");
            assert!(groups[1..12].iter().enumerate().all(|(i, group)| {
                group.len() == 16 && group.iter().all(|name| name.contains(&format!(".layers.{i}.")))
            }));
            assert_eq!((bounds(&groups[12]).1, groups[12].len()), (norm, 18));
            assert_eq!(bounds(&groups[13]), (top, top, 1));
        }
    }

    #[test]
    fn a_resnet_has_a_stem_four_stages_and_a_pool() {
        let groups = groups("clip-rn50", Tower::Vision);
        assert_eq!(groups.len(), 6);
        assert_eq!(groups[0].len(), 15, "three convolutions with their norms");
        for (stage, group) in groups[1..5].iter().enumerate() {
            assert!(group.iter().all(|name| name.starts_with(&format!("vision_model.layer{}.", stage + 1))));
        }
        assert!(groups[5].iter().all(|name| name.starts_with("vision_model.attnpool.")));
    }
}
