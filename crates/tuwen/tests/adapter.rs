//! Adapters: what is written is read with the same effect, merged is unmerged, and what does not fit is one line.

#![allow(clippy::print_stderr)] // says what it skips

#[path = "common/golden.rs"]
mod golden;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use golden::case;
use tuwen::{Adapter, ModelFiles, Options, write_adapter};
use tuwen_models::clip::{Clip, ClipConfig, TokenIds};
use tuwen_nn::{LoraConfig, Pass, Scope};
use tuwen_tensor::checkpoint::{RawTensor, TensorSource, open, write_safetensors};
use tuwen_tensor::{Tensor, no_grad};

const CONFIG: &str = r#"{"model_cfg": {"embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 600, "width": 16, "heads": 2, "layers": 1}}}"#;

fn write_base(directory: &Path) {
    let config = ClipConfig::from_open_clip_json(CONFIG).expect("read");
    let clip = Clip::new(&config, Scope::init(1)).expect("nothing is loaded");
    let parameters = clip.parameters();
    let tensor = |name: String| (name.clone(), parameters.read(&name).expect("read").into_owned());
    let tensors = parameters.names().into_iter().map(tensor);
    fs::create_dir_all(directory).expect("created");
    write_safetensors(&directory.join("model.safetensors"), tensors, &BTreeMap::new()).expect("written");
    fs::write(directory.join("open_clip_config.json"), CONFIG).expect("written");
}

/// The base with adapters away from zero, and a projection and a temperature that learnt beside them.
fn adapted(base: &str) -> Clip {
    let files = ModelFiles::open(base, &Options::default()).expect("opened");
    let lora = LoraConfig {
        r: 3,
        lora_alpha: 5.0,
        use_rslora: true,
        target_modules: ["q_proj", "fc1", "vision_model.*.out_proj"].map(str::to_owned).to_vec(),
        modules_to_save: ["visual_projection", "logit_scale"].map(str::to_owned).to_vec(),
    };
    let scope = Scope::load_trainable(files.weights).with_lora(lora, 4);
    let clip = Clip::new(&files.config, scope).expect("fits");
    for (number, entry) in clip.parameters().trainable().enumerate() {
        let shape = entry.param.shape();
        let values = (0..shape.iter().product()).map(|i| ((i + 31 * number) as f32 * 0.7).sin() * 0.4);
        entry.param.assign(&Tensor::new(&values.collect::<Vec<f32>>(), &shape));
    }
    clip
}

fn outputs(clip: &Clip) -> Vec<f32> {
    let values: Vec<f32> = (0..2 * 3 * 16 * 16).map(|i| (i as f32 * 0.37).sin()).collect();
    let tokens = TokenIds { ids: vec![7, 8, 9, 599, 0, 0, 30, 599], length: 4, attention_mask: None };
    no_grad(|| {
        let image = clip.image_features(&Tensor::new(&values, &[2, 3, 16, 16]), &Pass::eval()).to_vec();
        let text = clip.text_features(&tokens, &Pass::eval()).to_vec();
        [image, text, clip.logit_scale().to_vec()].concat()
    })
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |largest, (a, b)| largest.max((a - b).abs()))
}

#[test]
fn what_is_written_is_read_with_the_same_effect() {
    let place = tempfile::tempdir().expect("a directory");
    let [base, adapter] =
        ["base", "adapter"].map(|name| place.path().join(name).to_string_lossy().into_owned());
    write_base(base.as_ref());
    let clip = adapted(&base);
    let expected = outputs(&clip);
    fs::create_dir(&adapter).expect("created");
    write_adapter(adapter.as_ref(), &base, clip.parameters()).expect("written");
    let weights = open(&Path::new(&adapter).join("adapter_model.safetensors")).expect("opened");
    let names = weights.names();
    assert!(names.iter().any(|name| {
        name == "base_model.model.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"
    }));
    // Two factors of: q_proj and fc1 in three layers, out_proj in two; and what was saved whole.
    assert_eq!(names.len(), 2 * (3 + 3 + 2) + 2);

    let options = Options { adapter: Some(adapter.clone()), ..Options::default() };
    let plain = tuwen::load(&base, &Options::default()).expect("loads");
    let merged = tuwen::load(&base, &options).expect("loads");
    let by_its_name = tuwen::load(&adapter, &Options::default()).expect("loads");
    assert!(largest_difference(&outputs(&merged.clip().expect("a CLIP").network), &expected) < 2e-4);
    assert!(
        largest_difference(&outputs(&plain.clip().expect("a CLIP").network), &expected) > 0.05,
        "it has an effect"
    );
    assert_eq!(
        outputs(&by_its_name.clip().expect("a CLIP").network),
        outputs(&merged.clip().expect("a CLIP").network)
    );
    assert_eq!(by_its_name.name(), adapter);

    // Trained further it begins where it ended.
    let opened = Adapter::open(&adapter, &Options::default()).expect("opened");
    let files = ModelFiles::open(&base, &Options::default()).expect("opened");
    let whole = opened.beside(files.weights).expect("fits");
    let scope = Scope::load_trainable(whole).with_loaded_lora(opened.config().clone(), opened.factors());
    let again = Clip::new(&files.config, scope).expect("fits");
    assert!(largest_difference(&outputs(&again), &expected) < 1e-6);
}

#[test]
fn what_does_not_fit_is_one_line() {
    let place = tempfile::tempdir().expect("a directory");
    let [base, adapter] =
        ["base", "adapter"].map(|name| place.path().join(name).to_string_lossy().into_owned());
    write_base(base.as_ref());
    fs::create_dir(&adapter).expect("created");
    write_adapter(adapter.as_ref(), &base, adapted(&base).parameters()).expect("written");
    let directory = Path::new(&adapter);
    let config = directory.join("adapter_config.json");
    let good = fs::read_to_string(&config).expect("read");
    let message = |model: &str, adapter: Option<&str>| {
        let options = Options { adapter: adapter.map(str::to_owned), ..Options::default() };
        let message = tuwen::load(model, &options).err().expect("does not load").to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    for (from, to, expected) in [
        ("\"LORA\"", "\"IA3\"", "peft_type is \"IA3\"; tuwen reads plain LoRA"),
        ("\"use_dora\": false", "\"use_dora\": true", "use_dora is true"),
        ("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": 3}", "alpha_pattern"),
        ("\"r\": 3", "\"r\": \"three\"", "adapter_config.json: invalid type"),
        ("\"r\": 3", "\"rank\": 3", "missing field `r`"),
    ] {
        assert!(good.contains(from), "{good}");
        fs::write(&config, good.replace(from, to)).expect("written");
        let message = message(&base, Some(&adapter));
        assert!(message.contains(expected), "{message}");
    }
    fs::write(&config, good.replace(&base, "/nowhere/base")).expect("written");
    assert!(message(&adapter, None).contains("its base model is not at hand: no model \"/nowhere/base\""));
    fs::write(&config, &good).expect("written");
    assert!(message(&adapter, Some(&adapter)).contains("one at a time"));
    assert!(message(&base, Some("/nowhere")).contains("no model \"/nowhere\""));

    let weights = directory.join("adapter_model.safetensors");
    let tensors = open(&weights).expect("opened");
    let of = |change: &dyn Fn(String, RawTensor<'static>) -> Option<(String, RawTensor<'static>)>| {
        let kept = tensors.names().into_iter();
        let kept =
            kept.filter_map(|name| change(name.clone(), tensors.read(&name).expect("read").into_owned()));
        write_safetensors(&weights, kept.collect::<Vec<_>>(), &BTreeMap::new()).expect("written");
        message(&base, Some(&adapter))
    };
    let q_proj = "text_model.encoder.layers.0.self_attn.q_proj";
    let missing =
        of(&|name, tensor| (!name.ends_with("0.self_attn.q_proj.lora_B.weight")).then_some((name, tensor)));
    assert!(missing.contains("q_proj: needs lora_A [r, in] and lora_B [out, r]"), "{missing}");
    let renamed = of(&|name, tensor| Some((name.replace("text_model", "language_model"), tensor)));
    assert!(renamed.contains("which the model does not have"), "{renamed}");
    let narrow = of(&|name, tensor| match name.contains(q_proj) && name.contains("lora_A") {
        true => Some((name, RawTensor::from_f32(&[3, 2], &[0.0; 6]))),
        false => Some((name, tensor)),
    });
    assert!(narrow.contains("has shape [16, 16] in the model and [16, 2] in the adapter"), "{narrow}");
    fs::remove_file(&weights).expect("removed");
    assert!(message(&base, Some(&adapter)).contains("no adapter_model.safetensors or adapter_model.bin"));
}

/// peft's adapter of a language model: names are understood and the merged matrices are peft's.
#[test]
fn the_reference_adapter_merges_as_in_peft() {
    let (Some(case), Some(llama)) = (case("lora-tiny"), case("llama-tiny")) else { return };
    let adapter = Adapter::open(&case.to_string_lossy(), &Options::default()).expect("opened");
    assert_eq!((adapter.config().r, adapter.config().lora_alpha), (5, 8.0));
    assert_eq!(adapter.config().target_modules.len(), 15, "five in each of three layers");
    assert_eq!(adapter.factors().names().len(), 30);
    let base = open(&llama.join("model.safetensors")).expect("opened");
    let plain = open(&llama.join("model.safetensors")).expect("opened");
    let merged: Arc<dyn TensorSource> = adapter.over(Box::new(base)).expect("fits").into();
    let expected = open(&case.join("expected.safetensors")).expect("opened");
    for name in ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"] {
        let expected = expected.read(&format!("merged.{name}")).expect("there").to_f32();
        let got = merged.read(name).expect("read").to_f32();
        assert!(largest_difference(&got, &expected) < 1e-6, "{name}");
        assert!(largest_difference(&plain.read(name).expect("read").to_f32(), &expected) > 1e-3);
    }
}
