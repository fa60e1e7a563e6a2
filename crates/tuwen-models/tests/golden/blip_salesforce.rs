//! BLIP in files of salesforce/BLIP.

use std::sync::Arc;

use tuwen_models::bert::{EncoderStates, RankRules, Ranking};
use tuwen_models::blip::weights::Layout;
use tuwen_models::blip::{Blip, BlipConfig, BlipDialect, BlipTask, resized_positions};
use tuwen_models::generate::{BeamRules, GenerationConfig};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::checkpoint::TensorSource;
use tuwen_tensor::{Targets, Tensor, ops};

use crate::support::{Golden, mean, next_token_losses, vision_names};
use crate::written::{config_of, writes};

const LABEL_SMOOTHING: f64 = 0.1;

/// The network of a case; for images of another size, if that is given.
fn load(golden: &Golden, image_size: Option<usize>) -> (Blip, BlipConfig) {
    let (source, mut config) = open(golden);
    let scope = match image_size {
        Some(size) => Scope::load(Arc::new(resized_positions(source, &mut config.vision, size))),
        None => Scope::load(source),
    };
    (Blip::new(&config, scope).expect("loads"), config)
}

fn open(golden: &Golden) -> (Arc<dyn TensorSource>, BlipConfig) {
    let weights = golden.weights("model.pth");
    assert_eq!(Layout::of(&weights), Some(Layout::Salesforce));
    let source: Arc<dyn TensorSource> = Layout::Salesforce.import(weights).expect("tied").into();
    let config = BlipConfig::from_state_dict(&source)
        .and_then(|config| config.with_med_config(&golden.text("med_config.json")))
        .and_then(|config| config.with_arguments(&golden.text("config.json")))
        .expect("sizes");
    assert_eq!((config.dialect, config.vision.layer_norm_eps), (BlipDialect::Salesforce, 1e-6));
    assert_eq!((config.tokens.dec, config.tokens.enc), (240, 241));
    (source, config)
}

#[test]
fn captions() {
    let Some(golden) = Golden::open("blip-sf-tiny-caption") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!((config.task, config.dialect.prompt()), (BlipTask::Caption, "a picture of "));
    let captioner = blip.captioner().expect("writes");
    let pass = Pass::traced();
    let tokens = golden.tokens("input_ids", Some("attention_mask"));
    let logits = captioner.forward(&golden.input("image"), &tokens, &pass);
    golden.check_trace(pass, vision_names);
    golden.check("logits", &logits);
    golden.check("loss", &mean(&next_token_losses(&logits, &golden.integers("labels"), LABEL_SMOOTHING)));

    let states = captioner.look(&golden.input("image"), &Pass::eval());
    let prompt = vec![vec![240, 104, 107, 109]; 3];
    for (i, recorded) in golden.meta()["generation"].as_array().expect("settings").iter().enumerate() {
        let config = by_rules_of_4(config_of(&recorded["settings"]));
        writes(&golden, captioner.text_decoder, &states, &prompt, &format!("generate.{i}"), &config);
    }
    nucleus(&golden);
    golden.finish(&[]);
}

fn by_rules_of_4(config: GenerationConfig) -> GenerationConfig {
    GenerationConfig { beam_rules: BeamRules::Transformers4, ..config }
}

/// One step of nucleus sampling, as the original program sets it up.
fn nucleus(golden: &Golden) {
    let config = GenerationConfig {
        do_sample: true,
        top_p: 0.9,
        repetition_penalty: 1.1,
        min_length: 10,
        eos_token_ids: vec![102],
        ..GenerationConfig::default()
    };
    let chain = [config.processors(4), config.warpers()].concat();
    let (ids, logits) = (golden.expected_integers("nucleus.ids_in"), golden.expected("nucleus.logits_in"));
    let [rows, vocabulary] = logits.dims();
    let mut scores = logits.to_vec();
    for (ids, scores) in ids.chunks_exact(ids.len() / rows).zip(scores.chunks_exact_mut(vocabulary)) {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        chain.iter().for_each(|processor| processor.apply(&ids, scores));
    }
    golden.check("nucleus.probabilities", &ops::softmax(&Tensor::new(&scores, &[rows, vocabulary])));
}

#[test]
fn matches() {
    let Some(golden) = Golden::open("blip-sf-tiny-itm") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!((config.task, config.grounded_start()), (BlipTask::Retrieval, 241));
    let matcher = blip.matcher().expect("matches");
    let (pixel_values, pass, eval) = (golden.input("image"), Pass::traced(), Pass::eval());
    let image = matcher.encoders.image(&pixel_values, &pass);
    golden.check_trace(pass, vision_names);
    let images = EncoderStates::new(image.clone());
    let tokens = golden.tokens("input_ids", Some("attention_mask"));
    let pass = Pass::traced();
    let logits = matcher.itm_logits(&tokens, &images, &pass);
    golden.check_trace(pass, |name| format!("itm.{name}"));
    golden.check("itm_logits", &logits);
    golden.check("itm_probabilities", &ops::softmax(&logits));
    let pass = Pass::traced();
    let image = matcher.contrast.embed_image(&image, &pass);
    golden.check("itc_cosine", &ops::matmul_nt(&image, &matcher.embed_text(&tokens, &pass)));
    golden.check_trace(pass, |name| format!("itc.{name}"));
    let encoded = tokens.starting_with(config.grounded_start());
    golden.check("itm_logits_enc", &matcher.itm_logits(&encoded, &images, &eval));

    let (resized, _) = load(&golden, Some(50));
    let positions = resized.parameters().get("vision_model.embeddings.position_embedding").expect("there");
    golden.check("resized.pos_embed", &positions.param.value());
    let tokens = resized.vision_model().tokens(&golden.input("image_resized"), &eval);
    golden.check("resized.vision.tokens", &tokens);
    golden.finish(&[]);
}

#[test]
fn answers() {
    let Some(golden) = Golden::open("blip-sf-tiny-vqa") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!((config.task, config.grounded_start()), (BlipTask::Vqa, 241));
    let answerer = blip.answerer().expect("answers");
    let (pixel_values, pass) = (golden.input("image"), Pass::traced());
    let questions = golden.tokens("question_ids", Some("question_mask"));
    let images = EncoderStates::new(answerer.vision_model.tokens(&pixel_values, &pass));
    golden.check("question_states", &answerer.read(&questions, &images, &pass));
    golden.check_trace(pass, |name| vision_names(&name.replace("encoder.", "question.")));

    let asked = answerer.ask_masked(&pixel_values, &questions, &Pass::eval());
    let candidates = golden.tokens("candidate_ids", Some("candidate_mask"));
    let probabilities = answerer.text_decoder.first_token_probabilities(&asked, &candidates);
    golden.check("rank.first_token_probability", &Tensor::new(&probabilities, &[3, 16]));
    ranks(&golden, &answerer.text_decoder.rank(&asked, &candidates, 6, RankRules::Blip));
    golden.check("train.loss", &training_loss(&golden, &answerer, &asked));
    let states = answerer.ask(&pixel_values, &questions, &Pass::eval());
    let config = by_rules_of_4(config_of(&golden.meta()["generation"]));
    writes(&golden, answerer.text_decoder, &states, &vec![vec![240]; 3], "generate", &config);
    golden.finish(&[]);
}

/// Candidates whose first tokens are the same are in an order of their own.
fn ranks(golden: &Golden, rankings: &[Ranking]) {
    let recorded = golden.expected_integers("rank.topk_ids");
    let expected = golden.expected("rank.scores").to_vec();
    let best = golden.expected_integers("rank.best");
    for (question, ranking) in rankings.iter().enumerate() {
        assert_eq!(ranking.candidates.len(), 6);
        let score = |candidate: i64| {
            let at = ranking.candidates.iter().position(|&ours| ours as i64 == candidate);
            at.map(|at| ranking.scores[at])
        };
        for i in question * 6..question * 6 + 6 {
            let got = score(recorded[i]).unwrap_or_else(|| panic!("{recorded:?} {ranking:?}"));
            let off = (got - expected[i]).abs();
            assert!(off <= 3e-5 + 1e-4 * expected[i].abs(), "{got} {}", expected[i]);
        }
        assert_eq!(ranking.best().map(|best| best as i64), Some(best[question]));
    }
}

fn training_loss(
    golden: &Golden,
    answerer: &tuwen_models::blip::Answerer<'_>,
    questions: &EncoderStates,
) -> Tensor {
    let counts = golden.integers("train_n");
    let of_answer: Vec<u32> =
        counts.iter().zip(0..).flat_map(|(&count, question)| vec![question; count as usize]).collect();
    let answers = golden.tokens("train_answer_ids", Some("train_answer_mask"));
    let logits = answerer.text_decoder.forward(&answers, &questions.select(&of_answer), &Pass::eval());
    let labels: Vec<i64> = answers.ids.iter().map(|&id| if id == 0 { -100 } else { i64::from(id) }).collect();
    let losses = next_token_losses(&logits, &labels, LABEL_SMOOTHING);
    let weights = golden.input("train_weights").to_vec();
    let weighted =
        losses.iter().zip(weights).map(|(losses, weight)| losses.iter().sum::<f64>() * f64::from(weight));
    Tensor::new(&[(weighted.sum::<f64>() / counts.len() as f64) as f32], &[])
}

#[test]
fn features() {
    let Some(golden) = Golden::open("blip-sf-tiny-feature") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!(config.task, BlipTask::Features);
    let (encoders, pass) = (blip.encoders().expect("two encoders"), Pass::eval());
    let image = encoders.image(&golden.input("image"), &pass);
    golden.check("image", &image);
    let tokens = golden.tokens("input_ids", Some("attention_mask"));
    golden.check("text", &encoders.text(&tokens, &pass));
    let tokens = tokens.starting_with(config.tokens.enc);
    golden.check("multimodal", &encoders.multimodal(&tokens, &EncoderStates::new(image), &pass));
    golden.finish(&[]);
}

#[test]
fn two_images() {
    let Some(golden) = Golden::open("blip-sf-nlvr-tiny") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!(config.task, BlipTask::Nlvr);
    let pass = Pass::traced();
    let sentences = golden.tokens("input_ids", Some("attention_mask"));
    let nlvr = blip.nlvr().expect("judges");
    let prediction = nlvr.forward(&golden.input("image"), &sentences, &pass);
    golden.check_trace(pass, |name| name.replace("encoder.", "text."));
    golden.check("prediction", &prediction);
    let targets: Vec<u32> = golden.integers("targets").into_iter().map(|target| target as u32).collect();
    golden.check("loss", &ops::cross_entropy(&prediction, Targets::Classes(&targets)));

    let (source, config) = open(&golden);
    let blip = Blip::new(&config, Scope::load_trainable(source)).expect("loads");
    let nlvr = blip.nlvr().expect("judges");
    let prediction = nlvr.forward(&golden.input("image"), &sentences, &Pass::train());
    let mut gradients = ops::cross_entropy(&prediction, Targets::Classes(&targets)).backward();
    let reference = Layout::Salesforce.import(golden.file("grads.safetensors")).expect("nothing is tied");
    for name in reference.names() {
        let entry = blip.parameters().get(&name).expect(&name);
        let gradient = gradients.take(&entry.param.value()).expect(&name).to_vec();
        let expected = reference.read(&name).expect("a gradient").to_f32().to_vec();
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (got, expected) in gradient.iter().zip(expected) {
            assert!(
                (got - expected).abs() <= 3e-6 + 3e-4 * largest,
                "{name}: got {got}, expected {expected}"
            );
        }
    }
    golden.finish(&[]);
}

/// Embeddings, and matching with the recorded negatives; the same in pre-training and in fine-tuning for retrieval.
fn matching_of_training(golden: &Golden, blip: &Blip, config: &BlipConfig) {
    let (matcher, pass) = (blip.matcher().expect("matches"), Pass::traced());
    let image = matcher.encoders.image(&golden.input("image"), &pass);
    let tokens = golden.tokens("input_ids", Some("attention_mask"));
    matcher.contrast.embed_image(&image, &pass);
    matcher.embed_text(&tokens, &pass);
    golden.check_trace(pass, str::to_owned);

    let rows = |name: &str| golden.integers(name).into_iter().map(|row| row as u32).collect::<Vec<_>>();
    let (negative_images, negative_texts) = (rows("neg_image_for_text"), rows("neg_text_for_image"));
    let all: Vec<u32> = (0..4).collect();
    let images = [&all[..], &negative_images, &all].concat();
    let texts = [&all[..], &all, &negative_texts].concat();
    let tokens = crate::support::select(&tokens, &texts).starting_with(config.tokens.enc);
    let logits = matcher.itm_logits(&tokens, &EncoderStates::new(image).select(&images), &Pass::eval());
    golden.check("itm_logits", &logits);
    let targets: Vec<u32> = (0..12).map(|row| u32::from(row < 4)).collect();
    golden.check("loss_itm", &ops::cross_entropy(&logits, Targets::Classes(&targets)));
}

/// What needs momentum copies and queues, which belong to training.
const OF_TRAINING: [&str; 5] = ["loss_ita", "text_proj_m.", "vision_proj_m.", "weights_i2t", "weights_t2i"];

#[test]
fn pre_training() {
    let Some(golden) = Golden::open("blip-sf-pretrain-tiny") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!((config.task, config.text.vocab_size), (BlipTask::Pretrain, 242));
    matching_of_training(&golden, &blip, &config);
    let captioner = blip.captioner().expect("writes");
    let captions = golden.tokens("input_ids", Some("attention_mask")).starting_with(config.tokens.dec);
    let logits = captioner.forward(&golden.input("image"), &captions, &Pass::eval());
    golden.check("lm_logits", &logits);
    let labels: Vec<i64> =
        captions.ids.iter().map(|&id| if id == 0 { -100 } else { i64::from(id) }).collect();
    golden.check("loss_lm", &mean(&next_token_losses(&logits, &labels, LABEL_SMOOTHING)));
    golden.finish(&OF_TRAINING);
}

#[test]
fn retrieval() {
    let Some(golden) = Golden::open("blip-sf-retrieval-tiny") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!((config.task, config.temperature), (BlipTask::Retrieval, true));
    matching_of_training(&golden, &blip, &config);
    golden.finish(&OF_TRAINING);
}

#[test]
fn what_is_written_back_is_what_was_read() {
    for name in ["caption", "itm", "vqa", "feature"]
        .map(|task| format!("blip-sf-tiny-{task}"))
        .into_iter()
        .chain(["pretrain", "retrieval", "nlvr"].map(|task| format!("blip-sf-{task}-tiny")))
    {
        let Some(golden) = Golden::open(&name) else { continue };
        let (source, config) = open(&golden);
        let blip = Blip::new(&config, Scope::load(source)).expect("loads");
        let theirs = golden.weights("model.pth");
        crate::support::assert_same_weights(&name, &theirs, &Layout::Salesforce.export(blip.parameters()));
        // By way of transformers' names, where it has such a class.
        let hugging_face = Layout::HuggingFace.export(blip.parameters());
        let back = Layout::HuggingFace.import(hugging_face).expect("tied");
        crate::support::assert_same_weights(&name, &theirs, &Layout::Salesforce.export(back));
    }
}
