//! The printable characters that stand for bytes in the vocabulary files of byte-level tokenizers.

use std::sync::LazyLock;

/// Ends the last token of a word.
pub(super) const END_OF_WORD: &str = "</w>";

/// All bytes with their characters in the order of CLIP's ids: printable bytes of Latin-1 stand for themselves and
/// come first, the 68 others are U+0100 and the following.
fn symbols_by_id() -> impl Iterator<Item = (u8, char)> {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=255).filter(move |byte| !printable(byte)).zip('\u{100}'..);
    (0..=255).filter(printable).map(|byte| (byte, char::from(byte))).chain(others)
}

/// The character of each byte.
pub(super) static SYMBOLS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut symbols = ['\0'; 256];
    symbols_by_id().for_each(|(byte, symbol)| symbols[usize::from(byte)] = symbol);
    symbols
});

/// The 512 tokens that CLIP's vocabulary begins with: the bytes, then the bytes at the end of a word.
pub(super) fn byte_tokens() -> Vec<String> {
    let inside = symbols_by_id().map(|(_, symbol)| String::from(symbol));
    inside.chain(symbols_by_id().map(|(_, symbol)| format!("{symbol}{END_OF_WORD}"))).collect()
}

/// `word` with a character for each byte.
pub(super) fn symbols_of(word: &str) -> String {
    word.bytes().map(|byte| SYMBOLS[usize::from(byte)]).collect()
}

/// The bytes that `token` stands for; characters that stand for no byte are kept as UTF-8.
pub(super) fn token_bytes(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for symbol in token.chars() {
        match (0..=255).find(|&byte| SYMBOLS[usize::from(byte)] == symbol) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_those_of_gpt_2() {
        let tokens = byte_tokens();
        assert_eq!(tokens.len(), 512);
        assert_eq!(
            [&tokens[0], &tokens[93], &tokens[94], &tokens[187], &tokens[188]],
            ["!", "~", "¡", "ÿ", "Ā"]
        );
        assert_eq!([&tokens[255], &tokens[256], &tokens[511]], ["Ń", "!</w>", "Ń</w>"]);
        assert_eq!([SYMBOLS[0], SYMBOLS[0x20], SYMBOLS[0x7F], SYMBOLS[0xAD]], ['Ā', 'Ġ', 'ġ', 'Ń']);
        assert_eq!(token_bytes("aĠÃ©語"), b"a \xC3\xA9\xE8\xAA\x9E");
    }
}
