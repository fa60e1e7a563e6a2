//! Locked towers: what is frozen, that it costs no tape, and that the rest learns what it would learn anyway.

use tuwen_models::clip::{Clip, ClipConfig};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::{Tensor, ops};
use tuwen_train::recipe::{Lock, LockedTower};

const VIT: &str = r#"{"embed_dim": 8, "vision_cfg": {"image_size": 16, "layers": 3, "width": 16, "head_width": 8,
    "patch_size": 8}, "text_cfg": {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 2}}"#;
const RESNET: &str = r#"{"embed_dim": 8, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4,
    "head_width": 8}, "text_cfg": {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 2}}"#;

fn clip(config: &str) -> Clip {
    let config = ClipConfig::from_open_clip_json(config).expect("read");
    Clip::new(&config, Scope::init(5)).expect("nothing is loaded")
}

fn lock(clip: &Clip, unlocked_layers: usize) {
    let lock = Lock { vision: Some(LockedTower { unlocked_layers }), text: None };
    lock.apply(clip.parameters()).expect("as many groups");
}

fn features(clip: &Clip, size: usize) -> Tensor {
    let values: Vec<f32> = (0..2 * 3 * size * size).map(|i| (i as f32 * 0.37).sin()).collect();
    clip.image_features(&Tensor::new(&values, &[2, 3, size, size]), &Pass::train())
}

/// Names and gradients of the sum of squared features.
fn gradients(clip: &Clip, size: usize) -> Vec<(String, Vec<f32>)> {
    let features = features(clip, size);
    let mut gradients = ops::sum(&ops::mul(&features, &features)).backward();
    let of_vision = clip.parameters().trainable().filter(|entry| entry.name.starts_with("vis"));
    let mut gradient =
        |entry: &tuwen_nn::Entry| gradients.take(&entry.param.value()).expect("a gradient").to_vec();
    of_vision.map(|entry| (entry.name.clone(), gradient(entry))).collect()
}

#[test]
fn the_groups_above_learn_as_in_an_open_tower_and_those_below_leave_no_tape() {
    let open = clip(VIT);
    let expected = gradients(&open, 16);
    let mut lengths = Vec::new();
    for unlocked in 0..=5 {
        let clip = clip(VIT);
        lock(&clip, unlocked);
        lengths.push(features(&clip, 16).tape_len());
        if unlocked == 0 {
            continue;
        }
        for (name, gradient) in gradients(&clip, 16) {
            let (_, expected) = expected.iter().find(|(known, _)| *known == name).expect("known");
            let largest = expected.iter().fold(0.0_f32, |largest, g| largest.max(g.abs()));
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * largest;
            assert!(gradient.iter().zip(expected).all(close), "{name} with {unlocked} groups");
        }
    }
    // Nothing; the projection alone; the last layer; a layer more each time; the embeddings.
    assert_eq!(lengths[..2], [0, 1]);
    assert!(lengths.is_sorted_by(|below, above| below < above), "{lengths:?}");
    assert_eq!(lengths[4] - lengths[3], 5, "norm, attention, its projection, norm, MLP: {lengths:?}");
    assert_eq!(lengths[5], features(&open, 16).tape_len());
    let trained = |unlocked| {
        let clip = clip(VIT);
        lock(&clip, unlocked);
        clip.parameters().trainable().filter(|entry| entry.name.starts_with("vis")).count()
    };
    // The projection; a layer of 16 with its norm; another layer; another; embeddings and their norm.
    assert_eq!([0, 1, 2, 3, 4, 5].map(trained), [0, 1, 19, 35, 51, 56]);
}

#[test]
fn locked_stages_of_a_resnet_keep_their_statistics() {
    let means = |unlocked| {
        let clip = clip(RESNET);
        lock(&clip, unlocked);
        features(&clip, 32);
        let running = clip.parameters().iter().filter(|entry| entry.name.ends_with(".running_mean"));
        let moved = running.filter(|entry| entry.param.value().to_vec().iter().any(|&mean| mean != 0.0));
        moved.map(|entry| entry.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(means(0), Vec::<String>::new());
    assert_eq!(means(1), Vec::<String>::new(), "the attention pool has none");
    assert!(means(2).iter().all(|name| name.starts_with("vision_model.layer4.")) && !means(2).is_empty());
    assert!(means(6).iter().any(|name| name == "vision_model.bn1.running_mean"));
    let of_pool = clip(RESNET);
    lock(&of_pool, 1);
    assert!(gradients(&of_pool, 32).iter().all(|(name, _)| name.starts_with("vision_model.attnpool.")));
}
