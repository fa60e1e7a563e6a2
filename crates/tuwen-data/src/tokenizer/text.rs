//! What happens to a text before its words are encoded: cleaning and splitting, for each [`Flavour`].
//!
//! What is a letter follows the Unicode version of the crate `regex`; the original programs may know of some more
//! or fewer code points.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::vocabulary::{OPEN_CLIP_SPECIAL, OPENAI_SPECIAL};
use super::{Flavour, ftfy};

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Start,
    End,
    /// Letters, one number, punctuation, or an English contraction such as `'ll`.
    Word(&'a str),
}

/// Cuts `text` into pieces and hands them to `visit` in their order; white space is dropped.
pub(super) fn split(text: &str, flavour: Flavour, mut visit: impl FnMut(Piece<'_>)) {
    match flavour {
        Flavour::OpenAi => split_cleaned(&clean(text), &OPENAI_WORD, &OPENAI_SPECIAL, &mut visit),
        Flavour::OpenClip => split_cleaned(&clean(text), &OPEN_CLIP_WORD, &OPEN_CLIP_SPECIAL, &mut visit),
        Flavour::HuggingFace => split_hugging_face(text, &mut visit),
    }
}

/// Repairs a text, resolves HTML references that were escaped up to twice, and lower-cases it. White space need not
/// be changed, since only words are looked at.
fn clean(text: &str) -> String {
    let text = ftfy::fix_text(text);
    if text.contains('&') {
        return ftfy::html::unescape(&ftfy::html::unescape(&text)).to_lowercase();
    }
    text.to_lowercase()
}

fn split_cleaned(text: &str, word: &Regex, [start, end]: &[&str; 2], visit: &mut impl FnMut(Piece<'_>)) {
    for word in word.find_iter(text) {
        visit(match word.as_str() {
            word if word == *start => Piece::Start,
            word if word == *end => Piece::End,
            word => Piece::Word(word),
        });
    }
}

/// Start and end count only as they are written, wherever they stand. The text between them is composed (NFC) and
/// lower-cased character by character; start and end that come of it fall to pieces.
fn split_hugging_face(text: &str, visit: &mut impl FnMut(Piece<'_>)) {
    let mut done = 0;
    for special in HUGGING_FACE_SPECIAL.find_iter(text) {
        split_between(&text[done..special.start()], visit);
        visit(if special.as_str() == OPENAI_SPECIAL[0] { Piece::Start } else { Piece::End });
        done = special.end();
    }
    split_between(&text[done..], visit);
}

fn split_between(text: &str, visit: &mut impl FnMut(Piece<'_>)) {
    let text: String = text.nfc().flat_map(char::to_lowercase).collect();
    for word in HUGGING_FACE_WORD.find_iter(&text) {
        if word.as_str().starts_with("<|") {
            PLAIN_WORD.find_iter(word.as_str()).for_each(|part| visit(Piece::Word(part.as_str())));
        } else {
            visit(Piece::Word(word.as_str()));
        }
    }
}

static OPENAI_WORD: LazyLock<Regex> = LazyLock::new(|| word_regex("(?i)", &OPENAI_SPECIAL));
static OPEN_CLIP_WORD: LazyLock<Regex> = LazyLock::new(|| word_regex("(?i)", &OPEN_CLIP_SPECIAL));
/// The words of a text in lower case, as `tokenizer.json` has it.
pub(super) static HUGGING_FACE_WORD: LazyLock<Regex> = LazyLock::new(|| word_regex("", &OPENAI_SPECIAL));
static PLAIN_WORD: LazyLock<Regex> = LazyLock::new(|| word_regex("", &[]));
static HUGGING_FACE_SPECIAL: LazyLock<Regex> = LazyLock::new(|| compile(&escaped(&OPENAI_SPECIAL).join("|")));

/// The alternatives are tried from left to right at each place, so the special strings come first.
fn word_regex(flags: &str, special: &[&str]) -> Regex {
    let mut alternatives = escaped(special);
    alternatives.push(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+".to_owned());
    compile(&format!("{flags}{}", alternatives.join("|")))
}

fn escaped(special: &[&str]) -> Vec<String> {
    special.iter().map(|special| regex::escape(special)).collect()
}

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is fixed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, flavour: Flavour) -> Vec<String> {
        let mut pieces = Vec::new();
        split(text, flavour, |piece| {
            pieces.push(match piece {
                Piece::Start => "START".to_owned(),
                Piece::End => "END".to_owned(),
                Piece::Word(word) => word.to_owned(),
            });
        });
        pieces
    }

    #[test]
    fn words_numbers_punctuation_and_contractions() {
        for flavour in [Flavour::OpenAi, Flavour::OpenClip, Flavour::HuggingFace] {
            let text = " I'LL be\u{A0}25?!\n They've";
            assert_eq!(pieces(text, flavour), ["i", "'ll", "be", "2", "5", "?!", "they", "'ve"]);
        }
    }

    #[test]
    fn only_two_of_the_flavours_clean() {
        assert_eq!(pieces("Tom&amp;amp;lt;", Flavour::OpenAi), ["tom", "<"]);
        assert_eq!(pieces("‘Ａ’", Flavour::OpenClip), ["'", "a", "'"]);
        assert_eq!(pieces("‘Ａ’&lt;", Flavour::HuggingFace), ["‘", "ａ", "’&", "lt", ";"]);
        assert_eq!(pieces("E\u{301}ΑΣ", Flavour::HuggingFace), ["éας".replace('ς', "σ")]);
    }

    #[test]
    fn each_flavour_has_its_start_and_end() {
        let text = "<|startoftext|>a!<|endoftext|> <|ENDOFTEXT|>?<start_of_text>";
        let parts = ["<", "start", "_", "of", "_", "text", ">"];
        let expected = [&["START", "a", "!<|", "endoftext", "|>", "END", "?<"], &parts[1..]].concat();
        assert_eq!(pieces(text, Flavour::OpenAi), expected);
        let expected = [&["START", "a", "!", "END", "<|", "endoftext", "|>", "?<"], &parts[1..]].concat();
        assert_eq!(pieces(text, Flavour::HuggingFace), expected);
        assert_eq!(pieces("<end_of_text><|endoftext|>", Flavour::OpenClip), ["END", "<|", "endoftext", "|>"]);
    }
}
