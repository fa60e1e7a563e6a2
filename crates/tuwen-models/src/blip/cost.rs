//! What a BLIP model takes.

use tuwen_nn::{LoadReport, Pass, Scope};
use tuwen_tensor::Tensor;

use super::{Blip, BlipConfig};
use crate::TokenIds;
use crate::bert::{EncoderStates, first_state};
use crate::cost::{GROUNDED_TEXT, InputCost, ModelCost, pass, sizes};

impl BlipConfig {
    /// Parameters, operations and memory of the network, by name: for an image, and for a text of [`GROUNDED_TEXT`] tokens
    /// beside an image whose states are known. A text is what the task reads or writes: a caption, or a question with an
    /// answer.
    ///
    /// # Errors
    /// None for a configuration that was [checked](BlipConfig::checked).
    pub fn cost(&self) -> Result<ModelCost, LoadReport> {
        let blip = Blip::new(self, Scope::count())?;
        let side = self.vision.image_size;
        let image = InputCost::measure(
            blip.parameters(),
            || Tensor::shape_only(&[1, 3, side, side]),
            |pixels, training| blip.vision_model().tokens(pixels, &pass(training)),
        );
        let length = GROUNDED_TEXT.min(self.text.max_position_embeddings);
        let seen = [1, self.vision.grid().pow(2) + 1, self.vision.hidden_size];
        let text = InputCost::measure(
            blip.parameters(),
            || (TokenIds { ids: vec![0; length], length, attention_mask: None }, Tensor::shape_only(&seen)),
            |(tokens, seen), training| blip.text_pass(tokens, seen, &pass(training)),
        );
        Ok(ModelCost { parameters: sizes(blip.parameters()), image, text })
    }
}

impl Blip {
    /// What the network does with a text beside states of images.
    fn text_pass(&self, tokens: &TokenIds, seen: &Tensor, pass: &Pass) -> Tensor {
        let images = EncoderStates::new(seen.clone());
        if let Some(answerer) = self.answerer() {
            let read = EncoderStates::new(answerer.read(tokens, &images, pass));
            return answerer.text_decoder.forward(tokens, &read, pass);
        }
        if let Some(matcher) = self.matcher() {
            return matcher.itm_logits(tokens, &images, pass);
        }
        if let (Some(decoder), None) = (&self.text_decoder, &self.text_encoder) {
            return decoder.forward(tokens, &images, pass);
        }
        let encoder = self.text_encoder.as_ref().expect("every task has an encoder or a decoder of texts");
        let two = [images.clone(), images];
        let seen = match (&self.classifier, &self.pooling) {
            (Some(_), _) => &two[..],
            (None, Some(_)) => &[],
            (None, None) => &two[..1],
        };
        first_state(&encoder.forward(tokens, seen, pass))
    }
}

#[cfg(test)]
mod tests {
    use crate::blip::presets;

    #[test]
    fn parts_add_up_to_the_published_totals() {
        let parameters = |name: &str, prefix: &str| -> usize {
            let cost = presets::find(name).expect("published").cost().expect("sizes of a network");
            cost.parameters.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, count)| count).sum()
        };
        assert_eq!(parameters("blip-base", "vision_model."), 85_798_656);
        assert_eq!(parameters("blip-itm-base-coco", "vision_model."), 86_090_496);
        assert_eq!(parameters("blip-itm-base-coco", "text_encoder."), 137_258_496);
        assert_eq!(parameters("blip-itm-large-coco", "text_encoder."), 141_977_088);
        assert_eq!(parameters("blip-image-captioning-base", "text_decoder.cls."), 622_652);
        assert_eq!(parameters("blip-image-captioning-large", "vision_model."), 303_690_752);
    }

    #[test]
    fn a_text_takes_what_its_layers_multiply() {
        let cost = presets::find("blip-itm-base-coco").expect("published").cost().expect("a network");
        let multiplied = |tokens: u64, width: u64, out: u64| 2 * tokens * width * out;
        // 12 layers of 35 tokens: self-attention, queries and output of cross-attention, MLP; keys and values of 577 states;
        // and the products of both attentions.
        let layer =
            6 * multiplied(35, 768, 768) + 2 * multiplied(35, 768, 3072) + 2 * multiplied(577, 768, 768);
        let attention = 2 * multiplied(35, 768, 35) + 2 * multiplied(35, 768, 577);
        assert_eq!(cost.text.inference.flops, 12 * (layer + attention) + multiplied(1, 768, 2));
        assert!(cost.image.inference.flops > 100_000_000_000 && cost.image.training.held > 0);
    }

    #[test]
    fn every_task_can_be_measured() {
        for name in presets::names() {
            let cost = presets::find(name).expect("published").cost().expect("sizes of a network");
            assert!(cost.text.inference.flops > 1_000_000_000 && cost.text.training.held > 0, "{name}");
        }
    }
}
