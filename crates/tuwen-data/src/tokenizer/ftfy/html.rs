//! HTML character references: Python's `html.unescape` and the careful variant of ftfy.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::codepages::windows_1252;

/// The HTML5 names without `&`, most of them with `;`, and the characters they stand for.
static ENTITIES: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| entities::ENTITIES.iter().map(|e| (&e.entity[1..], e.characters)).collect());

/// Replaces every character reference as Python's `html.unescape` does: names also without `;`, the longest
/// known prefix of an unknown name, and nothing for numbers of non-characters.
pub(crate) fn unescape(text: &str) -> String {
    replace_references(text, |body| match numeric_length(body) {
        Some(length) => {
            let consumed = length + usize::from(body[length..].starts_with(';'));
            Some((numeric(&body[..length]), consumed))
        }
        None => named(body),
    })
}

/// Replaces only references that end in `;` and are known, and names in capitals such as `&EACUTE;`.
pub(super) fn unescape_unambiguous(text: &str) -> String {
    replace_references(text, |body| {
        let end = body.bytes().take(26).position(|b| b == b';')?;
        let name = body[..end].strip_prefix('#').unwrap_or(&body[..end]);
        if !(1..=24).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let replacement = if body.starts_with('#') {
            (numeric_length(body)? == end).then(|| numeric(&body[..end])).filter(|c| c != ";")
        } else {
            ENTITIES.get(&body[..=end]).map(|c| (*c).to_owned()).or_else(|| capitals(&body[..=end]))
        };
        Some((replacement?, end + 1))
    })
}

/// Calls `replace` with what follows each `&`; it returns the replacement and how many bytes of it are used up.
fn replace_references(text: &str, replace: impl Fn(&str) -> Option<(String, usize)>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        replaced.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match replace(rest) {
            Some((characters, consumed)) => {
                replaced.push_str(&characters);
                rest = &rest[consumed..];
            }
            None => replaced.push('&'),
        }
    }
    replaced + rest
}

/// The length of `#123` or `#x1F` at the start of `body`, or `None` where no number starts.
fn numeric_length(body: &str) -> Option<usize> {
    let prefix = if body.starts_with("#x") || body.starts_with("#X") { 2 } else { 1 };
    let digits = body.strip_prefix('#')?.as_bytes()[prefix - 1..]
        .iter()
        .take_while(|b| if prefix == 2 { b.is_ascii_hexdigit() } else { b.is_ascii_digit() })
        .count();
    (digits > 0).then_some(prefix + digits)
}

/// The character that the reference `#123` or `#x1F` stands for by the rules of HTML5.
fn numeric(reference: &str) -> String {
    let (digits, radix) = match reference[1..].strip_prefix(['x', 'X']) {
        Some(hexadecimal) => (hexadecimal, 16),
        None => (&reference[1..], 10),
    };
    match u32::from_str_radix(digits, radix) {
        Ok(0) => char::REPLACEMENT_CHARACTER.into(),
        Ok(code @ 0x80..=0x9F) => windows_1252(code as u8).into(),
        Ok(0x01..=0x08 | 0x0B | 0x0E..=0x1F | 0x7F | 0xFDD0..=0xFDEF) => String::new(),
        Ok(code) if code <= 0x10_FFFF && code & 0xFFFE == 0xFFFE => String::new(),
        Ok(code) => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).into(),
        Err(_) => char::REPLACEMENT_CHARACTER.into(),
    }
}

/// Resolves the longest known name at the start of `body`, among the names of 2 characters and more.
fn named(body: &str) -> Option<(String, usize)> {
    let ends_name = |c: char| matches!(c, '\t' | '\n' | '\x0C' | ' ' | '<' | '&' | '#' | ';');
    let mut length = body.find(ends_name).unwrap_or(body.len());
    length = body[..length].char_indices().nth(32).map_or(length, |(at, _)| at);
    length += usize::from(body[length..].starts_with(';'));
    let (characters, used) = (2..=length)
        .rev()
        .filter(|&end| body.is_char_boundary(end))
        .find_map(|end| Some((*ENTITIES.get(&body[..end])?, end)))?;
    Some((format!("{characters}{}", &body[used..length]), length))
}

/// Resolves a lower-case name that was put into capitals (`EACUTE;`), unless it means something as it stands.
fn capitals(name: &str) -> Option<String> {
    if name.bytes().any(|b| b.is_ascii_lowercase()) || named(name).is_some() {
        return None;
    }
    Some(ENTITIES.get(name.to_ascii_lowercase().as_str())?.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_as_python_does() {
        // Results of Python 3.11's html.unescape.
        for (escaped, plain) in [
            ("&lt;tag&gt; &amp &ampx &notit; &notin;", "<tag> & &x ¬it; ∉"),
            ("&#39;&#x27;&#X27 &#65b &#;&#x;&#xg;", "''' Ab &#;&#x;&#xg;"),
            ("&#0;&#128;&#129;&#xD800;&#1114112;&#99999999999;", "\u{FFFD}€\u{81}\u{FFFD}\u{FFFD}\u{FFFD}"),
            ("a&#1;&#xFFFE;&#xFDD0;&#x1FFFF;b", "ab"),
            ("&unknown; & &; &&amp;& &é; R&D", "&unknown; & &; &&& &é; R&D"),
            ("&CounterClockwiseContourIntegral;", "∳"),
            (
                "&ltaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;",
                "<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;",
            ),
        ] {
            assert_eq!(unescape(escaped), plain, "{escaped:?}");
        }
    }

    #[test]
    fn the_careful_variant_wants_a_semicolon_and_knows_capitals() {
        // Results of ftfy 6.3.1's unescape_html.
        for (escaped, plain) in [
            ("&ntilde; &Ntilde; &NTILDE; &nTILDE;", "ñ Ñ Ñ &nTILDE;"),
            ("STRA&SZLIG;E &AMP; &GTDOT; &amp &notit;", "STRASSE & &GTDOT; &amp &notit;"),
            ("&#39; &#x27; &#39 &#59; &#12ab; &#;", "' ' &#39 &#59; &#12ab; &#;"),
        ] {
            assert_eq!(unescape_unambiguous(escaped), plain, "{escaped:?}");
        }
    }
}
