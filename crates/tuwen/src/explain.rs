//! Which parts of a picture the words of a text look at, drawn over the picture: Grad-CAM as ALBEF's authors show it.

mod draw;
mod font;

use tuwen_data::tokenizer::{BertTokenizer, Cleaning, Overflow, Padding, TokenBatch};
use tuwen_models::TokenIds;
use tuwen_models::bert::{BertDecoder, EncoderStates};
use tuwen_models::blip::BlipDialect;
use tuwen_nn::Pass;
use tuwen_tensor::{Targets, Tensor, ops};

use crate::{Ability, Error, GroundedConfig, GroundedModel, GroundedNetwork, Pixels};

/// What each word of a text looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What is explained: "a dog", or a question with its answer.
    pub title: String,
    /// The words that the model read, in their order.
    pub words: Vec<WordMap>,
    /// Patches along a side of the image.
    pub grid: usize,
}

/// What a word looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct WordMap {
    /// The word.
    pub word: String,
    /// The importance of each patch, 0 or more, row by row: the attention to it times what it does for the score, in the
    /// mean of all heads and of the tokens of the word.
    pub importance: Vec<f32>,
}

impl GroundedModel {
    /// What the words of a caption look at when the model judges whether it matches an image (ITM).
    ///
    /// # Errors
    /// A model that has no such head, or no tokenizer.
    pub fn explain_match(&self, image: &Pixels, caption: &str) -> Result<Explanation, Error> {
        /// The class of a match.
        const MATCH: usize = 1;
        self.require(Ability::Match)?;
        let (tokens, _) = self.tokens(&[caption])?;
        let tokens = self.grounded(tokens);
        let states = EncoderStates::new(self.image_states(std::slice::from_ref(image)));
        let score = |states: &Tensor| {
            let logits = self.network().itm_of_states(states);
            logits.map(|logits| ops::sum(&ops::narrow(&logits, 1, MATCH, 1)))
        };
        self.explain(caption.to_owned(), &tokens, &states, score)
    }

    /// What the words of a question look at on the way to an answer: to the logarithm of its probability.
    ///
    /// # Errors
    /// A model that answers no questions, or has no tokenizer.
    pub fn explain_answer(&self, image: &Pixels, question: &str, answer: &str) -> Result<Explanation, Error> {
        self.require(Ability::Answer)?;
        let (cleaning, start) = match self.config() {
            GroundedConfig::Blip(config) => {
                let cleaning = (config.dialect == BlipDialect::Salesforce).then_some(Cleaning::BlipQuestion);
                (cleaning, config.tokens.dec)
            }
            GroundedConfig::Albef(_) => (Some(Cleaning::AlbefQuestion), self.known_tokenizer()?.start_id()),
        };
        let cleaned = cleaning.map(|cleaning| cleaning.apply(question, usize::MAX));
        let limit = self.text_limit();
        let tokens =
            self.grounded(row(self.known_tokenizer()?, cleaned.as_deref().unwrap_or(question), limit)?);
        let answer_tokens = row(self.known_tokenizer()?, answer, limit)?.starting_with(start);
        let states = EncoderStates::new(self.image_states(std::slice::from_ref(image)));
        let score = |states: &Tensor| {
            let decoder = self.network().answer_decoder()?;
            Some(log_likelihood(decoder, &answer_tokens, &EncoderStates::new(states.clone())))
        };
        self.explain(format!("{question} {answer}"), &tokens, &states, score)
    }

    fn explain(
        &self,
        title: String,
        tokens: &TokenIds,
        image: &EncoderStates,
        score: impl FnOnce(&Tensor) -> Option<Tensor>,
    ) -> Result<Explanation, Error> {
        let unable = || Error::Unable {
            model: self.files().name.clone(),
            wanted: Ability::Explain,
            has: self.config().abilities(),
        };
        let encoder = self.network().text_encoder().ok_or_else(unable)?;
        // A score that cannot be told depends on nothing.
        let score = |states: &Tensor| score(states).unwrap_or_else(|| Tensor::full(0.0, &[]));
        let map = encoder.grad_cam(encoder.explained_layer(), tokens, image, score).ok_or_else(unable)?;
        let words = words(self.known_tokenizer()?, tokens, &map);
        Ok(Explanation { title, words, grid: self.config().vision().grid() })
    }
}

impl GroundedNetwork {
    /// The logarithm of a match and of none, of states of texts beside images.
    fn itm_of_states(&self, states: &Tensor) -> Option<Tensor> {
        match self {
            Self::Blip(blip) => Some(blip.matcher()?.itm_of_states(states)),
            Self::Albef(albef) => albef.itm_logits(states),
        }
    }
}

/// A text as one row of ids.
fn row(tokenizer: &BertTokenizer, text: &str, limit: usize) -> Result<TokenIds, Error> {
    let batch = tokenizer.encode_batch(&[text], limit, Padding::Longest, Overflow::Truncate)?;
    let TokenBatch { ids, context_length: length, .. } = batch;
    Ok(TokenIds { ids, length, attention_mask: None })
}

/// The logarithm of the probability of one text, as a scalar that gradients flow through.
fn log_likelihood(decoder: &BertDecoder, text: &TokenIds, states: &EncoderStates) -> Tensor {
    let logits = decoder.forward(text, states, &Pass::eval());
    let [_, length, vocabulary] = logits.dims();
    let following = ops::narrow(&logits, 1, 0, length - 1).reshape(&[length - 1, vocabulary]);
    let loss = ops::cross_entropy(&following, Targets::Classes(&text.ids[1..]));
    ops::scale(&loss, -((length - 1) as f32))
}

/// The maps `[tokens, patches + 1]` of tokens as those of words: without the first and the last token, the class token of
/// the image, and with parts of words together.
fn words(tokenizer: &BertTokenizer, tokens: &TokenIds, map: &Tensor) -> Vec<WordMap> {
    const PART: &str = "##";
    let seen = map.last_dim();
    let values = map.to_vec();
    let mut words: Vec<(WordMap, usize)> = Vec::new();
    let inner = 1..tokens.tokens(0).saturating_sub(1).max(1);
    for (&id, row) in tokens.ids[inner.clone()].iter().zip(values.chunks_exact(seen).skip(inner.start)) {
        let token = tokenizer.token(id).unwrap_or("?");
        match (token.strip_prefix(PART), words.last_mut()) {
            (Some(part), Some((word, tokens))) => {
                word.word.push_str(part);
                word.importance.iter_mut().zip(&row[1..]).for_each(|(sum, value)| *sum += value);
                *tokens += 1;
            }
            _ => words.push((WordMap { word: token.to_owned(), importance: row[1..].to_vec() }, 1)),
        }
    }
    let mean = |(mut word, tokens): (WordMap, usize)| {
        word.importance.iter_mut().for_each(|sum| *sum /= tokens as f32);
        word
    };
    words.into_iter().map(mean).collect()
}
