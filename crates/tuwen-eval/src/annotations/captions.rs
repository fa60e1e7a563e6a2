//! Captions: predictions in COCO's form of results; references in COCO's form, in Karpathy's, and in the list of BLIP.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::Deserialize;

use super::json::{Document, Id, Texts, read, read_list};
use super::{AnnotationError, Keyed};

/// A caption for each image.
pub type CaptionPredictions = Keyed<String>;
/// What people wrote about each image.
pub type CaptionReferences = Keyed<Vec<String>>;

const NOUN: &str = "image";

#[derive(Deserialize)]
struct Predicted {
    image_id: Id,
    caption: String,
}

/// Reads `[{"image_id": 404464, "caption": "a dog"}, ...]`. An id is a number or a text.
///
/// # Errors
/// A file that cannot be read or has another form, and images that occur twice.
pub fn caption_predictions(path: &Path) -> Result<CaptionPredictions, AnnotationError> {
    let list: Vec<Predicted> = read_list(path, "a list of {\"image_id\", \"caption\"}")?;
    let entries = list.into_iter().map(|Predicted { image_id, caption }| (image_id.0, caption));
    Keyed::new(path.display().to_string(), NOUN, entries.collect())
}

#[derive(Deserialize)]
struct CocoOrKarpathy {
    annotations: Option<Vec<Annotation>>,
    images: Option<Vec<Image>>,
}

#[derive(Deserialize)]
struct Annotation {
    id: Option<Id>,
    image_id: Id,
    caption: String,
}

#[derive(Deserialize)]
struct Image {
    cocoid: Option<Id>,
    filename: Option<String>,
    split: Option<String>,
    sentences: Option<Vec<Sentence>>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

#[derive(Deserialize)]
struct Listed {
    image_id: Option<Id>,
    image: Option<String>,
    caption: Texts,
}

/// Reads references in one of three forms:
///
/// - COCO's `{"annotations": [{"id", "image_id", "caption"}, ...]}`;
/// - Karpathy's `{"images": [{"cocoid", "filename", "split", "sentences": [{"raw"}]}, ...]}`, of which the images of `split`
///   are taken (`test` where none is named); without `cocoid` an image has the id `filename`;
/// - BLIP's `[{"image": "val2014/COCO_val2014_000000391895.jpg", "caption": "..." or [...]}, ...]`, where the id is the number
///   at the end of the name (391895), else the name without its ending; `image_id` stands above it.
///
/// # Errors
/// A file that cannot be read or has another form, a split without images, and annotations that occur twice.
pub fn caption_references(path: &Path, split: Option<&str>) -> Result<CaptionReferences, AnnotationError> {
    let captions = match read::<Listed, CocoOrKarpathy>(path)? {
        Document::List(list) => list.into_iter().map(listed).collect::<Option<Vec<_>>>(),
        Document::Object(CocoOrKarpathy { annotations: Some(annotations), .. }) => {
            Some(coco(path, annotations)?)
        }
        Document::Object(CocoOrKarpathy { images: Some(images), .. }) => Some(karpathy(path, images, split)?),
        Document::Object(_) => None,
    };
    let expected =
        "COCO's annotations, Karpathy's images with sentences, or a list of {\"image\", \"caption\"}";
    let form = || AnnotationError::Form { path: path.to_owned(), expected };
    Keyed::new(path.display().to_string(), NOUN, by_image(captions.ok_or_else(form)?))
}

fn coco(path: &Path, annotations: Vec<Annotation>) -> Result<Vec<(String, Vec<String>)>, AnnotationError> {
    let ids = annotations.iter().filter_map(|annotation| annotation.id.clone()).map(|Id(id)| (id, ()));
    let ids: Vec<_> = ids.collect();
    if !ids.is_empty() {
        Keyed::new(path.display().to_string(), "annotation", ids)?;
    }
    Ok(annotations.into_iter().map(|annotation| (annotation.image_id.0, vec![annotation.caption])).collect())
}

fn karpathy(
    path: &Path,
    images: Vec<Image>,
    split: Option<&str>,
) -> Result<Vec<(String, Vec<String>)>, AnnotationError> {
    let known: BTreeSet<String> = images.iter().filter_map(|image| image.split.clone()).collect();
    let split = split.or_else(|| known.contains("test").then_some("test"));
    let of_split = |image: &Image| split.is_none() || image.split.as_deref() == split;
    let captions: Vec<(String, Vec<String>)> = images
        .into_iter()
        .filter(of_split)
        .filter_map(|image| {
            let id = image.cocoid.map(|Id(id)| id).or(image.filename)?;
            Some((id, image.sentences?.into_iter().map(|sentence| sentence.raw).collect()))
        })
        .collect();
    match split {
        Some(split) if captions.is_empty() => Err(AnnotationError::Split {
            path: path.to_owned(),
            split: split.to_owned(),
            known: known.into_iter().collect::<Vec<_>>().join(", "),
        }),
        _ => Ok(captions),
    }
}

fn listed(entry: Listed) -> Option<(String, Vec<String>)> {
    let id = entry.image_id.map(|Id(id)| id).or_else(|| entry.image.as_deref().map(id_of_name))?;
    Some((id, entry.caption.into_vec()))
}

/// `COCO_val2014_000000391895.jpg` is image 391895.
fn id_of_name(name: &str) -> String {
    let stem = Path::new(name).file_stem().map_or(name.into(), |stem| stem.to_string_lossy());
    let number = stem.rsplit_once('_').and_then(|(_, number)| number.parse::<u64>().ok());
    number.map_or_else(|| stem.into_owned(), |number| number.to_string())
}

/// Joins the captions of an image, in the order in which images first occur.
fn by_image(captions: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut images: Vec<(String, Vec<String>)> = Vec::new();
    for (id, captions) in captions {
        let place = *places.entry(id.clone()).or_insert(images.len());
        if place == images.len() {
            images.push((id, Vec::new()));
        }
        images[place].1.extend(captions);
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(text: &str, split: Option<&str>) -> Result<Vec<(String, Vec<String>)>, String> {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("references.json");
        std::fs::write(&path, text).expect("written");
        let read = caption_references(&path, split).map_err(|error| error.to_string())?;
        Ok(read.entries().to_vec())
    }

    fn image(id: &str, captions: &[&str]) -> (String, Vec<String>) {
        (id.to_owned(), captions.iter().map(|&caption| caption.to_owned()).collect())
    }

    #[test]
    fn three_forms_are_read() {
        let coco = r#"{"info": {}, "images": [{"id": 7}], "annotations": [{"id": 1, "image_id": 7, "caption": "a"},
            {"id": 2, "image_id": 8, "caption": "b"}, {"id": 3, "image_id": "7", "caption": "c"}]}"#;
        assert_eq!(references(coco, None), Ok(vec![image("7", &["a", "c"]), image("8", &["b"])]));
        let karpathy = r#"{"dataset": "coco", "images": [
            {"cocoid": 5, "filename": "x.jpg", "split": "test", "sentences": [{"raw": "a", "tokens": ["a"]}, {"raw": "b"}]},
            {"filename": "y.jpg", "split": "val", "sentences": [{"raw": "c"}]}]}"#;
        assert_eq!(references(karpathy, None), Ok(vec![image("5", &["a", "b"])]));
        assert_eq!(references(karpathy, Some("val")), Ok(vec![image("y.jpg", &["c"])]));
        let message = references(karpathy, Some("dev")).expect_err("no such split");
        assert!(message.ends_with("no image of split dev; there are test, val"), "{message}");
        let blip = r#"[{"image": "val2014/COCO_val2014_000000391895.jpg", "caption": ["a", "b"]},
            {"image": "f/10_x.jpg", "caption": "c"}, {"image": "z.jpg", "image_id": 9, "caption": "d"}]"#;
        assert_eq!(
            references(blip, None),
            Ok(vec![image("391895", &["a", "b"]), image("10_x", &["c"]), image("9", &["d"])])
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let twice = r#"{"annotations": [{"id": 1, "image_id": 7, "caption": "a"}, {"id": 1, "image_id": 8, "caption": "b"}]}"#;
        for (text, expected) in [
            (twice, "1 annotations occur more than once; the first is 1"),
            (&twice[..60], "EOF while parsing"),
            ("", "EOF while parsing"),
            ("{}", "expected COCO's annotations"),
            ("[]", "nothing to measure"),
            (r#"[{"caption": "a"}]"#, "expected COCO's annotations"),
            (r#"[{"image_id": 1.5, "caption": "a"}]"#, "a whole number or a text"),
            (r#"[{"image_id": 1, "caption": 3}]"#, "a text or a list of texts"),
        ] {
            let message = references(text, None).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
