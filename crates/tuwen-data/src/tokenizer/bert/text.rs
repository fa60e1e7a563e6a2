//! What happens to a text before its words are cut into pieces: cleaning, lower-casing, splitting.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::BertFlavour;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A special token as it is written.
    Special(&'a str),
    /// What stands between two of them.
    Text(&'a str),
}

/// The parts of a text in their order.
pub(super) struct Pieces<'a, 's> {
    rest: &'a str,
    special: &'s [&'s str],
}

impl<'a, 's> Pieces<'a, 's> {
    pub(super) fn new(text: &'a str, special: &'s [&'s str]) -> Self {
        Self { rest: text, special }
    }
}

impl<'a> Iterator for Pieces<'a, '_> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let text = self.rest;
        // Each special token begins with a bracket, of which texts have few.
        let at = text.match_indices('[').find_map(|(at, _)| {
            let token = self.special.iter().find(|token| text[at..].starts_with(**token))?;
            Some((at, token.len()))
        });
        let (piece, end) = match at {
            Some((0, length)) => (Piece::Special(&text[..length]), length),
            Some((at, _)) => (Piece::Text(&text[..at]), at),
            None => (Piece::Text(text), text.len()),
        };
        self.rest = &text[end..];
        (end > 0).then_some(piece)
    }
}

/// Hands the words of a text to `visit`: in lower case, without accents; punctuation and ideographs stand alone.
pub(super) fn words(text: &str, flavour: BertFlavour, visit: impl FnMut(&str)) {
    let control = match flavour {
        BertFlavour::Original => &ORIGINAL_CONTROL,
        BertFlavour::HuggingFace => &HUGGING_FACE_CONTROL,
    };
    // Character by character, as both programs do: a sigma at the end of a word becomes none of its own.
    let lower: String = text.chars().flat_map(char::to_lowercase).collect();
    let prepared = without_accents(&cleaned(&lower, control));
    prepared.split_whitespace().flat_map(split_punctuation).for_each(visit);
}

/// Without control characters; each ideograph with spaces around it.
fn cleaned(text: &str, control: &Regex) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => clean.push(' '),
            '\0' | '\u{FFFD}' => {}
            c if c.is_ascii_graphic() => clean.push(c),
            c if is_ideograph(c) => clean.extend([' ', c, ' ']),
            c if control.is_match(c.encode_utf8(&mut buffer)) => {}
            c => clean.push(c),
        }
    }
    clean
}

fn without_accents(text: &str) -> String {
    let mut buffer = [0; 4];
    text.nfd().filter(|c| c.is_ascii() || !ACCENT.is_match(c.encode_utf8(&mut buffer))).collect()
}

/// The parts of a word: each punctuation character by itself.
fn split_punctuation(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = if is_punctuation(first) {
            first.len_utf8()
        } else {
            rest.find(is_punctuation).unwrap_or(rest.len())
        };
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part)
    })
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || (!c.is_ascii() && PUNCTUATION.is_match(c.encode_utf8(&mut [0; 4])))
}

/// The blocks of CJK unified ideographs that BERT sets apart; Hangul, Hiragana and Katakana are words as others.
fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '\u{20000}'..='\u{2A6DF}' | '\u{2A700}'..='\u{2B73F}'
        | '\u{2B740}'..='\u{2B81F}' | '\u{2B820}'..='\u{2CEAF}' | '\u{F900}'..='\u{FAFF}' | '\u{2F800}'..='\u{2FA1F}')
}

/// Every "other" code point: those of control and format, for private use, and not assigned.
static ORIGINAL_CONTROL: LazyLock<Regex> = LazyLock::new(|| compile(r"\p{C}"));
static HUGGING_FACE_CONTROL: LazyLock<Regex> = LazyLock::new(|| compile(r"\p{Cc}|\p{Cf}|\p{Co}"));
static ACCENT: LazyLock<Regex> = LazyLock::new(|| compile(r"\p{Mn}"));
static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| compile(r"\p{P}"));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is fixed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(text: &str, flavour: BertFlavour) -> Vec<String> {
        let mut found = Vec::new();
        words(text, flavour, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn words_are_plain() {
        for flavour in [BertFlavour::Original, BertFlavour::HuggingFace] {
            let words = words_of(" Naïve\u{AD}-Café's\t日本x\u{0}y ÅÉ…", flavour);
            assert_eq!(words, ["naive", "-", "cafe", "'", "s", "日", "本", "xy", "ae", "…"]);
        }
    }

    #[test]
    fn flavours_differ_in_code_points_that_are_not_assigned() {
        assert_eq!(words_of("a\u{FDD0} ΑΣ", BertFlavour::Original), ["a", "ασ"]);
        assert_eq!(words_of("a\u{FDD0} ΑΣ", BertFlavour::HuggingFace), ["a\u{FDD0}", "ασ"]);
    }

    #[test]
    fn special_tokens_stand_for_themselves() {
        let pieces: Vec<Piece> = Pieces::new("[a[SEP][cls]", &["[SEP]", "[CLS]"]).collect();
        assert_eq!(pieces, [Piece::Text("[a"), Piece::Special("[SEP]"), Piece::Text("[cls]")]);
    }
}
