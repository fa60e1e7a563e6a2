//! What a model takes: parameters, operations and memory, found by running its network on shapes
//! ([`tuwen_tensor::meter`]).

use tuwen_nn::{Kind, Parameters, Pass};
use tuwen_tensor::meter::{Measurement, measure};
use tuwen_tensor::{Tensor, no_grad};

/// Tokens of the text by which BLIP and ALBEF are measured: as many as salesforce/BLIP reads of a caption.
pub const GROUNDED_TEXT: usize = 35;

/// What a model takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCost {
    /// Name and number of values of each parameter, in the order of the network.
    pub parameters: Vec<(String, usize)>,
    /// What one image takes.
    pub image: InputCost,
    /// What one text of the greatest length takes.
    pub text: InputCost,
}

impl ModelCost {
    /// Number of learnable values.
    pub fn total(&self) -> usize {
        self.parameters.iter().map(|(_, count)| count).sum()
    }
}

/// What one input takes, itself included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputCost {
    /// To be looked at.
    pub inference: Measurement,
    /// To be learnt from, up to the beginning of the backward pass: what it needs is held at the end.
    pub training: Measurement,
}

impl InputCost {
    /// Measures a forward pass as inference and as training run it.
    ///
    /// `input` makes the input; `forward` runs it, the flag says whether it is training.
    pub(crate) fn measure<I>(
        parameters: &Parameters,
        input: impl Fn() -> I,
        forward: impl Fn(&I, bool) -> Tensor,
    ) -> Self {
        let run = |training| {
            let input = input();
            let output = forward(&input, training);
            (input, output)
        };
        // What is made once and stays (folded norms, packed weights) is no cost of an input.
        no_grad(|| run(false));
        let (_, inference) = measure(|| no_grad(|| run(false)));
        let train = |trainable| learnable(parameters).for_each(|entry| entry.param.set_trainable(trainable));
        train(true);
        let (kept, training) = measure(|| run(true));
        drop(kept);
        train(false);
        Self { inference, training }
    }
}

/// As published profiles count: the states of all tokens in all layers.
pub(crate) fn pass(training: bool) -> Pass {
    if training { Pass::train() } else { Pass::eval().of_all_tokens() }
}

/// Names and sizes of what is learnt.
pub(crate) fn sizes(parameters: &Parameters) -> Vec<(String, usize)> {
    learnable(parameters).map(|entry| (entry.name.clone(), entry.param.value().elements())).collect()
}

fn learnable(parameters: &Parameters) -> impl Iterator<Item = &tuwen_nn::Entry> {
    parameters.iter().filter(|entry| entry.kind == Kind::Parameter)
}
