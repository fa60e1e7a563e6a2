//! Sentences about two images and whether they are true (NLVR2), as JSON has them.

use serde_json::Value;

/// A sentence about two images.
pub(super) struct Pair {
    /// Its name.
    pub key: String,
    /// The image on the left and the one on the right.
    pub images: [String; 2],
    pub sentence: String,
    /// Whether it is true, where that is known.
    pub is_true: Option<bool>,
}

/// A pair in one of these forms; what has another one is passed over:
///
/// - BLIP's `{"images": ["a.png", "b.png"], "sentence": "...", "label": "True"}`;
/// - `{"left_image": "a.png", "right_image": "b.png", "sentence": "...", "label": true}`;
/// - that of NLVR2, `{"identifier": "train-10171-0-0", "directory": 40, "sentence": "...", "label": "True"}`, whose images
///   are `train/40/train-10171-0-img0.png` and `-img1.png`; without `directory` they are in `dev` or `test1`.
pub(super) fn pair(item: &Value) -> Option<Pair> {
    let text = |name: &str| Some(item.get(name)?.as_str()?.trim().to_owned()).filter(|text| !text.is_empty());
    let sentence = text("sentence")?;
    let identifier = text("identifier");
    let listed = || match item.get("images")?.as_array()?.as_slice() {
        [left, right] => Some([left.as_str()?.to_owned(), right.as_str()?.to_owned()]),
        _ => None,
    };
    let sides = || Some([text("left_image")?, text("right_image")?]);
    let named = || by_identifier(identifier.as_deref()?, item.get("directory"));
    let images = listed().or_else(sides).or_else(named)?;
    let key = identifier.unwrap_or_else(|| images.join(" "));
    Some(Pair { key, images, sentence, is_true: truth(item.get("label")) })
}

/// The images of a sentence by the name that NLVR2 gives it.
fn by_identifier(identifier: &str, directory: Option<&Value>) -> Option<[String; 2]> {
    let (part, _) = identifier.split_once('-')?;
    let (images, _sentence) = identifier.rsplit_once('-')?;
    let folder = match directory {
        Some(Value::Number(number)) => format!("{part}/{number}"),
        Some(Value::String(name)) => format!("{part}/{name}"),
        _ => part.to_owned(),
    };
    Some([0, 1].map(|side| format!("{folder}/{images}-img{side}.png")))
}

fn truth(label: Option<&Value>) -> Option<bool> {
    match label? {
        Value::Bool(is_true) => Some(*is_true),
        Value::Number(number) => number.as_u64().filter(|&number| number < 2).map(|number| number == 1),
        Value::String(word) if word.eq_ignore_ascii_case("true") => Some(true),
        Value::String(word) if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pairs_come_in_three_forms() {
        let read = |item: Value| {
            let Pair { key, images, is_true, .. } = pair(&item)?;
            Some((key, images.join("|"), is_true))
        };
        let expected = |key: &str, images: &str, is_true| Some((key.to_owned(), images.to_owned(), is_true));
        assert_eq!(
            read(json!({"images": ["a.png", "b.png"], "sentence": "x", "label": "True"})),
            expected("a.png b.png", "a.png|b.png", Some(true))
        );
        assert_eq!(
            read(json!({"left_image": "a", "right_image": "b", "sentence": "x", "label": false})),
            expected("a b", "a|b", Some(false))
        );
        let of_train =
            json!({"identifier": "train-10171-0-0", "directory": 40, "sentence": "x", "label": "False"});
        assert_eq!(
            read(of_train),
            expected(
                "train-10171-0-0",
                "train/40/train-10171-0-img0.png|train/40/train-10171-0-img1.png",
                Some(false)
            )
        );
        assert_eq!(
            read(json!({"identifier": "dev-850-0-1", "sentence": "x"})),
            expected("dev-850-0-1", "dev/dev-850-0-img0.png|dev/dev-850-0-img1.png", None)
        );
        for item in [json!({"images": ["a"], "sentence": "x"}), json!({"images": ["a", "b"]}), json!(3)] {
            assert_eq!(read(item), None);
        }
    }
}
