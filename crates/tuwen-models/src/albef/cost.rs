//! What an ALBEF model takes.

use tuwen_nn::{LoadReport, Scope};
use tuwen_tensor::Tensor;

use super::{Albef, AlbefConfig};
use crate::TokenIds;
use crate::bert::EncoderStates;
use crate::cost::{GROUNDED_TEXT, InputCost, ModelCost, pass, sizes};

impl AlbefConfig {
    /// Parameters, operations and memory of the network, by name: for an image, and for a text of [`GROUNDED_TEXT`] tokens
    /// beside an image whose states are known; to a question belongs an answer.
    ///
    /// # Errors
    /// None for a configuration that was [checked](AlbefConfig::checked).
    pub fn cost(&self) -> Result<ModelCost, LoadReport> {
        let albef = Albef::new(self, Scope::count())?;
        let side = self.vision.image_size;
        let image = InputCost::measure(
            albef.parameters(),
            || Tensor::shape_only(&[1, 3, side, side]),
            |pixels, training| albef.image(pixels, &pass(training)),
        );
        let length = GROUNDED_TEXT.min(self.text.max_position_embeddings);
        let seen = [1, self.vision.grid().pow(2) + 1, self.vision.hidden_size];
        let text = InputCost::measure(
            albef.parameters(),
            || (TokenIds { ids: vec![0; length], length, attention_mask: None }, Tensor::shape_only(&seen)),
            |(tokens, seen), training| {
                let fused = albef.multimodal(tokens, &EncoderStates::new(seen.clone()), &pass(training));
                match albef.text_decoder() {
                    Some(decoder) => decoder.forward(tokens, &EncoderStates::new(fused), &pass(training)),
                    None => albef.itm_logits(&fused).unwrap_or(fused),
                }
            },
        );
        Ok(ModelCost { parameters: sizes(albef.parameters()), image, text })
    }
}
