//! Mojibake: UTF-8 that was read as a single-byte encoding, found and put right as ftfy does.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::badness::is_bad;
use super::codepages::{CODEPAGES, Codepage, Kind, windows_1252};

/// Repairs `text` in as many rounds as it takes; text that does not look damaged comes back as it is.
pub(super) fn fix_encoding(text: &str) -> Cow<'_, str> {
    let mut fixed = Cow::Borrowed(text);
    while let Some(better) = fix_one_round(&fixed).filter(|better| *better != fixed) {
        fixed = Cow::Owned(better);
    }
    fixed
}

/// Reads C1 control characters as Windows-1252.
pub(super) fn fix_c1_controls(text: &str) -> String {
    text.chars().map(|c| if is_c1(c) { windows_1252(c as u8) } else { c }).collect()
}

fn is_c1(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9F}')
}

fn fix_one_round(text: &str) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    if let Some(whole) = CODEPAGES.iter().find_map(|codepage| decode_as_utf8(text, codepage)) {
        return Some(whole);
    }
    let in_parts = fix_embedded(text);
    if in_parts != text {
        return Some(in_parts);
    }
    Some(fix_c1_controls(text))
}

/// Encodes `text` in `codepage` and reads the bytes as UTF-8, with lost bytes guessed or marked.
fn decode_as_utf8(text: &str, codepage: &Codepage) -> Option<String> {
    let mut bytes = codepage.encode(text)?;
    if codepage.kind != Kind::MacRoman && has_altered_sequence(&bytes) {
        bytes = restore_byte_a0(&bytes);
    }
    if codepage.kind == Kind::Windows {
        let mark = char::REPLACEMENT_CHARACTER.to_string();
        bytes = replace_sequences(&bytes, lossy_sequence, |_, out| out.extend(mark.bytes()));
    }
    decode_utf8_variants(&bytes)
}

/// Copies `bytes`, handing each sequence whose length `find` tells at its start to `replace`.
fn replace_sequences(
    bytes: &[u8],
    find: impl Fn(&[u8]) -> Option<usize>,
    replace: impl Fn(&[u8], &mut Vec<u8>),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        if let Some(length) = find(rest) {
            let (sequence, after) = rest.split_at(length);
            replace(sequence, &mut out);
            rest = after;
        } else {
            out.push(first);
            rest = after;
        }
    }
    out
}

fn has_altered_sequence(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| altered_sequence(&bytes[at..]).is_some())
}

/// The length of a UTF-8 sequence at the start of `bytes` one of whose bytes 0xA0 has become a space.
fn altered_sequence(bytes: &[u8]) -> Option<usize> {
    let continues = |b: u8| matches!(b, 0x80..=0xBF);
    // 0x85 is left to be an ellipsis.
    let strict = |b: u8| continues(b) && b != 0x85 && b != 0xA0;
    match *bytes {
        [0xC2 | 0xC3 | 0xC5 | 0xCE | 0xD0 | 0xD9, b' ', ..] => Some(2),
        [0xE2 | 0xE3, b' ', b, ..] | [0xE0..=0xE3, b, b' ', ..] if strict(b) => Some(3),
        [0xF0, b' ', b, c, ..] | [0xF0, b, b' ', c, ..] | [0xF0, b, c, b' ', ..]
            if continues(b) && continues(c) =>
        {
            Some(4)
        }
        _ => None,
    }
}

/// Puts back bytes 0xA0 that have become spaces. A single `Ã` before a space is the word "à" unless a
/// Portuguese contraction ("àquele", "às") follows, so it keeps its space.
fn restore_byte_a0(bytes: &[u8]) -> Vec<u8> {
    let a_grave = |b: &[u8]| {
        let rest = b.strip_prefix(b"\xC3 ")?;
        let part_of_word = [&b" "[..], b"quele", b"quela", b"quilo", b"s "];
        (!part_of_word.iter().any(|start| rest.starts_with(start))).then_some(2)
    };
    let bytes = replace_sequences(bytes, a_grave, |_, out| out.extend(b"\xC3\xA0 "));
    replace_sequences(&bytes, altered_sequence, |sequence, out| {
        out.extend(sequence.iter().map(|&b| if b == b' ' { 0xA0 } else { b }));
    })
}

/// The length of a UTF-8 or CESU-8 sequence at the start of `bytes` that has lost bytes: 0x1A marks one, and
/// `?` may be one.
fn lossy_sequence(bytes: &[u8]) -> Option<usize> {
    let lost = |b: u8| matches!(b, 0x1A | b'?');
    let possible = |b: u8| lost(b) || matches!(b, 0x80..=0xBF);
    let lossy = |tail: &[u8]| {
        tail.iter().all(|&b| possible(b))
            && tail.iter().any(|&b| lost(b))
            && tail.iter().filter(|&&b| b == b'?').count() < 2
    };
    match *bytes {
        [0xC2..=0xDF, 0x1A, ..] | [0xC2 | 0xC3, b'?', ..] => Some(2),
        [0xED, 0xA0..=0xAF, b, 0xED, 0xB0..=0xBF, c, ..]
            if possible(b) && possible(c) && (lost(b) || lost(c)) =>
        {
            Some(6)
        }
        [0xE0..=0xEF, b, c, ..] if lossy(&[b, c]) => Some(3),
        [0xF0..=0xF4, b, c, d, ..] if lossy(&[b, c, d]) => Some(4),
        [0x1A, ..] => Some(1),
        _ => None,
    }
}

/// Decodes UTF-8 in which a zero byte may be written as C0 80 and a character beyond U+FFFF as two surrogates of
/// three bytes each (CESU-8).
fn decode_utf8_variants(bytes: &[u8]) -> Option<String> {
    let variant = |b: &[u8]| match *b {
        [0xC0, 0x80, ..] => Some(2),
        [0xED, 0xA0..=0xAF, 0x80..=0xBF, 0xED, 0xB0..=0xBF, 0x80..=0xBF, ..] => Some(6),
        _ => None,
    };
    let bytes = replace_sequences(bytes, variant, |sequence, out| match *sequence {
        [_, high, middle, _, low, last] => {
            let bits = |b: u8, mask: u8, shift: u32| u32::from(b & mask) << shift;
            let code =
                bits(high, 0x0F, 16) + bits(middle, 0x3F, 10) + bits(low, 0x0F, 6) + bits(last, 0x3F, 0);
            let character = char::from_u32(0x10000 + code).unwrap_or(char::REPLACEMENT_CHARACTER);
            out.extend(character.to_string().bytes());
        }
        _ => out.push(0),
    });
    String::from_utf8(bytes).ok()
}

/// What byte of a UTF-8 sequence a character can stand for in mojibake, as a set of bits.
static ROLES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let mut roles = HashMap::from([(' ', CONTINUES)]);
    let windows_or_latin1 = CODEPAGES.iter().filter(|page| matches!(page.kind, Kind::Latin1 | Kind::Windows));
    for (c, byte) in windows_or_latin1.flat_map(Codepage::characters) {
        let role = match byte {
            0x80..=0xBF if "–—―‘’‚“”„•…".contains(c) => CONTINUES,
            0x80..=0xBF => CONTINUES | NEVER_ALONE,
            0xC2..=0xDF => FIRST_OF_2,
            0xE0..=0xEF => FIRST_OF_3,
            0xF0 | 0xF3 => FIRST_OF_4,
            _ => 0,
        };
        *roles.entry(c).or_default() |= role;
    }
    roles
});
const CONTINUES: u8 = 1;
/// A continuation that is no common punctuation, so that mojibake cannot begin right after it.
const NEVER_ALONE: u8 = 2;
const FIRST_OF_2: u8 = 4;
const FIRST_OF_3: u8 = 8;
const FIRST_OF_4: u8 = 16;

/// Repairs runs of mojibake in text that is not mojibake as a whole.
fn fix_embedded(text: &str) -> String {
    let characters: Vec<(usize, u8)> =
        text.char_indices().map(|(at, c)| (at, ROLES.get(&c).copied().unwrap_or(0))).collect();
    let offset = |index: usize| characters.get(index).map_or(text.len(), |&(at, _)| at);
    let mut fixed = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let mut end = at;
        if at == 0 || characters[at - 1].1 & NEVER_ALONE == 0 {
            while let Some(length) = mojibake_sequence(&characters[end..]) {
                end += length;
            }
        }
        let run = &text[offset(at)..offset(end)];
        if !run.is_empty() && run.len() < text.len() && is_bad(run) {
            fixed.push_str(&fix_encoding(run));
        } else {
            end = end.max(at + 1);
            fixed.push_str(&text[offset(at)..offset(end)]);
        }
        at = end;
    }
    fixed
}

/// The number of characters at the start that stand for the bytes of one UTF-8 sequence.
fn mojibake_sequence(characters: &[(usize, u8)]) -> Option<usize> {
    let first = characters.first()?.1;
    let continued = characters[1..].iter().take_while(|(_, role)| role & CONTINUES != 0).take(3).count();
    [(FIRST_OF_2, 2), (FIRST_OF_3, 3), (FIRST_OF_4, 4)]
        .into_iter()
        .find_map(|(role, length)| (first & role != 0 && continued + 1 >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_as_ftfy_does() {
        // Results of ftfy 6.3.1's fix_encoding.
        for (damaged, repaired) in [
            ("schön, naïve", "schön, naïve"),
            ("FranÃ§ais Ã©tÃ©", "Français été"),
            ("ÃƒÂ©", "é"),
            ("âœ” No problems", "✔ No problems"),
            ("voilÃ le travail, Ã la mode", "voilà le travail, à la mode"),
            ("â€œlost â€\u{FFFD}", "“lost \u{FFFD}"),
            ("РїСЂРёРІРµС‚", "привет"),
            ("‚Äúmac‚Äù", "“mac”"),
            ("日本 and Ã©tÃ©", "日本 and été"),
            ("c1 \u{85} \u{81}", "c1 … \u{81}"),
            ("í\u{A0}½í¸€", "😀"),
        ] {
            assert_eq!(fix_encoding(damaged), repaired, "{damaged:?}");
        }
    }

    #[test]
    fn decodes_cesu_8_and_java_zeros() {
        assert_eq!(decode_utf8_variants(b"a\xC0\x80\xED\xA0\xBD\xED\xB8\x80").as_deref(), Some("a\0😀"));
        assert_eq!(decode_utf8_variants(b"\xED\xA0\xBD"), None);
    }
}
