//! How long each stage from a file to the numbers of a network takes, and what reduced decoding changes:
//! `cargo run --release -p tuwen-data --example image_stages -- FOLDER [SIDE] [COUNT]`.

#![allow(clippy::print_stdout, missing_docs)] // a program

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use tuwen_data::image::{Picture, RgbImage, Transform};

/// Seconds that this thread has computed, in which other programs do not count.
fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
}

/// Seconds of each stage.
#[derive(Default)]
struct Stages([f64; 6]);

const NAMES: [&str; 6] =
    ["read", "decode, exact", "resize, exact", "decode, reduced", "resize, reduced", "normalise"];

impl Stages {
    fn time<T>(&mut self, stage: usize, work: impl FnOnce() -> T) -> Result<T, Box<dyn Error>> {
        let start = cpu_seconds().ok_or("needs /proc/thread-self/schedstat")?;
        let result = work();
        self.0[stage] += cpu_seconds().unwrap_or(start) - start;
        Ok(result)
    }
}

/// Differences of grey levels: their greatest, and the greatest mean of a picture.
fn compare(exact: &RgbImage, reduced: &RgbImage) -> (u8, f64) {
    let differences = || exact.data.iter().zip(&reduced.data).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = differences().map(u64::from).sum();
    (differences().max().unwrap_or(0), sum as f64 / exact.data.len() as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name a folder")?);
    let side = arguments.next().map_or(Ok(224), |side| side.parse())?;
    let count = arguments.next().map_or(Ok(100), |count| count.parse())?;
    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    let transform = Transform::openai(side);
    let mut stages = Stages::default();
    let (mut pixels, mut greatest, mut means) = (0, 0, Vec::new());
    for path in paths.iter().take(count) {
        let bytes = stages.time(0, || fs::read(path))??;
        let exact = stages.time(1, || Picture::decode(&bytes))??;
        let of_exact = stages.time(2, || transform.apply(&exact))?;
        let reduced = stages.time(3, || Picture::decode_for(&bytes, &transform))??;
        let of_reduced = stages.time(4, || transform.apply(&reduced))?;
        stages.time(5, || transform.pixel_values(&of_reduced))?;
        pixels += exact.width() * exact.height();
        let (largest, mean) = compare(&of_exact, &of_reduced);
        greatest = greatest.max(largest);
        means.push(mean);
    }
    let (megapixels, pictures) = (pixels as f64 * 1e-6, means.len() as f64);
    println!("{pictures} pictures of {:.1} megapixels, to {side} x {side}", megapixels / pictures);
    for (name, seconds) in NAMES.iter().zip(stages.0) {
        println!(
            "{name:16} {:7.2} ms a picture {:6.2} ms a megapixel",
            1e3 * seconds / pictures,
            1e3 * seconds / megapixels
        );
    }
    let mean = means.iter().sum::<f64>() / pictures;
    let worst = means.iter().fold(0.0, |worst: f64, &mean| worst.max(mean));
    println!(
        "reduced against exact, in grey levels: mean {mean:.3}, of the worst picture {worst:.3}, greatest {greatest}"
    );
    Ok(())
}
