//! Models that know four colours, and data sets of pictures of them.

#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part; a test may

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tuwen_data::dataset::Access;
use tuwen_data::image::{RgbImage, Transform};
use tuwen_data::rng::Rng;
use tuwen_jobs::capfilt::{Event, Format, ModelId, Paths, Rule, Settings, Summary, Watch, run};
use tuwen_jobs::{Caption, Captioner, Filter, Heads, ImageEncoder, JobError, ModelError, Models, Scores};

pub const COLOURS: [(&str, [u8; 3]); 4] =
    [("red", [220, 20, 30]), ("green", [20, 200, 40]), ("blue", [10, 40, 230]), ("white", [250, 250, 250])];

/// Sees the colour of pictures.
pub struct Eye {
    pub transform: Transform,
    /// Pictures that it was shown.
    pub seen: AtomicUsize,
    /// What a batch takes.
    pub delay: Duration,
}

impl Eye {
    pub fn new() -> Self {
        Self { transform: Transform::openai(8), seen: AtomicUsize::new(0), delay: Duration::ZERO }
    }
}

impl ImageEncoder for Eye {
    type Features = Vec<&'static str>;

    fn transform(&self) -> &Transform {
        &self.transform
    }

    fn encode(&self, images: &[RgbImage]) -> Result<Self::Features, ModelError> {
        self.seen.fetch_add(images.len(), Ordering::Relaxed);
        std::thread::sleep(self.delay);
        let far = |image: &RgbImage, colour: [u8; 3]| -> u32 {
            image.data.iter().zip(colour.iter().cycle()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
        };
        let name = |image: &RgbImage| {
            COLOURS.iter().min_by_key(|(_, colour)| far(image, *colour)).map(|(name, _)| *name)
        };
        Ok(images.iter().filter_map(name).collect())
    }
}

impl Captioner for Eye {
    fn captions(&self, images: &Self::Features, seeds: &[u64]) -> Result<Vec<Vec<Caption>>, ModelError> {
        let write = |(colour, seed): (&&str, &u64)| {
            // Now and then it is mistaken.
            let drawn = Rng::new(&[*seed]).below(8) as usize;
            let colour = COLOURS.get(drawn).map_or(*colour, |(name, _)| name);
            vec![Caption { text: format!("a {colour} square {}", seed % 100), score: -1.5 }]
        };
        Ok(images.iter().zip(seeds).map(write).collect())
    }
}

impl Filter for Eye {
    fn scores(
        &self,
        images: &Self::Features,
        texts: &[Vec<String>],
        heads: Heads,
    ) -> Result<Vec<Vec<Scores>>, ModelError> {
        let score = |colour: &str, text: &String| {
            let match_ = if text.contains(colour) { 0.75 } else { 0.125 };
            let (itm, itc) = (heads.itm.then_some(match_), heads.itc.then_some(match_ / 2.0));
            Scores { itm, itc, cut: text.len() > 40 }
        };
        let pairs = images.iter().zip(texts);
        Ok(pairs.map(|(colour, texts)| texts.iter().map(|text| score(colour, text)).collect()).collect())
    }
}

pub fn settings(format: Format) -> Settings {
    let eye = ModelId { name: "eye".into(), fingerprint: "0".into(), precision: "f32".into() };
    Settings {
        captioner: Some(eye.clone()),
        filter: eye,
        generation: json!({"top_p": 0.9}),
        rule: Rule { itm: Some(0.5), itc: None },
        seed: 1,
        format,
        shard_size: 10,
        batch_size: 4,
        exact_decode: false,
    }
}

pub fn paths(source: &Path, target: &Path) -> Paths {
    Paths { source: source.to_owned(), access: Access::default(), target: target.to_owned(), restart: false }
}

/// Runs a job to its end.
pub fn job(source: &Path, target: &Path, settings: &Settings) -> Result<Summary, JobError> {
    job_with(&Eye::new(), source, target, settings, &mut |_| {})
}

pub fn job_with(
    eye: &Eye,
    source: &Path,
    target: &Path,
    settings: &Settings,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, JobError> {
    let models = Models { captioner: Some(eye), filter: eye, shared: true };
    run_of(&models, &paths(source, target), settings, tell)
}

pub fn run_of<F>(
    models: &Models<'_, F>,
    paths: &Paths,
    settings: &Settings,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, JobError> {
    run(paths, settings, models, &mut Watch { stop: &AtomicBool::new(false), tell })
}

/// A PNG file of one colour.
pub fn picture(number: usize) -> Vec<u8> {
    let colour = COLOURS[number % 4].1;
    let (width, height) = (10 + number as u32 % 5, 9);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&colour.repeat((width * height) as usize)).unwrap();
    writer.finish().unwrap();
    file
}

/// What is said of a picture: every third text is wrong.
pub fn text(number: usize) -> String {
    let said = if number.is_multiple_of(3) { number + 1 } else { number };
    format!("something {}", COLOURS[said % 4].0)
}

/// A tar file as img2dataset writes it, of pictures with these numbers.
pub fn write_tar(path: &Path, numbers: std::ops::Range<usize>) {
    let mut members = Vec::new();
    for number in numbers {
        let key = format!("{number:09}");
        let meta = json!({"caption": text(number), "url": format!("http://x/{number}"), "key": key, "status": "success"});
        members.push((format!("{key}.png"), picture(number)));
        members.push((format!("{key}.txt"), text(number).into_bytes()));
        members.push((format!("{key}.json"), meta.to_string().into_bytes()));
    }
    write_members(path, &members);
}

pub fn write_members(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap();
}

/// A folder as img2dataset leaves it: three tar files of 25, 25 and 7 samples, and what lies beside them.
pub fn write_source(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (shard, numbers) in [0..25, 25..50, 50..57].into_iter().enumerate() {
        write_tar(&folder.join(format!("{shard:05}.tar")), numbers);
        fs::write(folder.join(format!("{shard:05}.parquet")), "metadata without images").unwrap();
        fs::write(folder.join(format!("{shard:05}_stats.json")), "{}").unwrap();
    }
}

/// All files below a directory with their contents, but for the lock.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(tree(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else if name != ".lock" {
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}
