//! Prompts for zero-shot classification: sentences with a `{}` where the label goes.

use crate::Error;

/// The prompt of one plain sentence.
pub const PHOTO: &str = "a photo of a {}.";

/// The seven of OpenAI's 80 ImageNet prompts that do best together (openai/CLIP,
/// `notebooks/Prompt_Engineering_for_ImageNet.ipynb`).
pub const IMAGENET7: [&str; 7] = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
];

/// A set of prompts by its name.
pub fn find(name: &str) -> Option<&'static [&'static str]> {
    (name == "imagenet7").then_some(&IMAGENET7)
}

/// Every label in every template: all prompts of the first label, then those of the second.
///
/// # Errors
/// A template without `{}`.
pub fn fill(labels: &[impl AsRef<str>], templates: &[impl AsRef<str>]) -> Result<Vec<String>, Error> {
    if let Some(bad) = templates.iter().find(|template| !template.as_ref().contains("{}")) {
        return Err(Error::Template(bad.as_ref().to_owned()));
    }
    let prompts = labels
        .iter()
        .flat_map(|label| templates.iter().map(|template| template.as_ref().replace("{}", label.as_ref())));
    Ok(prompts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_where_the_braces_are() {
        let prompts = fill(&["cat", "{}"], &["a {}.", "{} and {}"]).expect("filled");
        assert_eq!(prompts, ["a cat.", "cat and cat", "a {}.", "{} and {}"]);
        assert!(fill(&["cat"], &["a photo"]).expect_err("no braces").to_string().contains("a photo"));
        assert_eq!(find("imagenet7").map(<[_]>::len), Some(7));
    }
}
