//! JSON files that name images and say what is written or asked about them: those of BLIP, COCO, Karpathy's split,
//! VQA and NLVR2.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::pairs::{Pair, pair};
use super::question::{Fields, questions};
use super::{DataError, Dataset, Question, Sample, check_index};
use crate::files::read_text;
use crate::image;

/// A file may have this many bytes; the largest of COCO have a third of it.
const MAX_BYTES: u64 = 1 << 30;

/// What the file itself does not say.
#[derive(Clone, Copy, Default)]
pub(super) struct JsonOptions<'a> {
    /// The directory of the images; that of the file unless given.
    pub images: Option<&'a Path>,
    /// The part of Karpathy's split.
    pub split: Option<&'a str>,
    /// VQA's file of questions, where `path` holds the annotations.
    pub questions: Option<&'a Path>,
}

/// Images with all that is said of them; an image that is named several times is one sample.
pub struct JsonDataset {
    name: String,
    path: PathBuf,
    folder: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Default)]
struct Entry {
    image: String,
    /// Of a sentence about two images, which is a sample of its own.
    pair: Option<Pair>,
    texts: Vec<String>,
    questions: Vec<Question>,
}

impl Entry {
    fn of_pair(pair: Pair) -> Self {
        let (image, texts) = (pair.images[0].clone(), vec![pair.sentence.clone()]);
        Self { image, texts, pair: Some(pair), ..Self::default() }
    }
}

/// Entries in the order in which their images are named first.
#[derive(Default)]
struct Entries {
    all: Vec<Entry>,
    by_image: HashMap<String, usize>,
}

impl Entries {
    fn of(&mut self, image: String) -> &mut Entry {
        let next = self.all.len();
        let place = *self.by_image.entry(image.clone()).or_insert(next);
        if place == next {
            self.all.push(Entry { image, ..Entry::default() });
        }
        &mut self.all[place]
    }
}

impl JsonDataset {
    /// Reads a file in one of these forms:
    ///
    /// - BLIP's `[{"image": "a.jpg", "caption": "..."}, ...]`, where a caption may be several, and `"question"` with `"answer"`
    ///   may stand in its place;
    /// - COCO's `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`;
    /// - Karpathy's `{"images": [{"filepath", "filename", "split", "sentences": [{"raw"}]}]}`;
    /// - VQA's `{"annotations": [{"question_id", "image_id", "answers"}], "data_type", "data_subtype"}` with its file of
    ///   questions;
    /// - NLVR2's, a list or a line each: `{"identifier", "sentence", "label"}`, or with `"images"` in place of an identifier.
    ///
    /// # Errors
    /// A file that cannot be read or has none of these forms.
    pub(super) fn open(name: &str, path: &Path, options: JsonOptions<'_>) -> Result<Self, DataError> {
        let fail = |problem: String| DataError::Beside { path: path.to_owned(), problem };
        let document = read(path)?;
        let mut entries = Entries::default();
        let images = document.get("images").and_then(Value::as_array);
        let annotations = document.get("annotations").and_then(Value::as_array);
        match (document.as_array(), images, annotations, options.questions) {
            (Some(list), ..) => listed(list, &mut entries),
            (_, _, Some(annotations), Some(questions)) => {
                let file = read(questions)?;
                vqa(&document, annotations, &file, &mut entries);
            }
            (_, Some(images), Some(annotations), None) => coco(images, annotations, &mut entries),
            (_, Some(images), None, None) => karpathy(images, options.split, &mut entries),
            _ => {
                let forms = "a list with `image`, `images` with `annotations` or `sentences`, or `annotations` \
                             with a file of questions (`questions = \"...\"`)";
                return Err(fail(format!("expected {forms}")));
            }
        }
        if entries.all.is_empty() {
            return Err(fail("names no image of which anything is said".into()));
        }
        let folder = options.images.or(path.parent()).unwrap_or(Path::new("")).to_owned();
        Ok(Self { name: name.to_owned(), path: path.to_owned(), folder, entries: entries.all })
    }
}

impl JsonDataset {
    fn image(&self, name: &str) -> Result<Vec<u8>, DataError> {
        let path = self.folder.join(name);
        image::read(&path).map_err(|error| {
            let problem = format!("image {}: {error}", path.display());
            DataError::Beside { path: self.path.clone(), problem }
        })
    }
}

fn read(path: &Path) -> Result<Value, DataError> {
    let text = read_text(path, MAX_BYTES).map_err(DataError::io(path))?;
    let problem =
        |error: serde_json::Error| DataError::Beside { path: path.to_owned(), problem: error.to_string() };
    let whole = serde_json::from_str(&text);
    // A document that ends early may be the first of several lines.
    let lines = || {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(serde_json::from_str).collect::<Result<Vec<Value>, serde_json::Error>>()
    };
    whole.or_else(|error| lines().map(Value::Array).map_err(|_| error)).map_err(problem)
}

/// A text, or a number as one.
fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    match value {
        Some(Value::Array(several)) => several.iter().filter_map(text).collect(),
        Some(one) => text(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn listed(list: &[Value], entries: &mut Entries) {
    for item in list {
        if let Some(pair) = pair(item) {
            entries.all.push(Entry::of_pair(pair));
            continue;
        }
        let Some(image) = word(item.get("image")) else { continue };
        let entry = entries.of(image);
        entry.texts.extend(texts(item.get("caption")));
        entry.questions.extend(questions(item.get("qa"), Fields::of(item)));
    }
}

fn coco(images: &[Value], annotations: &[Value], entries: &mut Entries) {
    let file = |image: &Value| Some((word(image.get("id"))?, word(image.get("file_name"))?));
    let files: HashMap<String, String> = images.iter().filter_map(file).collect();
    for annotation in annotations {
        let image = word(annotation.get("image_id")).and_then(|id| files.get(&id).cloned());
        if let Some(image) = image {
            entries.of(image).texts.extend(texts(annotation.get("caption")));
        }
    }
}

fn karpathy(images: &[Value], split: Option<&str>, entries: &mut Entries) {
    for image in images {
        let part = image.get("split").and_then(Value::as_str);
        if split.is_some_and(|split| part != Some(split)) {
            continue;
        }
        let Some(file) = word(image.get("filename")) else { continue };
        let file = match word(image.get("filepath")) {
            Some(folder) => format!("{folder}/{file}"),
            None => file,
        };
        let sentences = image.get("sentences").and_then(Value::as_array);
        let raw = sentences.into_iter().flatten().flat_map(|sentence| texts(sentence.get("raw")));
        entries.of(file).texts.extend(raw);
    }
}

/// Images have the names of COCO: `COCO_train2014_000000000009.jpg`.
fn vqa(document: &Value, annotations: &[Value], file: &Value, entries: &mut Entries) {
    let subtype = word(document.get("data_subtype")).unwrap_or_else(|| "train2014".to_owned());
    let asked = file.get("questions").and_then(Value::as_array);
    let question = |item: &Value| Some((word(item.get("question_id"))?, item.get("question")?.clone()));
    let by_id: HashMap<String, Value> = asked.into_iter().flatten().filter_map(question).collect();
    for annotation in annotations {
        let (Some(id), Some(image)) =
            (word(annotation.get("question_id")), annotation.get("image_id").and_then(Value::as_u64))
        else {
            continue;
        };
        let entry = entries.of(format!("COCO_{subtype}_{image:012}.jpg"));
        let fields = Fields { question: by_id.get(&id), ..Fields::of(annotation) };
        entry.questions.extend(questions(None, fields));
    }
}

impl Dataset for JsonDataset {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        check_index(self, index)?;
        let Entry { image, pair, texts, questions } = &self.entries[index];
        let second = pair.as_ref().map(|pair| self.image(&pair.images[1])).transpose()?;
        Ok(Sample {
            key: pair.as_ref().map_or(image, |pair| &pair.key).clone(),
            image: self.image(image)?,
            second_image: second,
            texts: texts.clone(),
            label: pair.as_ref().and_then(|pair| pair.is_true).map(i64::from),
            questions: questions.clone(),
            ..Sample::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(document: &Value, options: JsonOptions<'_>) -> Result<JsonDataset, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.json");
        std::fs::write(&path, document.to_string()).unwrap();
        JsonDataset::open("test", &path, options)
    }

    fn said(dataset: &JsonDataset) -> Vec<(&str, Vec<&str>)> {
        let entries = dataset.entries.iter();
        entries
            .map(|entry| (entry.image.as_str(), entry.texts.iter().map(String::as_str).collect()))
            .collect()
    }

    #[test]
    fn captions_come_in_three_forms() {
        let blip = json!([{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg", "caption": ["two", " "]},
            {"image": "a.jpg", "caption": "three"}]);
        let expected = [("a.jpg", vec!["one", "three"]), ("b.jpg", vec!["two"])];
        assert_eq!(said(&open(&blip, JsonOptions::default()).unwrap()), expected);
        let coco = json!({"images": [{"id": 7, "file_name": "b.jpg"}, {"id": 5, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 5, "caption": "one"}, {"image_id": 7, "caption": "two"},
                {"image_id": 5, "caption": "three"}, {"image_id": 9, "caption": "of no image"}]});
        assert_eq!(said(&open(&coco, JsonOptions::default()).unwrap()), expected);
        let karpathy = json!({"images": [
            {"filepath": "val", "filename": "c.jpg", "split": "test", "sentences": [{"raw": "x"}]},
            {"filepath": "val", "filename": "d.jpg", "split": "train", "sentences": [{"raw": "y"}, {"raw": "z"}]}]});
        let split = JsonOptions { split: Some("train"), ..JsonOptions::default() };
        assert_eq!(said(&open(&karpathy, split).unwrap()), [("val/d.jpg", vec!["y", "z"])]);
    }

    #[test]
    fn questions_come_in_two_forms() {
        let blip = json!([{"image": "a.jpg", "question": "how many?", "answer": ["two", "two", "one"]}]);
        let dataset = open(&blip, JsonOptions::default()).unwrap();
        assert_eq!(dataset.entries[0].questions[0].answers, ["two", "two", "one"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("questions.json");
        std::fs::write(&file, json!({"questions": [{"question_id": 3, "question": "what?"}]}).to_string())
            .unwrap();
        let vqa = json!({"data_subtype": "val2014", "annotations": [
            {"question_id": 3, "image_id": 42, "answer_type": "other", "question_type": "what",
                "answers": [{"answer": "a cat"}, {"answer": "cat"}]},
            {"question_id": 4, "image_id": 42, "answers": [{"answer": "unasked"}]}]});
        let options = JsonOptions { questions: Some(&file), ..JsonOptions::default() };
        let dataset = open(&vqa, options).unwrap();
        assert_eq!(dataset.entries[0].image, "COCO_val2014_000000000042.jpg");
        assert_eq!(dataset.entries[0].questions.len(), 1);
        let question = &dataset.entries[0].questions[0];
        assert_eq!((question.question.as_str(), question.answers.len()), ("what?", 2));
        let types = [&question.answer_type, &question.question_type].map(|kind| kind.as_deref());
        assert_eq!(types, [Some("other"), Some("what")]);
    }

    #[test]
    fn sentences_about_two_images_come_in_lines_too() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["dev-1-0-img0.png", "dev-1-0-img1.png"] {
            let path = folder.path().join("dev").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let line = |number: usize, label: &str| {
            json!({"identifier": format!("dev-1-0-{number}"), "sentence": "two dogs", "label": label})
                .to_string()
        };
        let path = folder.path().join("dev.json");
        std::fs::write(&path, format!("{}\n\n{}\n", line(0, "True"), line(1, "False"))).unwrap();
        let dataset = JsonDataset::open("test", &path, JsonOptions::default()).unwrap();
        let samples = [0, 1].map(|index| dataset.get(index).unwrap());
        assert_eq!(samples.each_ref().map(|sample| sample.label), [Some(1), Some(0)]);
        assert_eq!(samples[0].key, "dev-1-0-0");
        assert_eq!(samples[1].image, b"dev-1-0-img0.png");
        assert_eq!(samples[1].second_image.as_deref(), Some(&b"dev-1-0-img1.png"[..]));
        assert_eq!(samples[0].texts, ["two dogs"]);
        std::fs::write(&path, "{\"a\": 1}\nno JSON").unwrap();
        let error = JsonDataset::open("test", &path, JsonOptions::default()).err().unwrap();
        assert!(error.to_string().contains("trailing characters"), "{error}");
    }

    #[test]
    fn what_is_of_no_form_is_said() {
        for (document, expected) in [
            (json!({"annotations": []}), "expected a list with `image`"),
            (json!([]), "names no image"),
            (json!("text"), "expected a list"),
        ] {
            let message = open(&document, JsonOptions::default()).err().unwrap().to_string();
            assert!(message.contains(expected) && message.contains("data.json"), "{message}");
        }
        let dataset = open(&json!([{"image": "gone.jpg", "caption": "x"}]), JsonOptions::default()).unwrap();
        assert!(dataset.get(0).unwrap_err().to_string().contains("gone.jpg"));
    }
}
