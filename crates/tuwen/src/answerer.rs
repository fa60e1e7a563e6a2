//! Questions about images to answers, written or of a closed list.

use tuwen_data::tokenizer::{BertTokenizer, Cleaning, Overflow, Padding, TokenBatch, Truncated};
use tuwen_models::TokenIds;
use tuwen_models::albef::Albef;
use tuwen_models::bert::{EncoderStates, RankRules};
use tuwen_models::blip::{self, BlipDialect};
use tuwen_models::generate::{BeamRules, GenerationConfig, Silent};
use tuwen_nn::Pass;
use tuwen_tensor::no_grad;

use crate::writing::{Hand, end_of, stream_with};
use crate::{
    Ability, Error, Eye, GroundedConfig, GroundedModel, GroundedNetwork, Model, Pixels, SeenImages,
    WritingOptions, Written,
};

/// Candidates that are scored as a whole: `k_test` of the original programs.
const SCORED: usize = 128;
/// Words and tokens of a question that salesforce/BLIP reads.
const BLIP_WORDS: usize = 50;
const BLIP_TOKENS: usize = 35;
/// Words of a question that salesforce/ALBEF reads.
const ALBEF_WORDS: usize = 30;

/// The ability to answer questions about images.
#[derive(Clone, Copy)]
pub struct Answerer<'m> {
    eye: Eye<'m>,
    hand: Hand<'m>,
    reader: Reader<'m>,
    /// Most tokens of a question.
    limit: usize,
    dialect: Dialect,
}

/// What reads questions beside images.
#[derive(Clone, Copy)]
enum Reader<'m> {
    Blip(blip::Answerer<'m>, u32),
    Albef(&'m Albef),
}

/// Whose program a model is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    HuggingFace,
    Blip,
    Albef,
}

/// A closed list of answers, as a model reads them.
#[derive(Clone, Debug)]
pub struct Candidates {
    answers: Vec<String>,
    tokens: TokenIds,
}

/// An answer of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedAnswer {
    /// Its number in the list.
    pub candidate: usize,
    /// The answer.
    pub text: String,
    /// Its part in the probability of all answers that were scored.
    pub probability: f32,
}

impl<'m> Answerer<'m> {
    /// Of a model that was loaded.
    ///
    /// # Errors
    /// A model that answers no questions, or that has no tokenizer.
    pub fn new(model: &'m GroundedModel) -> Result<Self, Error> {
        model.require(Ability::Answer)?;
        let tokenizer = model.known_tokenizer()?;
        let hand = |decoder, start, end| Hand { decoder, tokenizer, start, end, drops_prompt: true };
        let answerer = |hand, reader, dialect, limit| Self { eye: Eye(model), hand, reader, limit, dialect };
        Ok(match (model.config(), model.network()) {
            (GroundedConfig::Blip(config), GroundedNetwork::Blip(blip)) => {
                let blip = blip.answerer().expect("it is able to");
                let positions = config.text.max_position_embeddings;
                let (dialect, limit) = match config.dialect {
                    BlipDialect::HuggingFace => (Dialect::HuggingFace, positions),
                    BlipDialect::Salesforce => (Dialect::Blip, positions.min(BLIP_TOKENS)),
                };
                let reader = Reader::Blip(blip, config.grounded_start());
                let hand = hand(blip.text_decoder, config.tokens.dec, end_of(config, tokenizer));
                answerer(hand, reader, dialect, limit)
            }
            (GroundedConfig::Albef(config), GroundedNetwork::Albef(albef)) => {
                let decoder = albef.text_decoder().expect("it is able to");
                let limit = config.text.max_position_embeddings;
                let hand = hand(decoder, tokenizer.start_id(), tokenizer.end_id());
                answerer(hand, Reader::Albef(albef), Dialect::Albef, limit)
            }
            _ => unreachable!("a network is of its configuration"),
        })
    }

    /// Settings of the program that the model is of, three beams of at most 10 tokens in Salesforce's, the most probable tokens
    /// in transformers; over them what the model's files say.
    pub fn options(&self) -> WritingOptions {
        let generation = match self.dialect {
            Dialect::HuggingFace => self.hand.generation(BeamRules::Transformers5),
            Dialect::Blip | Dialect::Albef => GenerationConfig {
                num_beams: 3,
                max_length: Some(10),
                min_length: 1,
                ..self.hand.generation(BeamRules::Transformers4)
            },
        };
        let generation = self.eye.0.files().generation.over(generation);
        WritingOptions { generation, ..WritingOptions::default() }
    }

    /// Whether answers can be written so.
    ///
    /// # Errors
    /// Options that contradict themselves, or ask for more tokens than the model has positions.
    pub fn check(&self, options: &WritingOptions) -> Result<(), Error> {
        self.hand.check(options)
    }

    /// What prepares images and looks at them.
    pub fn eye(&self) -> Eye<'m> {
        self.eye
    }

    /// Looks at images once, to ask several questions about them.
    pub fn look(&self, images: &[Pixels]) -> SeenImages {
        self.eye.look(images)
    }

    /// Most tokens of a question, start and end included.
    pub fn question_limit(&self) -> usize {
        self.limit
    }

    /// Which of some questions have more tokens than [`Answerer::question_limit`]: the rest is not read.
    ///
    /// # Errors
    /// A model that has no room for a question.
    pub fn truncated(&self, questions: &[impl AsRef<str>]) -> Result<Vec<Truncated>, Error> {
        Ok(self.tokens(questions)?.truncated)
    }

    /// Answers to questions about images: for each question as many as `options` ask for, the best first. Each image has
    /// equally many questions, which stand together.
    ///
    /// # Errors
    /// Options that contradict themselves.
    pub fn write(
        &self,
        images: &SeenImages,
        questions: &[impl AsRef<str>],
        options: &WritingOptions,
    ) -> Result<Vec<Vec<Written>>, Error> {
        self.each_length(images, questions, |states, streams| {
            self.hand.write(&states, streams, options, &mut Silent)
        })
    }

    /// Reads a list of answers.
    ///
    /// # Errors
    /// No answers, or one that is longer than the model has positions.
    pub fn candidates(&self, answers: &[impl AsRef<str>]) -> Result<Candidates, Error> {
        if answers.is_empty() {
            return Err(Error::Nothing("answers"));
        }
        let answers: Vec<String> = answers.iter().map(|answer| answer.as_ref().to_owned()).collect();
        let tokenizer = self.hand.tokenizer;
        // ALBEF writes one more end behind each answer.
        let end = if self.dialect == Dialect::Albef { "[SEP]" } else { "" };
        let texts: Vec<String> = answers.iter().map(|answer| format!("{answer}{end}")).collect();
        let limit = self.hand.decoder.bert().max_length();
        let batch = tokenizer.encode_batch(&texts, limit, Padding::Longest, Overflow::Error)?;
        Ok(Candidates { answers, tokens: TokenIds::from(batch).starting_with(self.hand.start) })
    }

    /// The answers of a list to questions about images, the most probable first: those 128 whose first tokens are the most
    /// probable. Each image has equally many questions, which stand together.
    ///
    /// # Errors
    /// A model that has no room for a question.
    pub fn rank(
        &self,
        images: &SeenImages,
        questions: &[impl AsRef<str>],
        candidates: &Candidates,
    ) -> Result<Vec<Vec<RankedAnswer>>, Error> {
        let rules = if self.dialect == Dialect::Albef { RankRules::Albef } else { RankRules::Blip };
        let ranked = |(candidate, probability): (usize, f32)| {
            let text = candidates.answers[candidate].clone();
            RankedAnswer { candidate, text, probability }
        };
        self.each_length(images, questions, |states, _| {
            let rankings = no_grad(|| self.hand.decoder.rank(&states, &candidates.tokens, SCORED, rules));
            let of_question = |ranking: tuwen_models::bert::Ranking| {
                ranking.probabilities().into_iter().map(ranked).collect()
            };
            Ok(rankings.into_iter().map(of_question).collect())
        })
    }

    /// Does something with the states of questions of equal lengths, and puts what comes of it in the order of the
    /// questions. Padding, which decoders look at when they write, thus never occurs.
    fn each_length<T: Clone>(
        &self,
        images: &SeenImages,
        questions: &[impl AsRef<str>],
        work: impl Fn(EncoderStates, &[u64]) -> Result<Vec<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let tokens = TokenIds::from(self.tokens(questions)?);
        let of_each = questions.len() / images.len().max(1);
        let length = |row: usize| {
            tokens.attention_mask.as_ref().map_or(tokens.length, |mask| {
                mask[row * tokens.length..][..tokens.length].iter().filter(|&&seen| seen).count()
            })
        };
        let mut rows: Vec<usize> = (0..questions.len()).collect();
        rows.sort_by_key(|&row| length(row));
        let mut results: Vec<Option<T>> = vec![None; questions.len()];
        for rows in rows.chunk_by(|&a, &b| length(a) == length(b)) {
            let length = length(rows[0]);
            let ids = rows.iter().flat_map(|&row| tokens.row(row)[..length].iter().copied()).collect();
            let ids = TokenIds { ids, length, attention_mask: None };
            let looked_at: Vec<u32> = rows.iter().map(|&row| (row / of_each) as u32).collect();
            let states = no_grad(|| self.read(ids, &images_of(&images.states, &looked_at)));
            let stream = |&row: &usize| stream_with(images.streams[row / of_each], questions[row].as_ref());
            let streams: Vec<u64> = rows.iter().map(stream).collect();
            for (&row, result) in rows.iter().zip(work(states, &streams)?) {
                results[row] = Some(result);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    fn read(&self, questions: TokenIds, images: &EncoderStates) -> EncoderStates {
        let pass = Pass::eval();
        EncoderStates::new(match self.reader {
            Reader::Blip(answerer, start) => answerer.read(&questions.starting_with(start), images, &pass),
            Reader::Albef(albef) => albef.multimodal(&questions, images, &pass),
        })
    }

    fn tokens(&self, questions: &[impl AsRef<str>]) -> Result<TokenBatch, Error> {
        let tokenizer: &BertTokenizer = self.hand.tokenizer;
        let clean = |question: &str| match self.dialect {
            Dialect::HuggingFace => question.to_owned(),
            // What is too long is cut, and can be told, as tokens.
            Dialect::Blip => Cleaning::BlipQuestion.apply(question, usize::MAX),
            Dialect::Albef => Cleaning::AlbefQuestion.apply(question, usize::MAX),
        };
        let questions: Vec<String> = questions.iter().map(|question| clean(question.as_ref())).collect();
        let mut batch =
            tokenizer.encode_batch(&questions, self.limit, Padding::Longest, Overflow::Truncate)?;
        let words = match self.dialect {
            Dialect::HuggingFace => usize::MAX,
            Dialect::Blip => BLIP_WORDS,
            Dialect::Albef => ALBEF_WORDS,
        };
        if questions.iter().any(|question| question.split(' ').count() > words) {
            let first = |question: &String| question.split(' ').take(words).collect::<Vec<_>>().join(" ");
            let shortened: Vec<String> = questions.iter().map(first).collect();
            let cut = tokenizer.encode_batch(&shortened, self.limit, Padding::Longest, Overflow::Truncate)?;
            batch = TokenBatch { truncated: self.cut(&questions, words), ..cut };
        }
        Ok(batch)
    }

    /// Questions of too many words or tokens.
    fn cut(&self, questions: &[String], words: usize) -> Vec<Truncated> {
        let counts = questions.iter().enumerate().map(|(text, question)| {
            let tokens = self.hand.tokenizer.encode(question).len() + 2;
            (Truncated { text, tokens }, question.split(' ').count())
        });
        counts.filter(|(cut, count)| cut.tokens > self.limit || *count > words).map(|(cut, _)| cut).collect()
    }
}

impl Candidates {
    /// Number of answers.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

/// States of the images that rows look at. Where each has equally many rows, they are shared.
fn images_of(states: &EncoderStates, rows: &[u32]) -> EncoderStates {
    let mut images = rows.to_vec();
    images.dedup();
    let each = rows.len() / images.len().max(1);
    let even = rows
        .chunks(each.max(1))
        .all(|chunk| chunk.len() == each && chunk.iter().all(|image| *image == chunk[0]));
    let wanted = if even { images } else { rows.to_vec() };
    if wanted.iter().copied().eq(0..states.batch() as u32) { states.clone() } else { states.select(&wanted) }
}

impl Model {
    /// Answers questions.
    ///
    /// # Errors
    /// A model that answers none, or that has no tokenizer.
    pub fn answerer(&self) -> Result<Answerer<'_>, Error> {
        self.require(Ability::Answer)?;
        Answerer::new(self.grounded().expect("no other model answers questions"))
    }
}
