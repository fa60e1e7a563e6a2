//! BLIP and ALBEF open by what their files are.

#![allow(clippy::print_stderr)] // says what is skipped

#[path = "common/golden.rs"]
mod golden;

use golden::case;
use tuwen::{Error, GroundedConfig, GroundedFiles, GroundedNetwork, Options};
use tuwen_models::albef::AlbefTask;
use tuwen_models::blip::{BlipDialect, BlipTask};

fn open(name: &str, file: &str) -> Option<GroundedFiles> {
    let path = case(name)?.join(file);
    Some(GroundedFiles::open(&path.to_string_lossy(), &Options::default()).expect("opens"))
}

#[test]
fn every_file_is_known_for_what_it_is() {
    use BlipDialect::{HuggingFace, Salesforce};
    for (name, file, dialect, task) in [
        ("blip-hf-tiny-caption", "", HuggingFace, BlipTask::Caption),
        ("blip-hf-tiny-vqa", "", HuggingFace, BlipTask::Vqa),
        ("blip-hf-tiny-itm", "model.safetensors", HuggingFace, BlipTask::Retrieval),
        ("blip-sf-tiny-caption", "model.pth", Salesforce, BlipTask::Caption),
        ("blip-sf-tiny-vqa", "model.pth", Salesforce, BlipTask::Vqa),
        ("blip-sf-tiny-itm", "model.pth", Salesforce, BlipTask::Retrieval),
        ("blip-sf-tiny-feature", "model.pth", Salesforce, BlipTask::Features),
        ("blip-sf-nlvr-tiny", "model.pth", Salesforce, BlipTask::Nlvr),
        ("blip-sf-pretrain-tiny", "model.pth", Salesforce, BlipTask::Pretrain),
        ("blip-sf-retrieval-tiny", "model.pth", Salesforce, BlipTask::Retrieval),
    ] {
        let Some(files) = open(name, file) else { continue };
        let GroundedConfig::Blip(config) = &files.config else { panic!("{name} is no ALBEF") };
        assert_eq!((config.dialect, config.task), (dialect, task), "{name}");
        let tokenizer = files.tokenizer.as_ref().map(|tokenizer| tokenizer.vocab_size());
        assert_eq!(tokenizer, (dialect == Salesforce).then_some(242), "{name}");
        let GroundedNetwork::Blip(blip) = files.load().expect(name) else { panic!("{name} is no ALBEF") };
        assert_eq!(blip.captioner().is_some(), matches!(task, BlipTask::Caption | BlipTask::Pretrain));
        files.check().expect(name);
    }
    for (name, task) in
        [("albef-sf-pretrain-tiny", AlbefTask::Pretrain), ("albef-sf-retrieval-tiny", AlbefTask::Retrieval)]
    {
        let Some(files) = open(name, "model.pth") else { continue };
        let GroundedConfig::Albef(config) = &files.config else { panic!("{name} is an ALBEF") };
        assert_eq!((config.task, config.vision.num_attention_heads), (task, 2), "{name}");
        assert_eq!(files.tokenizer.as_ref().map(|tokenizer| tokenizer.vocab_size()), Some(240));
        assert!(matches!(files.load().expect(name), GroundedNetwork::Albef(_)));
    }
}

#[test]
fn another_image_size_is_taken() {
    let Some(folder) = case("blip-sf-tiny-itm") else { return };
    let model = folder.join("model.pth");
    let open = |size| {
        let options = Options { image_size: Some(size), ..Options::default() };
        GroundedFiles::open(&model.to_string_lossy(), &options)
    };
    let files = open(50).expect("opens");
    assert_eq!(files.config.vision().image_size, 50);
    assert_eq!(files.processor.transform.output_size().map(|size| (size.height, size.width)), Some((50, 50)));
    files.load().expect("fits");
    for size in [45, 0, 1 << 20] {
        assert!(matches!(open(size), Err(Error::Resize { .. })), "{size}");
    }
}

#[test]
fn other_models_are_refused_by_name() {
    let Some(folder) = case("clip-vit-hf-tiny") else { return };
    let error = GroundedFiles::open(&folder.to_string_lossy(), &Options::default()).err().expect("a CLIP");
    assert!(error.to_string().contains("no weights of a BLIP or ALBEF model"), "{error}");
    let Some(folder) = case("blip-hf-tiny-itm") else { return };
    let place = tempfile::tempdir().expect("a directory");
    let copy = place.path().join("model.safetensors");
    std::fs::copy(folder.join("model.safetensors"), &copy).expect("copied");
    let error = GroundedFiles::open(&copy.to_string_lossy(), &Options::default()).err().expect("none beside");
    assert!(error.to_string().contains("no configuration (looked for config.json)"), "{error}");
}
