//! What a decoder writes, compared with what the original programs wrote.

use serde_json::Value;
use tuwen_models::bert::{BertDecoder, BertSequences, EncoderStates};
use tuwen_models::generate::{GenerationConfig, Silent, Start, generate};

use crate::support::Golden;

const PAD: i64 = 0;
const SEP: u32 = 102;

/// Recorded settings.
pub fn config_of(settings: &Value) -> GenerationConfig {
    let number = |name: &str| settings[name].as_u64().map(|number| number as usize);
    GenerationConfig {
        num_beams: number("num_beams").expect("beams"),
        max_length: number("max_length"),
        min_length: number("min_length").unwrap_or(0),
        repetition_penalty: settings["repetition_penalty"].as_f64().unwrap_or(1.0) as f32,
        eos_token_ids: vec![SEP],
        ..GenerationConfig::default()
    }
}

/// Compares what is written, together and one by one, with the recorded ids and, of beams, their scores.
pub fn writes(
    golden: &Golden,
    decoder: &BertDecoder,
    states: &EncoderStates,
    prompts: &[Vec<u32>],
    name: &str,
    config: &GenerationConfig,
) {
    let (mut expected, name) = (golden.expected_integers(&format!("{name}.ids")), format!("{name}.ids"));
    let what = format!("{}: {name}", golden.name);
    let starts: Vec<Start> =
        prompts.iter().map(|prompt| Start { prompt: prompt.clone(), stream: 0 }).collect();
    let run = |states: &EncoderStates, starts: &[Start]| {
        generate(&mut BertSequences::new(decoder, states), starts, config, &mut Silent).expect("writes")
    };
    let texts = run(states, &starts);
    let length = expected.len() / texts.len();
    for ((expected, prompt), texts) in expected.chunks_exact_mut(length).zip(prompts).zip(&texts) {
        // Behind the end stands what fills rows: padding, or once more the end.
        let end = expected.iter().position(|&id| id == i64::from(SEP)).map_or(length, |end| end + 1);
        assert!(expected[end..].iter().all(|id| [PAD, i64::from(SEP)].contains(id)), "{what}");
        let got: Vec<i64> = prompt.iter().chain(&texts[0].ids).map(|&id| i64::from(id)).collect();
        assert_eq!(got, expected[..end], "{what}");
    }
    for (i, together) in texts.iter().enumerate() {
        let alone = run(&states.select(&[i as u32]), &starts[i..=i]);
        assert_eq!(alone[0][0].ids, together[0].ids, "{what} alone");
    }
    if config.num_beams > 1 {
        let scores = golden.expected(&name.replace(".ids", ".scores")).to_vec();
        for (text, score) in texts.iter().zip(scores) {
            let off = (text[0].score - score).abs();
            assert!(off <= 1e-4, "{what}: score {}, expected {score}", text[0].score);
        }
    }
}
