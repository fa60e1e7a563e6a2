//! Batches: the same whatever the threads, the same after a pause, and not stopped by a broken image.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

mod common;

use std::collections::BTreeSet;

use common::png;
use tuwen_data::augment::{Augment, ColorJitter, RandomErasing, RandomResizedCrop};
use tuwen_data::dataset::{DataError, Dataset, DatasetSpec, Sample, open};
use tuwen_data::loader::{Batch, Loader, LoaderOptions};

/// Samples made up from their number; those for which `broken` holds are no images.
struct MadeUp {
    name: &'static str,
    len: usize,
    broken: fn(usize) -> bool,
}

impl Dataset for MadeUp {
    fn len(&self) -> usize {
        self.len
    }

    fn name(&self) -> &str {
        self.name
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let image = if (self.broken)(index) { b"no image".to_vec() } else { png(20, 12, index as u8) };
        let texts = (0..3).map(|text| format!("text {text} of {index}")).collect();
        let key = format!("{}/{index}", self.name);
        Ok(Sample { key, image, texts, label: Some(index as i64), ..Sample::default() })
    }
}

fn made_up(name: &'static str, len: usize, broken: fn(usize) -> bool) -> Box<dyn Dataset> {
    Box::new(MadeUp { name, len, broken })
}

fn options() -> LoaderOptions {
    let augment = Augment {
        random_resized_crop: Some(RandomResizedCrop { scale: [0.3, 1.0], ..RandomResizedCrop::default() }),
        horizontal_flip: 0.5,
        translate: 0.1,
        color_jitter: Some(ColorJitter { brightness: 0.3, hue: 0.1, ..ColorJitter::default() }),
        grayscale: 0.2,
        random_erasing: Some(RandomErasing::default()),
        word_dropout: 0.2,
        ..Augment::default()
    };
    LoaderOptions { batch_size: 8, seed: 3, image_size: 8, augment, ..LoaderOptions::default() }
}

fn mixture(options: LoaderOptions) -> Loader {
    let datasets = vec![
        (made_up("first", 30, |_| false), 1.0),
        (made_up("second", 20, |index| index % 5 == 1), 1.0),
        (made_up("third", 10, |_| false), 2.5),
    ];
    Loader::new(datasets, options).unwrap()
}

/// Two epochs.
fn two_epochs(loader: &Loader) -> Vec<Batch> {
    loader.stream(0, 0).take(2 * loader.batches_per_epoch() as usize).map(Result::unwrap).collect()
}

#[test]
fn batches_do_not_depend_on_threads_prefetch_or_cache() {
    let expected = two_epochs(&mixture(LoaderOptions { threads: 0, ..options() }));
    assert_eq!(expected.len(), 18);
    assert_eq!(expected[0].pixel_values.len(), 8 * 3 * 8 * 8);
    assert!(expected.iter().flat_map(|batch| &batch.pixel_values).all(|value| value.is_finite()));
    for (threads, prefetch, cache_bytes) in [(1, 0, 0), (3, 1, 0), (3, 7, 20_000), (2, 2, 1 << 20)] {
        let loader = mixture(LoaderOptions { threads, prefetch, cache_bytes, ..options() });
        assert_eq!(two_epochs(&loader), expected, "{threads} threads");
        let broken: Vec<usize> = loader.failures().iter().map(|failure| failure.index).collect();
        assert_eq!(broken, [1, 6, 11, 16]);
    }
    let other_seed = two_epochs(&mixture(LoaderOptions { seed: 4, ..options() }));
    assert!(other_seed.iter().zip(&expected).all(|(other, batch)| other.keys != batch.keys));
    assert!(expected[..9].iter().zip(&expected[9..]).all(|(first, second)| first.keys != second.keys));
}

#[test]
fn a_run_continues_where_it_stopped() {
    let uninterrupted = two_epochs(&mixture(LoaderOptions { threads: 2, ..options() }));
    for (epoch, first) in [(0, 0), (0, 5), (0, 8), (1, 0), (1, 3)] {
        let loader = mixture(LoaderOptions { threads: 3, ..options() });
        let skipped = (epoch * 9 + first) as usize;
        let rest: Vec<Batch> = loader.stream(epoch, first).take(18 - skipped).map(Result::unwrap).collect();
        assert_eq!(rest, uninterrupted[skipped..]);
        let one_epoch: Vec<Batch> = loader.epoch(epoch, first).map(Result::unwrap).collect();
        assert_eq!(one_epoch, uninterrupted[skipped..(epoch as usize + 1) * 9]);
        assert_eq!(loader.batch_at(epoch, first).unwrap(), uninterrupted[skipped]);
    }
    assert_eq!(mixture(options()).epoch(0, 9).count(), 0);
    assert!(mixture(options()).batch_at(0, 9).is_err());
}

#[test]
fn an_epoch_visits_each_sample_as_often_as_its_weight_says() {
    let loader = mixture(LoaderOptions { drop_last: false, batch_size: 7, threads: 2, ..options() });
    assert_eq!(loader.samples_per_epoch(), 75);
    let shares: Vec<_> = loader.shares().into_iter().map(|share| (share.samples, share.per_epoch)).collect();
    assert_eq!(shares, [(30, 30), (20, 20), (10, 25)]);
    let mut extra = BTreeSet::new();
    for epoch in 0..4 {
        let mut visits = [0; 60];
        for batch in loader.epoch(epoch, 0) {
            let batch = batch.unwrap();
            assert_eq!((batch.texts.len(), batch.labels.len()), (batch.keys.len(), batch.keys.len()));
            batch.indices.iter().for_each(|&index| visits[index] += 1);
        }
        assert!(visits[..30].iter().all(|&count| count == 1));
        // The sample after a broken one is there twice, the broken one never.
        assert!((30..50).all(|index| visits[index] == [1, 0, 2, 1, 1][index % 5]), "{visits:?}");
        assert!(visits[50..].iter().all(|&count| count == 2 || count == 3));
        assert_eq!(visits[50..].iter().sum::<usize>(), 25);
        extra.insert(visits[50..].to_vec());
    }
    assert!(extra.len() > 1, "the half that comes a third time changes");
}

#[test]
fn keys_texts_and_labels_belong_together() {
    let loader = Loader::new(
        vec![(made_up("only", 24, |_| false), 1.0)],
        LoaderOptions { augment: Augment::default(), ..options() },
    )
    .unwrap();
    let mut chosen = BTreeSet::new();
    for batch in (0..5).flat_map(|epoch| loader.epoch(epoch, 0)) {
        let batch = batch.unwrap();
        for (place, &index) in batch.indices.iter().enumerate() {
            assert_eq!(batch.keys[place], format!("only/{index}"));
            assert_eq!(batch.labels[place], Some(index as i64));
            let (text, of) = batch.texts[place].split_once(" of ").unwrap();
            assert_eq!(of, index.to_string());
            chosen.insert(text.to_owned());
        }
    }
    assert_eq!(chosen.len(), 3, "each caption has its turn");
}

#[test]
fn order_is_kept_without_shuffling() {
    let options =
        LoaderOptions { shuffle: false, drop_last: false, augment: Augment::default(), ..options() };
    let loader = Loader::new(
        vec![(made_up("a", 5, |_| false), 1.0), (made_up("b", 6, |_| false), 1.0)],
        LoaderOptions { threads: 3, ..options },
    )
    .unwrap();
    let indices: Vec<usize> = loader.epoch(0, 0).flat_map(|batch| batch.unwrap().indices).collect();
    assert_eq!(indices, (0..11).collect::<Vec<_>>());
}

#[test]
fn a_data_set_without_any_use_is_an_error() {
    for threads in [0, 2] {
        let datasets = vec![(made_up("good", 20, |_| false), 1.0), (made_up("bad", 20, |_| true), 1.0)];
        let loader = Loader::new(datasets, LoaderOptions { threads, ..options() }).unwrap();
        let error = loader.epoch(0, 0).find_map(Result::err).unwrap();
        let message = error.to_string();
        assert!(message.starts_with("bad: 20 samples in a row") && message.contains("bad/"), "{message}");
        assert_eq!(loader.failure_count(), 20);
    }
}

#[test]
fn samples_need_a_text_unless_told_otherwise() {
    struct Silent;
    impl Dataset for Silent {
        fn len(&self) -> usize {
            9
        }
        fn name(&self) -> &str {
            "silent"
        }
        fn get(&self, index: usize) -> Result<Sample, DataError> {
            Ok(Sample { image: png(4, 4, index as u8), ..Sample::default() })
        }
    }
    let loader = |require_text| {
        Loader::new(vec![(Box::new(Silent), 1.0)], LoaderOptions { require_text, ..options() }).unwrap()
    };
    assert!(loader(true).batch_at(0, 0).unwrap_err().to_string().contains("has no text"));
    assert!(loader(false).batch_at(0, 0).unwrap().texts.iter().all(String::is_empty));
}

#[test]
fn extreme_shapes_and_panics_are_failures() {
    struct Odd;
    impl Dataset for Odd {
        fn len(&self) -> usize {
            10
        }
        fn name(&self) -> &str {
            "odd"
        }
        fn get(&self, index: usize) -> Result<Sample, DataError> {
            assert_ne!(index, 4, "made to panic");
            let image = if index == 7 { png(1, 500, 0) } else { png(1, 5, 0) };
            Ok(Sample { image, texts: vec!["text".into()], ..Sample::default() })
        }
    }
    let loader =
        Loader::new(vec![(Box::new(Odd), 1.0)], LoaderOptions { batch_size: 10, ..options() }).unwrap();
    assert_eq!(loader.epoch(0, 0).map(Result::unwrap).count(), 1);
    let failures = loader.failures();
    let summary: Vec<_> = failures.iter().map(|failure| (failure.index, failure.reason.as_str())).collect();
    assert_eq!(summary[0], (4, "the decoder panicked: this is a bug"));
    assert!(summary[1].0 == 7 && summary[1].1.contains("1 x 500"), "{summary:?}");
    assert_eq!(summary.len(), 2);
}

#[test]
fn shrunk_images_do_not_depend_on_the_cache() {
    let run = |cache_bytes| {
        let options = LoaderOptions { cache_side: Some(6), cache_bytes, threads: 2, ..options() };
        two_epochs(&mixture(options))
    };
    let shrunk = run(0);
    assert_eq!(shrunk, run(9_000));
    assert_ne!(shrunk, two_epochs(&mixture(options())));
}

#[test]
fn options_are_checked() {
    let make = |weight, options| Loader::new(vec![(made_up("x", 10, |_| false), weight)], options).err();
    assert!(make(1.0, options()).is_none());
    assert!(make(-1.0, options()).is_some());
    assert!(make(0.5, options()).is_some(), "no full batch");
    assert!(make(0.01, LoaderOptions { drop_last: false, ..options() }).is_some(), "no sample");
    assert!(make(0.5, LoaderOptions { drop_last: false, ..options() }).is_none());
    assert!(make(1.0, LoaderOptions { batch_size: 0, ..options() }).is_some());
    assert!(make(1.0, LoaderOptions { std: [0.0, 1.0, 1.0], ..options() }).is_some());
    assert!(Loader::new(Vec::new(), options()).is_err());
    drop(mixture(LoaderOptions { threads: 3, ..options() }).stream(0, 0));
}

/// The real data beside the workspace.
fn real(path: &str) -> Option<DatasetSpec> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(DatasetSpec::new(path))
}

#[test]
fn real_data_sets_open() {
    for (path, len, texts, class_name) in [
        ("flickr8k/flickr8k-dev.tar", 1000, 5, false),
        ("classification/cifar10-test.parquet", 2000, 0, true),
        ("classification/fashion-mnist-train.parquet", 2000, 0, true),
        ("classification/imagenet1k-one-each.tar", 800, 0, true),
        ("classification/dtd10.tar", 960, 0, true),
        ("vqa/daquar-test.tar", 522, 0, false),
        ("vqa/easy-vqa-test.parquet", 300, 0, false),
    ] {
        let Some(spec) = real(path) else { continue };
        let dataset = open(&spec).unwrap();
        assert_eq!(dataset.len(), len, "{path}");
        let keys: BTreeSet<String> = (0..len)
            .map(|index| {
                let sample = dataset.get(index).unwrap();
                assert!(sample.image.len() > 100, "{path} {index}");
                assert_eq!(sample.texts.len(), texts, "{path} {index}");
                assert_eq!((sample.class_name.is_some(), sample.label.is_some()), (class_name, class_name));
                sample.key
            })
            .collect();
        assert_eq!(keys.len(), len, "{path}");
    }
}

#[test]
fn real_data_sets_mix() {
    let (Some(flickr), Some(mut cifar)) =
        (real("flickr8k/flickr8k-dev.tar"), real("classification/cifar10-test.parquet"))
    else {
        return;
    };
    cifar.caption_templates = vec!["a photo of a {}.".into(), "a blurry picture of a {}.".into()];
    cifar.weight = 0.1;
    cifar.limit = Some(1000);
    let options = LoaderOptions { batch_size: 100, image_size: 32, threads: 2, ..options() };
    let loader = Loader::open(&[flickr, cifar], options).unwrap();
    assert_eq!((loader.samples_per_epoch(), loader.batches_per_epoch()), (1100, 11));
    let batches: Vec<Batch> = loader.epoch(0, 0).map(Result::unwrap).collect();
    let from_cifar = batches.iter().flat_map(|batch| &batch.indices).filter(|&&index| index >= 1000).count();
    assert_eq!(from_cifar, 100);
    assert_eq!(loader.failures(), []);
}
