//! Shards in a store are the same data as shards on this machine, also where the store fails now and then.
#![cfg(feature = "remote")]
#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

mod common;
mod store;

use std::path::Path;

use common::png;
use store::Store;
use tuwen_data::augment::Augment;
use tuwen_data::dataset::{Access, Dataset, DatasetSpec, Sample, open};
use tuwen_data::loader::{Batch, Loader, LoaderOptions};

/// Two tar files of twenty samples each, as bytes by name.
fn shards() -> Vec<(String, Vec<u8>)> {
    let shard = |shard: u8| {
        let mut builder = tar::Builder::new(Vec::new());
        for number in 0..20 {
            let image = png(30, 20 + u32::from(number), shard * 20 + number);
            let text = format!("picture {number} of {shard}");
            for (suffix, bytes) in [("png", image.as_slice()), ("txt", text.as_bytes())] {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, format!("{shard}-{number}.{suffix}"), bytes).unwrap();
            }
        }
        (format!("train-{shard}.tar"), builder.into_inner().unwrap())
    };
    vec![shard(0), shard(1)]
}

fn spec(path: impl AsRef<Path>, cache_dir: Option<&Path>) -> DatasetSpec {
    let access = Access { cache_dir: cache_dir.map(Path::to_owned), ..Access::default() };
    DatasetSpec { access, ..DatasetSpec::new(path.as_ref()) }
}

fn samples(dataset: &dyn Dataset) -> Vec<Sample> {
    (0..dataset.len()).map(|index| dataset.get(index).unwrap()).collect()
}

/// The shards on disk.
fn local(folder: &Path) -> DatasetSpec {
    shards().into_iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
    DatasetSpec::new(folder.join("train-{0..1}.tar"))
}

#[test]
fn samples_are_those_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let expected = samples(&*open(&local(folder.path())).unwrap());
    // Each third request fails: refused, cut off in the middle, or not answered at all.
    for failing in [0, 3] {
        let store = Store::new(shards(), failing);
        let dataset = open(&spec(store.url("train-{0..1}.tar"), None)).unwrap();
        assert!(dataset.is_remote());
        assert_eq!(samples(&*dataset), expected, "every {failing}th request fails");
    }
}

#[test]
fn batches_are_those_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(shards(), 5);
    let options = LoaderOptions {
        batch_size: 8,
        image_size: 16,
        augment: Augment { horizontal_flip: 0.5, ..Augment::default() },
        threads: 2,
        ..LoaderOptions::default()
    };
    let batches = |spec: DatasetSpec| -> Vec<Batch> {
        let loader = Loader::open(&[spec], options.clone()).unwrap();
        let batches = loader.epoch(0, 0).map(Result::unwrap).collect();
        assert_eq!(loader.failures(), []);
        batches
    };
    assert_eq!(batches(spec(store.url("train-{0..1}.tar"), None)), batches(local(folder.path())));
}

#[test]
fn an_index_is_kept_until_the_object_changes() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::new(shards(), 0);
    let open = |store: &Store| {
        let before = store.bytes_sent();
        let dataset = open(&spec(store.url("train-{0..1}.tar"), Some(cache.path()))).unwrap();
        (dataset.len(), store.bytes_sent() - before)
    };
    let (len, first) = open(&store);
    let (again, second) = open(&store);
    assert_eq!((len, again), (40, 40));
    // What kind of file it is, is seen from the first bytes of the first shard.
    assert!(second == 512 && first > 10_000, "{first} bytes, then {second}");
    let mut changed = shards();
    changed.swap(0, 1);
    changed[0].0 = "train-0.tar".into();
    changed[1].0 = "train-1.tar".into();
    store.replace(changed, "other");
    let (_, third) = open(&store);
    assert_eq!(third, first, "another version is indexed anew");
    std::fs::read_dir(cache.path().join("shards")).unwrap().for_each(|file| {
        std::fs::write(file.unwrap().path(), "{").unwrap();
    });
    assert_eq!(open(&store), (40, first), "a broken index is made anew");
}

#[test]
fn parquet_files_are_read_in_ranges() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/classification/fashion-mnist-train.parquet");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: no {}", path.display());
        return;
    };
    let length = bytes.len();
    let store = Store::new(vec![("a.parquet".into(), bytes)], 4);
    let (here, there) =
        (open(&DatasetSpec::new(path)).unwrap(), open(&spec(store.url("a.parquet"), None)).unwrap());
    assert!(store.bytes_sent() < length / 2, "only the footer is read to open it");
    assert_eq!(here.len(), there.len());
    for index in [0, 7, 1999] {
        let (here, there) = (here.get(index).unwrap(), there.get(index).unwrap());
        assert_eq!((here.image, here.label, here.class_name), (there.image, there.label, there.class_name));
    }
}

#[test]
fn what_is_not_there_is_one_line() {
    let store = Store::new(shards(), 0);
    let message = |url: String| {
        let message = open(&spec(url, None)).err().unwrap().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    let gone = message(store.url("gone.tar"));
    assert!(gone.starts_with(&store.url("gone.tar")) && gone.contains("not found"), "{gone}");
    assert!(message(store.url("*.tar")).contains("{0000..0003}"));
    let table = Store::new(vec![("a.csv".into(), b"path,text\n".to_vec())], 0);
    assert!(message(table.url("a.csv")).contains("a table in a store"));
    let closed = store.url("train-0.tar");
    drop(store);
    let refused = message(closed.clone());
    assert!(refused.starts_with(&closed), "{refused}");
}

/// Data that disappear while they are read are failures of samples, not of the program.
#[test]
fn a_store_that_goes_away_fails_samples() {
    let store = Store::new(shards(), 0);
    let dataset = open(&spec(store.url("train-0.tar"), None)).unwrap();
    assert!(dataset.get(3).is_ok());
    store.replace(Vec::new(), "none");
    let message = dataset.get(3).unwrap_err().to_string();
    assert!(message.contains("train-0.tar") && message.contains("member 0-3.png"), "{message}");
}
