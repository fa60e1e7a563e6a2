//! What a score looks at: Grad-CAM of cross-attention.
//!
//! Paper: arXiv 1610.02391; for cross-attention arXiv 2107.07651, section 6. Reference: salesforce/ALBEF
//! `visualization.ipynb`.

use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, no_grad};

use super::{Bert, EncoderStates, mask_of};
use crate::TokenIds;

impl Bert {
    /// For each token of one text the importance of every state of one image to a score: `[tokens, states]`. It is the
    /// probability with which layer `layer` attends to the state, times the gradient of the score by that probability where
    /// it is above zero, in the mean of all heads.
    ///
    /// `score` makes a scalar of the states after the last layer, `[1, tokens, hidden_size]`. `None` where the layer does not
    /// look at one image, or the score does not depend on it.
    pub fn grad_cam(
        &self,
        layer: usize,
        tokens: &TokenIds,
        image: &EncoderStates,
        score: impl FnOnce(&Tensor) -> Tensor,
    ) -> Option<Tensor> {
        let (pass, mask) = (Pass::eval(), mask_of(tokens, false));
        let images = std::slice::from_ref(image);
        let before = no_grad(|| self.run(0..layer, &self.embed(tokens, &pass), &mask, images, &pass));
        let (probabilities, hidden) =
            self.layers.get(layer)?.probed(&before, mask.of_layer(), image, layer)?;
        let after = self.run(layer + 1..self.layers.len(), &hidden, &mask, images, &pass);
        let gradient = score(&after).backward().take(&probabilities)?;
        let [_, heads, queries, keys] = probabilities.dims();
        let (probabilities, gradient) = (probabilities.to_vec(), gradient.to_vec());
        let map = queries * keys;
        let importance = |at: usize| {
            let of_heads = (0..heads).map(|head| head * map + at);
            of_heads.map(|at| probabilities[at] * gradient[at].max(0.0)).sum::<f32>() / heads as f32
        };
        Some(Tensor::new(&(0..map).map(importance).collect::<Vec<_>>(), &[queries, keys]))
    }

    /// The layer that is asked for explanations: the ninth of twelve, as ALBEF's authors do, and where another number is as
    /// deep. Not the last: a score of the first token says nothing of what other tokens look at there.
    pub fn explained_layer(&self) -> usize {
        let layers = self.layers.len();
        (layers * 8 / 12).min(layers.saturating_sub(2))
    }
}
