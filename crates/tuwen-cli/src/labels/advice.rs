//! Notes on languages: a byte-level tokenizer can write down any text, which says nothing of what a model knows.

use std::collections::HashMap;
use std::path::Path;

use tuwen::{ClipModel, GroundedModel, Model};
use tuwen_data::tokenizer::ClipTokenizer;
use unicode_script::{Script, UnicodeScript as _};

use crate::console::Console;

/// Examples in a note.
const SHOWN: usize = 3;

/// Says which texts are in a script that the model's tokenizer knows only letter by letter or byte by byte, or hold words
/// that it does not know at all.
pub fn note_unknown_scripts(noun: &str, texts: &[String], model: &Model, console: &Console) {
    let chosen = |is: &dyn Fn(&str) -> bool| -> Vec<&str> {
        texts.iter().map(String::as_str).filter(|text| is(text)).collect()
    };
    let (unknown, why) = if let Some(tokenizer) = model.clip().and_then(ClipModel::tokenizer) {
        let why = "are in a script that this model's tokenizer knows only letter by letter or byte by byte";
        (chosen(&|text| is_spelt_out(text, tokenizer)), why)
    } else if let Some(tokenizer) = model.grounded().and_then(GroundedModel::tokenizer) {
        (chosen(&|text| tokenizer.has_unknown(text)), "have words that this model's tokenizer does not know")
    } else {
        return;
    };
    if unknown.is_empty() {
        return;
    }
    let more = if unknown.len() > SHOWN { ", ..." } else { "" };
    let examples = unknown[..unknown.len().min(SHOWN)].join(", ");
    console.note(format_args!(
        "note: {} of {} {noun} ({examples}{more}) {why}: expect guesses",
        unknown.len(),
        texts.len(),
    ));
}

/// Whether a text in another script than Latin takes a token or more for each of its letters. OpenAI's vocabulary takes
/// 0.1 to 0.6 tokens a letter for European languages in Latin script, 1.0 to 1.2 for Cyrillic and Arabic, 2 for Greek
/// and Hebrew, 1.5 to 3 for Chinese, Japanese and Korean.
fn is_spelt_out(text: &str, tokenizer: &ClipTokenizer) -> bool {
    let Some(script) = main_script([text]) else { return false };
    let letters = text.chars().filter(|c| !c.is_whitespace()).count();
    let tokens = tokenizer.encode(text).len();
    match script {
        Script::Latin => false,
        // A character is a syllable or a word: a token for each is as good as it gets.
        Script::Han | Script::Hangul => tokens > letters,
        _ => tokens >= letters,
    }
}

/// Says that labels and templates make no sentence together: they are in different scripts, or come from files whose
/// names tell different languages, as `en_classnames.json` and `it_zeroshot_classification_templates.json` do.
pub fn note_mixed_languages(
    (labels, labels_file): (&[String], Option<&Path>),
    (templates, templates_file): (&[String], Option<&Path>),
    console: &Console,
) {
    let scripts = main_script(labels.iter().map(String::as_str))
        .zip(main_script(templates.iter().map(|template| template.as_str())));
    let languages = labels_file.and_then(language).zip(templates_file.and_then(language));
    match (scripts, languages) {
        (Some((of_labels, of_templates)), _) if of_labels != of_templates => console.note(format_args!(
            "note: the labels are in {} script and the templates in {}: they make no sentence of either language",
            of_labels.full_name(),
            of_templates.full_name(),
        )),
        (_, Some((of_labels, of_templates))) if of_labels != of_templates => console.note(format_args!(
            "note: by the names of their files the labels are in language {of_labels:?} and the templates in \
             {of_templates:?}: they make no sentence of either language",
        )),
        _ => {}
    }
}

/// The script of most letters; Chinese and Japanese count as one. None where there are no letters.
fn main_script<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<Script> {
    let mut counts: HashMap<Script, usize> = HashMap::new();
    for letter in texts.into_iter().flat_map(str::chars).filter(|c| c.is_alphabetic()) {
        let script = match letter.script() {
            Script::Common | Script::Inherited | Script::Unknown => continue,
            Script::Hiragana | Script::Katakana | Script::Bopomofo => Script::Han,
            script => script,
        };
        *counts.entry(script).or_default() += 1;
    }
    counts
        .into_iter()
        .max_by_key(|&(script, count)| (count, script == Script::Latin))
        .map(|(script, _)| script)
}

/// The two letters of a language that a file name begins with.
fn language(path: &Path) -> Option<&str> {
    let (language, _) = path.file_name()?.to_str()?.split_once('_')?;
    let is_code = language.len() == 2 && language.bytes().all(|byte| byte.is_ascii_lowercase());
    is_code.then_some(language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_s_vocabulary_knows_latin_script() {
        let tokenizer = ClipTokenizer::openai();
        for known in
            ["cat", "hippopotamus", "Straßenbahn", "Gänseblümchen", "éléphant", "mèo", "Łódź", "😀", "7", ""]
        {
            assert!(!is_spelt_out(known, &tokenizer), "{known}");
        }
        for unknown in ["кошка", "γάτα", "猫", "自行车", "ねこ", "고양이", "قط", "חתול", "बिल्ली", "แมว"]
        {
            assert!(is_spelt_out(unknown, &tokenizer), "{unknown}");
        }
    }

    #[test]
    fn scripts_and_languages_are_told_apart() {
        assert_eq!(main_script(["a photo of a {}."]), Some(Script::Latin));
        assert_eq!(main_script(["{}の写真", "ネコ"]), Some(Script::Han));
        assert_eq!(main_script(["кот 1", "cat", "слон"]), Some(Script::Cyrillic));
        assert_eq!(main_script(["{}", "123"]), None);
        assert_eq!(language(Path::new("data/it_classnames.json")), Some("it"));
        assert_eq!(language(Path::new("my_labels.txt")), Some("my"));
        assert_eq!(language(Path::new("classnames.json")), None);
    }
}
