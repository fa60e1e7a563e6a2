//! CapFilt with models that know four colours: what is kept, what is written, and what bad input does.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{
    COLOURS, Eye, job, job_with, picture, run_of, settings, text, tree, write_members, write_source,
    write_tar,
};
use serde_json::Value;
use tuwen_data::dataset::{Dataset, DatasetSpec, open};
use tuwen_jobs::capfilt::{Event, Format, Record, Rule, Settings, TextSource, Watch, run};
use tuwen_jobs::{JobError, Models};

/// A place with `in` and the path of `out`.
fn place() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let (source, target) = (place.path().join("in"), place.path().join("out"));
    write_source(&source);
    (place, source, target)
}

fn records(target: &Path) -> Vec<Record> {
    let mut files: Vec<_> =
        fs::read_dir(target.join("records")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn opened(path: &Path) -> Box<dyn Dataset> {
    open(&DatasetSpec::new(path)).unwrap()
}

#[test]
fn texts_that_fit_are_kept_in_both_formats() {
    for format in [Format::WebDataset, Format::Parquet] {
        let (_place, source, target) = place();
        let eye = Eye::new();
        let summary = job_with(&eye, &source, &target, &settings(format), &mut |_| {}).unwrap();
        assert_eq!(eye.seen.load(Ordering::Relaxed), 57, "each picture is encoded once for both models");
        let tally = &summary.tally;
        // 25, 25 and 7 samples in shards of ten.
        assert_eq!((summary.shards, tally.samples, tally.failed), (7, 57, 0));
        assert_eq!((tally.web.texts, tally.web.kept), (57, 38), "every third text is wrong");
        assert_eq!(tally.synthetic.texts, 57);
        assert!(
            (25..57).contains(&tally.synthetic.kept),
            "the captioner is mistaken now and then: {tally:?}"
        );

        let records = records(&target);
        assert_eq!(records.len(), 57);
        for (number, record) in records.iter().enumerate() {
            let colour = COLOURS[number % 4].0;
            assert_eq!(record.key, format!("{number:09}"));
            assert_eq!(
                (record.texts[0].text.as_str(), record.texts[0].source),
                (&*text(number), TextSource::Web)
            );
            assert!(record.texts.iter().all(|text| text.kept == text.text.contains(colour)));
            assert!(
                record.texts.iter().all(|text| text.kept == (text.itm == Some(0.75)) && text.itc.is_none())
            );
            assert_eq!(record.texts[1].log_probability, Some(-1.5));
        }

        let kept: Vec<&Record> = records.iter().filter(|record| record.kept).collect();
        let cleaned = opened(&target);
        assert_eq!((cleaned.len(), tally.kept), (kept.len(), kept.len() as u64));
        for (index, record) in kept.iter().enumerate() {
            let sample = cleaned.get(index).unwrap();
            assert_eq!((&sample.key, sample.texts), (&record.key, record.kept_texts()));
            assert!(sample.image == picture(record.index + 25 * (record.key.parse::<usize>().unwrap() / 25)));
            let metadata = cleaned.metadata(index).unwrap();
            assert_eq!(metadata["url"], format!("http://x/{}", record.key.parse::<usize>().unwrap()));
            assert_eq!(metadata["capfilt"], serde_json::to_value(&record.texts).unwrap());
        }
    }
}

#[test]
fn captions_follow_from_seed_and_key_alone() {
    let (place, source, target) = place();
    let written = |name: &str, change: fn(&mut Settings)| {
        let mut settings = settings(Format::WebDataset);
        change(&mut settings);
        let target = place.path().join(name);
        job(&source, &target, &settings).unwrap();
        records(&target).into_iter().map(|record| (record.key, record.texts)).collect::<Vec<_>>()
    };
    let first = written("a", |_| {});
    assert_eq!(first, written("b", |settings| (settings.batch_size, settings.shard_size) = (7, 1000)));
    assert_ne!(first, written("c", |settings| settings.seed = 2));
    drop(target);
}

#[test]
fn heads_and_thresholds_decide() {
    let (place, source, _) = place();
    let kept = |name: &str, rule| {
        let target = place.path().join(name);
        let summary = job(&source, &target, &Settings { rule, ..settings(Format::WebDataset) }).unwrap();
        (summary.tally.web.kept, summary.tally.web.itm.len(), summary.tally.web.itc.len())
    };
    assert_eq!(kept("a", Rule { itm: Some(0.75), itc: None }), (38, 40, 0));
    assert_eq!(kept("b", Rule { itm: None, itc: Some(0.25) }), (38, 0, 40));
    assert_eq!(kept("c", Rule { itm: Some(0.5), itc: Some(0.5) }), (0, 40, 40));
    assert!(!place.path().join("c/00000-0000.tar").exists(), "nothing kept, no file");
    let nothing = job(
        &source,
        &place.path().join("d"),
        &Settings { rule: Rule { itm: None, itc: None }, ..settings(Format::WebDataset) },
    );
    assert!(matches!(nothing, Err(JobError::Option { .. })));
}

#[test]
fn filtering_alone_needs_no_captioner_and_models_may_see_differently() {
    let (place, source, _) = place();
    let [eye, other] = [Eye::new(), Eye::new()];
    let filter = Settings { captioner: None, ..settings(Format::WebDataset) };
    let observer = &mut |_: Event<'_>| {};
    let models = Models { captioner: None, filter: &eye, shared: false };
    let paths = common::paths(&source, &place.path().join("filtered"));
    let summary = run_of(&models, &paths, &filter, observer).unwrap();
    assert_eq!((summary.tally.web.kept, summary.tally.synthetic.texts), (38, 0));

    let models = Models { captioner: Some(&other), filter: &eye, shared: false };
    let paths = common::paths(&source, &place.path().join("both"));
    let both = run_of(&models, &paths, &settings(Format::WebDataset), observer).unwrap();
    assert_eq!([&eye, &other].map(|eye| eye.seen.load(Ordering::Relaxed)), [2 * 57, 57]);
    let shared = job(&source, &place.path().join("shared"), &settings(Format::WebDataset)).unwrap();
    assert_eq!(both, shared);
}

#[test]
fn what_is_wrong_with_samples_is_counted() {
    let place = tempfile::tempdir().unwrap();
    let (source, target) = (place.path().join("odd.tar"), place.path().join("out"));
    let member = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    write_members(
        &source,
        &[
            member("a.png", &picture(0)),
            member("a.txt", b"red"),
            member("no-text.png", &picture(0)),
            member("broken.png", &picture(0)[..40]),
            member("broken.txt", b"red"),
            member("no-image.png", b""),
            member("no-image.json", b"{}"),
            member("bad-json.png", &picture(0)),
            member("bad-json.json", b"{"),
            member("a.png", &picture(2)),
            member("a.txt", "blue, \u{202e}蓝色 <b>".as_bytes()),
        ],
    );
    let mut failed = Vec::new();
    let observer = &mut |event: Event<'_>| {
        if let Event::Failed { key, reason, .. } = event {
            failed.push(format!("{key}: {reason}"));
        }
    };
    let summary = job_with(&Eye::new(), &source, &target, &settings(Format::WebDataset), observer).unwrap();
    let tally = &summary.tally;
    assert_eq!((tally.samples, tally.failed, tally.reasons.len()), (6, 2, 2));
    assert_eq!((tally.without_text, tally.without_image, tally.duplicate_keys), (2, 1, 1));
    assert!(failed[0].starts_with("broken: ") && failed[1].contains("bad-json.json"), "{failed:?}");
    let cleaned = opened(&target);
    let keys: Vec<String> = (0..cleaned.len()).map(|index| cleaned.get(index).unwrap().key).collect();
    assert!(keys.contains(&"a".into()) && keys.contains(&"a-2".into()), "nothing is lost: {keys:?}");
    let page = fs::read_to_string(target.join("report.html")).unwrap();
    assert!(
        page.contains("&lt;b&gt;") && page.contains("data:image/jpeg;base64,/9j/") && !page.contains("<b>")
    );
}

#[test]
fn a_cut_shard_is_named_and_done_once_it_is_whole() {
    let (_place, source, target) = place();
    let cut = source.join("00001.tar");
    let whole = fs::read(&cut).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let mut told = Vec::new();
    let observer = &mut |event: Event<'_>| {
        if let Event::Damaged { reason } = event {
            told.push(reason.to_owned());
        }
    };
    let summary = job_with(&Eye::new(), &source, &target, &settings(Format::WebDataset), observer).unwrap();
    assert_eq!((summary.shards, summary.damaged.len(), summary.tally.samples), (4, 1, 32));
    assert!(told.len() == 1 && told[0].contains("00001.tar") && told[0].contains("cut"), "{told:?}");

    fs::write(&cut, &whole).unwrap();
    let eye = Eye::new();
    let summary = job_with(&eye, &source, &target, &settings(Format::WebDataset), &mut |_| {});
    assert_eq!(summary.unwrap().tally.samples, 57);
    assert_eq!(eye.seen.load(Ordering::Relaxed), 25, "what was finished is not done again");
    let (_other, source, fresh) = place_beside(&source);
    job(&source, &fresh, &settings(Format::WebDataset)).unwrap();
    assert!(tree(&fresh).keys().eq(tree(&target).keys()));
}

/// The same source, and a target elsewhere.
fn place_beside(source: &Path) -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    (place, source.to_owned(), target)
}

#[test]
fn other_settings_another_source_and_a_second_process_are_refused() {
    let (_place, source, target) = place();
    let mut inside = None;
    let begun = settings(Format::WebDataset);
    job_with(&Eye::new(), &source, &target, &begun, &mut |_| {
        inside.get_or_insert_with(|| job(&source, &target, &settings(Format::WebDataset)));
    })
    .unwrap();
    assert!(matches!(inside, Some(Err(JobError::Locked { .. }))), "{inside:?}");

    let other = job(&source, &target, &Settings { seed: 9, ..begun.clone() }).unwrap_err().to_string();
    assert!(other.contains("seed was 1, now it is 9"), "{other}");
    let other = job(&source, &target, &settings(Format::Parquet)).unwrap_err().to_string();
    assert!(other.contains(r#"format was "webdataset", now it is "parquet""#), "{other}");

    write_tar(&source.join("00000.tar"), 100..103);
    let changed = job(&source, &target, &begun).unwrap_err();
    assert!(matches!(changed, JobError::SourceChanged { .. }), "{changed}");

    let restarted = tuwen_jobs::capfilt::Paths { restart: true, ..common::paths(&source, &target) };
    let eye = Eye::new();
    let models = Models { captioner: Some(&eye), filter: &eye, shared: true };
    let parquet = settings(Format::Parquet);
    run_of(&models, &restarted, &parquet, &mut |_| {}).unwrap();
    assert!(tree(&target).keys().all(|name| !name.ends_with(".tar")));
}

#[test]
fn a_stopped_job_goes_on() {
    let (_place, source, target) = place();
    let (mut batches, stop) = (0, AtomicBool::new(false));
    let eye = Eye::new();
    let models = Models { captioner: Some(&eye), filter: &eye, shared: true };
    let tell = &mut |event: Event<'_>| {
        batches += usize::from(matches!(event, Event::Samples(_)));
        stop.store(batches == 8, Ordering::Relaxed);
    };
    let watch = &mut Watch { stop: &stop, tell };
    let stopped = run(&common::paths(&source, &target), &settings(Format::WebDataset), &models, watch);
    assert!(matches!(stopped, Err(JobError::Stopped { done: 2, shards: 7 })), "{stopped:?}");
    assert!(tree(&target).keys().all(|name| !name.ends_with(".tmp")));
    let eye = Eye::new();
    job_with(&eye, &source, &target, &settings(Format::WebDataset), &mut |_| {}).unwrap();
    assert_eq!(eye.seen.load(Ordering::Relaxed), 57 - 20);
    let summary: Value = serde_json::from_slice(&fs::read(target.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["tally"]["samples"], 57);
}

#[cfg(unix)]
#[test]
fn a_place_that_cannot_be_written_is_named() {
    let (place, source, _) = place();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let error = job(&source, &file, &settings(Format::WebDataset)).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
    // Root may write everywhere but here.
    let error = job(&source, Path::new("/proc/out"), &settings(Format::WebDataset)).unwrap_err().to_string();
    assert!(error.starts_with("/proc/out: "), "{error}");
}

#[test]
fn folders_and_tables_are_read_too() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("files/00000");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..12 {
        fs::write(folder.join(format!("{number:09}.png")), picture(number)).unwrap();
        fs::write(folder.join(format!("{number:09}.txt")), text(number)).unwrap();
    }
    let mut table = String::from("filepath,title\n");
    (0..12).for_each(|number| table += &format!("files/00000/{number:09}.png,{}\n", text(number)));
    fs::write(place.path().join("pairs.csv"), table).unwrap();
    for (source, target) in [("files", "a"), ("pairs.csv", "b")] {
        let target = place.path().join(target);
        let summary = job(&place.path().join(source), &target, &settings(Format::WebDataset)).unwrap();
        assert_eq!((summary.shards, summary.tally.web.texts, summary.tally.web.kept), (2, 12, 8));
        let cleaned = opened(&target);
        assert_eq!(cleaned.len() as u64, summary.tally.kept);
        assert!(cleaned.get(0).unwrap().key.contains("/000000"));
    }
}
