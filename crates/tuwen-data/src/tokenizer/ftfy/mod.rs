//! Repair of damaged Unicode text as done by ftfy 6.3 (`fix_text` with its default settings), which OpenAI's and
//! open_clip's tokenizers run on every text.
//!
//! ftfy is by Robyn Speer (Apache-2.0); its rules are restated here, since equal ids need equal repairs. Not
//! needed in Rust: joining UTF-16 surrogates, which a `str` cannot hold. ftfy also cuts lines above a million
//! characters into pieces; here a line is always one piece.

mod badness;
mod codepages;
pub(super) mod html;
mod mojibake;

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// Repairs `text` line by line: HTML entities (until a line holds a literal `<`), mojibake, C1 controls,
/// ligatures, character widths, curly quotes, line breaks, terminal escapes, control characters, then NFC.
pub(super) fn fix_text(text: &str) -> Cow<'_, str> {
    if is_clean_ascii(text) {
        return Cow::Borrowed(text);
    }
    let mut unescape = true;
    let mut fixed = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        unescape &= !line.contains('<');
        fixed.push_str(&fix_line(line, unescape));
    }
    Cow::Owned(fixed)
}

/// Whether no rule applies to `text`: printable ASCII and plain white space without `&`.
fn is_clean_ascii(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\n') && b != b'&')
}

/// So many times are the rules applied; only text made to waste time (`&amp;amp;amp;...`) needs more than a few.
const MAX_ROUNDS: usize = 100;

/// Applies all rules again and again until nothing changes any more.
fn fix_line(line: &str, unescape: bool) -> String {
    let mut text = line.to_owned();
    for _ in 0..MAX_ROUNDS {
        let mut fixed = if unescape { html::unescape_unambiguous(&text) } else { text.clone() };
        fixed = mojibake::fix_c1_controls(&mojibake::fix_encoding(&fixed));
        fixed = replace_characters(&fixed);
        fixed = remove_terminal_escapes(&fixed).replace("\r\n", "\n");
        fixed = fixed.chars().filter_map(plain_control).nfc().collect();
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

/// Takes Latin ligatures apart, gives full-width and half-width characters their usual width and straightens
/// quotes.
fn replace_characters(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'ŉ' => replaced.push_str("'n"),
            'ﬅ' => replaced.push_str("ſt"),
            'Ĳ' | 'ĳ' | 'Ǆ'..='ǌ' | 'Ǳ'..='ǳ' | 'ﬀ'..='ﬄ' | 'ﬆ' | '\u{3000}' | '\u{FF01}'..='\u{FFEF}' =>
            {
                replaced.extend(std::iter::once(c).nfkc());
            }
            '\u{2BC}' | '\u{2018}'..='\u{201B}' => replaced.push('\''),
            '\u{201C}'..='\u{201F}' => replaced.push('"'),
            _ => replaced.push(c),
        }
    }
    replaced
}

/// Removes ANSI sequences such as `ESC [31;1m`.
fn remove_terminal_escapes(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let command = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        if command.starts_with(|c: char| c.is_ascii_alphabetic()) {
            kept.push_str(&command[1..]);
        } else {
            kept.push_str("\x1b[");
            kept.push_str(part);
        }
    }
    kept
}

/// Turns line and paragraph separators into `\n` and drops control characters without a meaning in text.
fn plain_control(c: char) -> Option<char> {
    match c {
        '\r' | '\u{2028}' | '\u{2029}' => Some('\n'),
        '\0'..='\u{8}' | '\u{B}' | '\u{E}'..='\u{1F}' | '\u{7F}' => None,
        '\u{206A}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFC}' => None,
        _ => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ascii_is_borrowed() {
        assert!(matches!(fix_text("A cat, <b>2</b>\t\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn repairs_each_kind_of_damage() {
        for (damaged, repaired) in [
            ("‘curly’ “quotes” ʼs", "'curly' \"quotes\" 's"),
            ("ﬁ ﬂ ﬀ ﬃ ﬅ ĳ ŉ ǆ Ǳ ǈ", "fi fl ff ffi ſt ij 'n dž DZ Lj"),
            ("ＦＵＬＬ\u{3000}ｶﾞ", "FULL ガ"),
            ("a\r\nb\rc\u{2028}d\u{85}", "a\nb\nc\nd…"),
            ("esc\x1b[31;1mred\x1b[0m \x1b[?", "escred [?"),
            ("\u{FEFF}nul\0 bell\x07 c1 \u{80}", "nul bell c1 €"),
            ("e\u{301}", "é"),
            ("&amp;lt; &eacute;", "< é"),
            ("schÃ¶n sÃ³", "schön só"),
        ] {
            assert_eq!(fix_text(damaged), repaired, "{damaged:?}");
        }
    }

    #[test]
    fn entities_stay_from_the_first_line_with_a_tag_on() {
        assert_eq!(fix_text("&eacute;\n<b>&eacute;\n&eacute;"), "é\n<b>&eacute;\n&eacute;");
    }
}
