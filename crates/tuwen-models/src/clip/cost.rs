//! What a CLIP model takes.

use tuwen_nn::{LoadReport, Scope};
use tuwen_tensor::Tensor;

use super::{Clip, ClipConfig, TokenIds};
use crate::cost::{InputCost, ModelCost, pass, sizes};

impl ClipConfig {
    /// Parameters, operations and memory of the network, by name. Texts are as long as the context, and inference takes
    /// what published profiles count: the states of all tokens in all layers.
    ///
    /// # Errors
    /// None for a configuration that was [checked](ClipConfig::checked).
    pub fn cost(&self) -> Result<ModelCost, LoadReport> {
        let clip = Clip::new(self, Scope::count())?;
        let side = self.vision.image_size();
        let image = InputCost::measure(
            clip.parameters(),
            || Tensor::shape_only(&[1, 3, side, side]),
            |pixels, training| clip.image_features(pixels, &pass(training)),
        );
        let length = self.text.max_position_embeddings;
        let text = InputCost::measure(
            clip.parameters(),
            || TokenIds { ids: vec![0; length], length, attention_mask: None },
            |tokens, training| clip.text_features(tokens, &pass(training)),
        );
        Ok(ModelCost { parameters: sizes(clip.parameters()), image, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{VisionConfig, presets};

    /// What the attention pool of a ResNet takes more in open_clip, which lets every position ask and then takes the
    /// answer of the first; OpenAI's and ours let the first alone ask.
    fn more_in_open_clip(config: &ClipConfig) -> f64 {
        let VisionConfig::ResNet(resnet) = &config.vision else { return 0.0 };
        let (others, width) = (resnet.grid().pow(2), resnet.pooled_size());
        let products = width * width + 2 * (others + 1) * width + width * config.projection_dim;
        2.0 * (others * products) as f64
    }

    /// Rows of open_clip's `docs/model_profile.csv` that are CLIP's own architecture: parameters in millions and
    /// operations in 10⁹ for one image and one text, as they are printed.
    #[test]
    fn costs_are_those_of_the_published_profile() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/prompts/model_profile.csv");
        let Ok(table) = std::fs::read_to_string(path) else {
            eprintln!("skipped: no {path}");
            return;
        };
        let mut found = 0;
        for row in table.lines().skip(1) {
            let (name, rest) = row.split_once(',').expect("a name");
            let Some(config) = presets::find(name) else { continue };
            found += 1;
            let cost = config.cost().expect("published");
            let count = |tower: &str| {
                let of = |(name, _): &&(String, usize)| name.starts_with(tower);
                cost.parameters.iter().filter(of).map(|(_, count)| *count).sum::<usize>() as f64
            };
            let total = cost.total() as f64;
            let image = cost.image.inference.flops as f64 + more_in_open_clip(&config);
            let text = cost.text.inference.flops as f64;
            let ours = [total, count("vis"), count("text"), image + text, image, text];
            let units = [1e6, 1e6, 1e6, 1e9, 1e9, 1e9];
            // After the name: image size, widths, joint width.
            for ((ours, unit), printed) in ours.iter().zip(units).zip(rest.split(',').skip(4)) {
                assert_eq!(
                    (ours / unit * 100.0).round() / 100.0,
                    printed.parse::<f64>().expect(row),
                    "{row}"
                );
            }
        }
        // The others have layer scale (ViT-M-16-alt), no class token (CLIPA), or towers of other families.
        assert_eq!(found, 35, "rows that the configuration can express");
    }

    #[test]
    fn a_pass_takes_what_its_layers_hold() {
        let cost = presets::find("ViT-B-32").expect("published").cost().expect("published");
        let (image, text) = (&cost.image, &cost.text);
        // 50 tokens of 768 floats for keys and for values in 12 layers; 77 of 512.
        let keys_values = |cost: &InputCost| -> u64 {
            cost.inference.modules.values().map(|module| module.keys_values).sum()
        };
        assert_eq!(keys_values(image), 4 * 12 * 2 * 50 * 768);
        assert_eq!(keys_values(text), 4 * 12 * 2 * 77 * 512);
        // A layer keeps two norms' outputs, q, k, v, the attention's output, both sums and what the MLP's activation is
        // applied to: 8 + 4 widths a token, and statistics.
        let layer = "vision_model.encoder.layers.3";
        let held: u64 = image
            .training
            .modules
            .iter()
            .filter(|(path, _)| path.starts_with(layer))
            .map(|(_, m)| m.held)
            .sum();
        let tokens = 4 * 50 * 768 * 12;
        assert!((tokens..tokens + tokens / 50).contains(&held), "{held} of {tokens}");
        assert!(image.inference.held < 700_000 && image.inference.peak < image.training.held / 8);
        // What learns computes the class token alone in the last layer: no queries, output projection and MLP for 49
        // tokens, and their rows of the attention.
        let saved = 2 * 49 * (10 * 768 * 768 + 2 * 50 * 768);
        assert_eq!(image.inference.flops, image.training.flops + saved);
    }
}
