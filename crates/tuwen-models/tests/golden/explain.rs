//! Grad-CAM of cross-attention, as transformers' network and automatic differentiation give it: probabilities and their
//! gradients by the logit of a match, taken where `crossattention.self.dropout` passes them on.

use std::sync::Arc;

use tuwen_models::bert::EncoderStates;
use tuwen_models::blip::weights::Layout;
use tuwen_models::blip::{Blip, BlipConfig, BlipTask};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::checkpoint::TensorSource;
use tuwen_tensor::{Tensor, ops};

use crate::support::Golden;

/// Row of the case, token, and what was found for the class token and the nine patches.
#[rustfmt::skip]
const FOUND: [(u32, usize, [f32; 10]); 4] = [
    (0, 0, [0.007_138_58, 0.005_261_02, 0.006_766_04, 0.001_026_9, 0.003_609_39, 0.004_489_59, 0.003_509_83,
            0.004_678_22, 0.004_208_1, 0.007_323_56]),
    (0, 3, [0.001_311_47, 0.000_966_188, 0.000_921_947, 0.001_287_19, 0.001_485_5, 0.001_671_25, 0.001_825_41,
            0.001_108_98, 0.001_638_7, 0.001_136_34]),
    (1, 1, [0.000_232_255, 0.0, 5.233_45e-5, 3.234_45e-5, 0.0, 9.026_71e-5, 0.0, 5.790_04e-6, 0.000_141_797,
            0.000_413_592]),
    (2, 3, [0.000_417_737, 0.003_686_38, 0.001_943_23, 0.000_441_131, 0.001_339_19, 0.001_090_84, 0.001_942_38,
            0.001_500_78, 0.003_013_58, 0.001_895_83]),
];

#[test]
fn words_look_where_the_reference_says() {
    let Some(golden) = Golden::open("blip-hf-tiny-itm") else { return };
    let source: Arc<dyn TensorSource> =
        Layout::HuggingFace.import(golden.weights("model.safetensors")).expect("tied").into();
    let config = BlipConfig::from_hf_json(&golden.text("config.json"), BlipTask::Retrieval).expect("sizes");
    let blip = Blip::new(&config, Scope::load(source)).expect("loads");
    let matcher = blip.matcher().expect("matches");
    let states = matcher.encoders.image(&golden.input("pixel_values"), &Pass::eval());
    let tokens = golden.tokens("input_ids", Some("attention_mask"));
    for (row, token, found) in FOUND {
        let image = EncoderStates::new(ops::narrow(&states, 0, row as usize, 1));
        let of_match = |states: &Tensor| ops::sum(&ops::narrow(&matcher.itm_of_states(states), 1, 1, 1));
        let map = matcher.encoders.text_encoder.grad_cam(0, &tokens.select(&[row]), &image, of_match);
        let map = map.expect("each layer looks at the image");
        assert_eq!(map.shape(), [10, 10]);
        for (got, found) in map.to_vec()[token * 10..][..10].iter().zip(found) {
            assert!((got - found).abs() < 2e-8 + 1e-4 * found, "{row} {token}: {got} and {found}");
        }
    }
    // After the last layer only the first token counts, and there is no layer behind.
    let image = EncoderStates::new(ops::narrow(&states, 0, 0, 1));
    let encoder = matcher.encoders.text_encoder;
    let score = |states: &Tensor| ops::sum(&matcher.itm_of_states(states));
    let last = encoder.grad_cam(1, &tokens.select(&[0]), &image, score).expect("it looks").to_vec();
    assert!(last[..10].iter().any(|&value| value > 0.0) && last[10..].iter().all(|&value| value == 0.0));
    assert!(encoder.grad_cam(2, &tokens.select(&[0]), &image, score).is_none());
    assert_eq!(encoder.explained_layer(), 0);
}
