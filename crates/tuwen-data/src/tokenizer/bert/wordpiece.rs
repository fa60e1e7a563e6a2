//! Words into the longest pieces that the vocabulary has, and pieces into text.

use std::collections::HashMap;

/// What stands before a piece that continues a word.
const CONTINUES: &str = "##";
/// A longer word is unknown as a whole.
const MAX_CHARS: usize = 100;

/// Appends the ids of a word: at each place the longest piece that the vocabulary has; `unknown` if there is none
/// somewhere.
pub(super) fn encode(word: &str, ids: &HashMap<String, u32>, unknown: u32, out: &mut Vec<u32>) {
    let begin = out.len();
    let mut rest = if word.chars().count() > MAX_CHARS { None } else { Some(word) };
    while let Some(part) = rest.filter(|part| !part.is_empty()) {
        let prefix = if out.len() > begin { CONTINUES } else { "" };
        rest = longest(part, prefix, ids).map(|(id, length)| {
            out.push(id);
            &part[length..]
        });
    }
    if rest.is_none() {
        out.truncate(begin);
        out.push(unknown);
    }
}

/// The longest beginning of `part` that is a piece: its id and its length in bytes.
fn longest(part: &str, prefix: &str, ids: &HashMap<String, u32>) -> Option<(u32, usize)> {
    let mut piece = format!("{prefix}{part}");
    while piece.len() > prefix.len() {
        if let Some(&id) = ids.get(&piece) {
            return Some((id, piece.len() - prefix.len()));
        }
        piece.pop();
    }
    None
}

/// Joins pieces to words and these with spaces.
pub(super) fn decode<'t>(tokens: impl Iterator<Item = &'t String>) -> String {
    let mut text = tokens.map(String::as_str).collect::<Vec<_>>().join(" ").replace(" ##", "");
    for (spaced, joined) in [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        text = text.replace(spaced, joined);
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_piece_first_and_a_word_is_known_as_a_whole_or_not() {
        let ids: HashMap<String, u32> =
            ["un", "##aff", "##able", "unaffe", "a"].iter().map(|token| token.to_string()).zip(1..).collect();
        let encoded = |word: &str| {
            let mut out = vec![99];
            encode(word, &ids, 0, &mut out);
            out
        };
        assert_eq!(encoded("unaffable"), [99, 1, 2, 3]);
        assert_eq!(encoded("unaffx"), [99, 0]);
        assert_eq!(encoded(""), [99]);
        assert_eq!(encoded(&"a".repeat(101)), [99, 0]);
    }
}
