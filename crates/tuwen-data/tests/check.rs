//! The look at data before they are learnt from finds what is wrong, counts it and names it.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::path::Path;
use std::time::Duration;

use common::png;
use tuwen_data::check::{CheckOptions, Problem, Source, SourceReport, check};
use tuwen_data::dataset::{DatasetSpec, open};

/// A table of twelve rows, of which five can be learnt from.
fn write_table(folder: &Path) {
    for number in 0..6 {
        std::fs::write(folder.join(format!("{number}.png")), png(40, 30, number)).unwrap();
    }
    let whole = png(40, 30, 9);
    std::fs::write(folder.join("cut.png"), &whole[..whole.len() - 40]).unwrap();
    std::fs::write(folder.join("page.png"), "<html>").unwrap();
    std::fs::write(folder.join("copy.png"), png(40, 30, 1)).unwrap();
    std::fs::write(folder.join("tiny.png"), png(4, 4, 0)).unwrap();
    std::fs::write(folder.join("sliver.png"), png(1, 200, 0)).unwrap();
    let rows = [
        "0.png,a dog",
        "1.png,a cat",
        "gone.png,nothing",
        "2.png,",
        "3.png,a dog",
        "copy.png,another cat",
        "cut.png,half a cat",
        "page.png,no cat",
        "tiny.png,a mouse",
        "sliver.png,a line",
        "4.png,   ",
        "lost.png,nothing more",
    ];
    std::fs::write(folder.join("pairs.csv"), format!("filepath,title\n{}\n", rows.join("\n"))).unwrap();
}

fn look(path: &Path, options: &CheckOptions) -> SourceReport {
    let dataset = open(&DatasetSpec::new(path)).unwrap();
    let mut seen = 0;
    let sources = [Source { dataset: &*dataset, texts_repeat: false }];
    let reports = check(&sources, options, &mut |count| seen += count);
    let [report] = &reports[..] else { panic!("one source, one report") };
    assert_eq!(seen, report.looked_at);
    report.clone()
}

fn counts(report: &SourceReport) -> Vec<(Problem, usize)> {
    report.findings.iter().map(|finding| (finding.problem, finding.count)).collect()
}

#[test]
fn all_that_is_wrong_is_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    write_table(folder.path());
    let path = folder.path().join("pairs.csv");
    for threads in [1, 3] {
        let report = look(&path, &CheckOptions { complete: true, threads, ..CheckOptions::default() });
        assert_eq!((report.samples, report.looked_at, report.usable), (12, 12, 5));
        assert_eq!(
            counts(&report),
            [
                (Problem::MissingImage, 2),
                (Problem::Unreadable, 2),
                (Problem::Sliver, 1),
                (Problem::NoText, 2),
                (Problem::DuplicateImage, 1),
                (Problem::DuplicateText, 1),
                (Problem::TinyImage, 1),
            ]
        );
        let examples = |problem| {
            let finding = report.findings.iter().find(|finding| finding.problem == problem).unwrap();
            finding.examples.join("\n")
        };
        let missing = examples(Problem::MissingImage);
        assert!(missing.contains("line 4: there is no") && missing.contains("lost.png"), "{missing}");
        let unreadable = examples(Problem::Unreadable);
        assert!(unreadable.contains("8:cut.png: ") && unreadable.contains("not a JPEG"), "{unreadable}");
        assert_eq!(examples(Problem::NoText), "5:2.png\n12:4.png");
        assert_eq!(examples(Problem::DuplicateImage), "7:copy.png = 3:1.png");
        assert_eq!(examples(Problem::DuplicateText), "6:3.png = 2:0.png");
        assert_eq!(examples(Problem::TinyImage), "10:tiny.png: 4 x 4 pixels");
        assert_eq!(examples(Problem::Sliver), "11:sliver.png: 1 x 200 pixels");
    }
}

/// Headers tell all but that a file is cut off.
#[test]
fn a_quick_look_reads_headers() {
    let folder = tempfile::tempdir().unwrap();
    write_table(folder.path());
    let report = look(&folder.path().join("pairs.csv"), &CheckOptions::default());
    assert_eq!((report.looked_at, report.usable), (12, 6));
    assert!(counts(&report).contains(&(Problem::Unreadable, 1)), "{report:?}");
}

#[test]
fn a_quick_look_ends_in_time_and_says_how_far_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let image = png(20, 20, 0);
    let write = |number: usize| std::fs::write(folder.path().join(format!("{number}.png")), &image).unwrap();
    (0..300).for_each(write);
    let quick = CheckOptions { samples: 100, ..CheckOptions::default() };
    let report = look(folder.path(), &quick);
    assert_eq!((report.samples, report.looked_at), (300, 100));
    let report = look(folder.path(), &CheckOptions { time: Duration::ZERO, ..quick });
    assert!(report.looked_at > 0 && report.looked_at < 100, "{report:?}");
}

#[test]
fn a_source_without_use_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pairs.csv"), "path,text\na.png,x\nb.png,y\n").unwrap();
    let report = look(&folder.path().join("pairs.csv"), &CheckOptions::default());
    let message = report.usable().unwrap_err().to_string();
    assert!(message.contains("none of the 2 samples") && message.contains("a.png"), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

/// The same picture in two sources is found; texts that are made from classes are equal by nature.
#[test]
fn sources_are_compared_with_each_other() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first/cat/1.png", "second/cat/2.png"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, png(20, 20, 3)).unwrap();
    }
    let datasets = ["first", "second"].map(|name| {
        let templates = vec!["a {}.".to_owned()];
        open(&DatasetSpec { caption_templates: templates, ..DatasetSpec::new(folder.path().join(name)) })
            .unwrap()
    });
    for (texts_repeat, expected) in [(true, 1), (false, 2)] {
        let sources = datasets.each_ref().map(|dataset| Source { dataset: &**dataset, texts_repeat });
        let reports = check(&sources, &CheckOptions::default(), &mut |_| {});
        assert!(reports[0].findings.is_empty());
        assert_eq!(reports[1].findings.len(), expected);
        let example = &reports[1].findings[0].examples[0];
        assert!(example.starts_with("cat/2 = cat/1 of ") && example.ends_with("first"), "{example}");
    }
}
