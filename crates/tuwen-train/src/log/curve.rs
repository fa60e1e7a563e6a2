//! The learning curve: a picture of the log with a panel for each thing worth watching.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use tuwen_tensor::checkpoint::write_atomically;

use super::scalars::of_line;
use crate::TrainError;

mod draw;

/// Points of a line; more than that are averaged, for nobody sees them apart.
const MOST_POINTS: usize = 1000;

/// What the running mean of the loss forgets, as a part of the run: a fiftieth.
const SMOOTHING: f64 = 50.0;

/// Quantities of a step that are not drawn: they follow from others, or say nothing of learning.
const PASSED_OVER: [&str; 3] = ["epoch", "images_per_second", "data_failures"];

/// Values over steps.
type Points = Vec<(f64, f64)>;

/// A line of a panel.
struct Line {
    name: String,
    points: Points,
    /// Drawn in the background.
    faint: bool,
}

/// A diagram: what it shows, and its lines.
struct Panel {
    title: String,
    lines: Vec<Line>,
}

/// Draws a log; one without a step gives no picture.
pub(super) fn draw(log: &Path, target: &Path) -> Result<(), TrainError> {
    let panels = panels(read(log).map_err(TrainError::io(log))?);
    if panels.is_empty() {
        return Ok(());
    }
    let svg = draw::svg(&panels).map_err(|problem| TrainError::io(target)(std::io::Error::other(problem)))?;
    Ok(write_atomically(target, |out| out.write_all(svg.as_bytes()))?)
}

/// All series of a log by name. Numbers that are none, such as the loss of a run that diverged, are left out.
fn read(log: &Path) -> std::io::Result<BTreeMap<String, Points>> {
    let mut series: BTreeMap<String, Points> = BTreeMap::new();
    for line in BufReader::new(File::open(log)?).split(b'\n') {
        let scalars = of_line(&line?);
        for (name, value) in scalars.values.into_iter().filter(|(_, value)| value.is_finite()) {
            series.entry(name).or_default().push((scalars.step as f64, value));
        }
    }
    Ok(series)
}

/// The loss first, then what else a step tells, then a panel for each evaluation.
fn panels(mut series: BTreeMap<String, Points>) -> Vec<Panel> {
    let single =
        |name: &str, points: Points| Line { name: name.to_owned(), points: thinned(&points), faint: false };
    let mut panels = Vec::new();
    if let Some(loss) = series.remove("train/loss") {
        panels.push(Panel {
            title: "loss".into(),
            lines: vec![
                Line { name: "of a step".into(), points: thinned(&loss), faint: true },
                Line { name: "running mean".into(), points: thinned(&smoothed(&loss)), faint: false },
            ],
        });
    }
    let terms: Vec<Line> =
        taken(&mut series, "train/losses/").map(|(name, points)| single(&name, points)).collect();
    if terms.len() > 1 {
        panels.push(Panel { title: "terms of the loss".into(), lines: terms });
    }
    for (name, points) in taken(&mut series, "train/") {
        if !PASSED_OVER.contains(&name.as_str()) {
            panels.push(Panel { title: words(&name), lines: vec![single("", points)] });
        }
    }
    let mut evaluations: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for (name, points) in series {
        let (eval, metric) = name.rsplit_once('/').unwrap_or(("", &name));
        evaluations.entry(eval.to_owned()).or_default().push(single(&words(metric), points));
    }
    panels.extend(evaluations.into_iter().map(|(title, lines)| Panel { title, lines }));
    panels
}

/// Takes the series out whose names begin so, under the rest of their names.
fn taken(
    series: &mut BTreeMap<String, Points>,
    prefix: &str,
) -> impl Iterator<Item = (String, Points)> + use<> {
    let names: Vec<String> = series.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
    let take = |name: String| series.remove_entry(&name);
    let taken: Vec<(String, Points)> = names.into_iter().filter_map(take).collect();
    let length = prefix.len();
    taken.into_iter().map(move |(name, points)| (name[length..].to_owned(), points))
}

/// A name for people.
fn words(name: &str) -> String {
    match name {
        "lr" => "learning rate".to_owned(),
        "grad_norm" => "length of the gradient".to_owned(),
        name => name.replace('_', " "),
    }
}

/// The exponential mean over a fiftieth of the points, at least three, corrected for its start.
fn smoothed(points: &[(f64, f64)]) -> Points {
    let keep = 1.0 - 1.0 / (points.len() as f64 / SMOOTHING).max(3.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |&(step, value): &(f64, f64)| {
        sum = keep * sum + value;
        weight = keep * weight + 1.0;
        (step, sum / weight)
    };
    points.iter().map(mean).collect()
}

/// At most [`MOST_POINTS`], each the mean of its neighbours.
fn thinned(points: &[(f64, f64)]) -> Points {
    let run = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |run: &[(f64, f64)]| {
        let sum = run.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / run.len() as f64, sum.1 / run.len() as f64)
    };
    points.chunks(run).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(steps: u64) -> String {
        let step = |step: u64| {
            let loss = 4.0 * (-(step as f64) / 300.0).exp() + 0.2 * (step as f64 * 1.7).sin();
            let line = format!(
                r#"{{"step":{step},"epoch":0,"loss":{loss},"losses":{{"contrastive":{loss}}},"lr":1e-3,"logit_scale":14.3,"grad_norm":1.5}}"#
            );
            let eval = format!(
                r#"{{"step":{step},"epoch":1,"eval":"dev <b>","metrics":{{"top1":{step},"top5":1.0}}}}"#
            );
            if step.is_multiple_of(50) { format!("{line}\n{eval}\n") } else { line + "\n" }
        };
        (1..=steps).map(step).collect()
    }

    #[test]
    fn every_quantity_has_its_panel() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, target) = (directory.path().join("log.jsonl"), directory.path().join("curve.svg"));
        std::fs::write(&path, log(3000)).expect("written");
        let panels = panels(read(&path).expect("read"));
        let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles, ["loss", "length of the gradient", "logit scale", "learning rate", "dev <b>"]);
        assert!(panels.iter().flat_map(|panel| &panel.lines).all(|line| line.points.len() <= MOST_POINTS));
        draw(&path, &target).expect("drawn");
        let svg = std::fs::read_to_string(&target).expect("read");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("dev &lt;b&gt;") && svg.len() < 200_000, "{} bytes", svg.len());
    }

    #[test]
    fn short_and_strange_logs_are_drawn() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, target) = (directory.path().join("log.jsonl"), directory.path().join("curve.svg"));
        std::fs::write(&path, "").expect("written");
        draw(&path, &target).expect("nothing to draw");
        assert!(!target.exists());
        for text in [&log(1), "{\"step\":1,\"loss\":0}\n{\"step\":2,\"loss\":1e300}\n{half", &log(2)] {
            std::fs::write(&path, text).expect("written");
            draw(&path, &target).expect("drawn");
            assert!(!std::fs::read_to_string(&target).expect("read").contains("NaN"));
        }
    }

    #[test]
    fn the_running_mean_of_a_constant_is_the_constant() {
        let points: Points = (0..200).map(|step| (f64::from(step), 3.0)).collect();
        assert!(smoothed(&points).iter().all(|(_, mean)| (mean - 3.0).abs() < 1e-12));
    }
}
