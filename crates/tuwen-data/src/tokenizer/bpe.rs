//! Byte-pair encoding of words with the end-of-word mark `</w>`, as CLIP uses it.
//!
//! A token is written in printable characters, one for each byte ([`byte_symbol`]); that is how vocabulary files
//! hold it. The encoder itself works on ids.

use std::collections::HashMap;
use std::sync::RwLock;

use super::VocabularyError;

/// Ends the last token of a word.
pub(super) const END_OF_WORD: &str = "</w>";

/// Words of at most this many bytes are remembered, up to [`REMEMBERED_WORDS`] of them.
const REMEMBERED_LENGTH: usize = 48;
const REMEMBERED_WORDS: usize = 1 << 16;

/// Whether a byte is written as the character of the same code.
fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// All bytes in the order of their ids: the printable ones first.
fn bytes_by_id() -> impl Iterator<Item = u8> {
    (0..=255).filter(|&b| is_printable(b)).chain((0..=255).filter(|&b| !is_printable(b)))
}

/// The printable characters of [`bytes_by_id`]: bytes that are not printable are U+0100 and the following.
fn symbols_by_id() -> impl Iterator<Item = char> {
    bytes_by_id().zip(0u32..).map(|(byte, id)| match id {
        0..188 => char::from(byte),
        _ => char::from_u32(256 + id - 188).expect("68 code points from U+0100 on are characters"),
    })
}

/// The 512 tokens that every vocabulary of CLIP's begins with: the bytes, then the bytes at the end of a word.
pub(super) fn byte_tokens() -> Vec<String> {
    symbols_by_id().map(String::from).chain(symbols_by_id().map(|symbol| format!("{symbol}{END_OF_WORD}"))).collect()
}

/// The printable character for each byte.
pub(super) fn byte_symbols() -> [char; 256] {
    let mut symbols = ['\0'; 256];
    for (byte, symbol) in bytes_by_id().zip(symbols_by_id()) {
        symbols[usize::from(byte)] = symbol;
    }
    symbols
}

/// A pair of adjacent tokens.
pub(super) type Pair = (u32, u32);

/// A vocabulary with its merges.
pub(super) struct Bpe {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
    /// The pairs in the order of their ranks.
    merges: Vec<Pair>,
    /// Rank of a pair and the token that it makes.
    ranks: HashMap<Pair, (u32, u32)>,
    /// Id of each byte inside a word and at its end.
    bytes: [Pair; 256],
    remembered: RwLock<HashMap<Box<str>, Box<[u32]>>>,
}

impl Bpe {
    /// `tokens` are in the order of their ids, `merges` in the order of their ranks. Tokens that no merge makes,
    /// such as the start and the end of a text, are allowed.
    pub fn new<T: AsRef<str>>(tokens: Vec<String>, merges: &[(T, T)]) -> Result<Self, VocabularyError> {
        let ids = index(&tokens)?;
        let pairs = merges.iter().enumerate().map(|(rank, (left, right))| {
            let (left, right) = (left.as_ref(), right.as_ref());
            let find = |token: &str| {
                ids.get(token).copied().ok_or_else(|| VocabularyError::UnknownInMerge {
                    rank,
                    left: left.to_owned(),
                    right: right.to_owned(),
                    missing: token.to_owned(),
                })
            };
            Ok(((find(left)?, find(right)?), find(&format!("{left}{right}"))?))
        });
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        Self::from_parts(tokens, ids, &pairs)
    }

    /// A vocabulary whose merges are not known: they are recovered from the tokens after the bytes, which must
    /// be in the order of their ranks. The parts of a token are what it is encoded to with the merges before it.
    pub fn from_ranked_tokens(tokens: Vec<String>, merges: usize) -> Result<Self, VocabularyError> {
        let ids = index(&tokens)?;
        let mut bpe = Self::from_parts(tokens, ids, &[])?;
        for (id, rank) in (512u32..).zip(0..merges as u32) {
            let token = &bpe.tokens[id as usize];
            let missing = || VocabularyError::MissingToken(token.clone());
            let (word, ends) = token.strip_suffix(END_OF_WORD).map_or((token.as_str(), false), |word| (word, true));
            let mut symbols = word
                .chars()
                .map(|symbol| bpe.ids.get(symbol.encode_utf8(&mut [0; 4]) as &str).copied())
                .collect::<Option<Vec<_>>>()
                .ok_or_else(missing)?;
            if let Some(last) = symbols.last_mut().filter(|_| ends) {
                *last += 256;
            }
            bpe.merge(&mut symbols);
            let &[left, right] = symbols.as_slice() else { return Err(missing()) };
            bpe.ranks.insert((left, right), (rank, id));
            bpe.merges.push((left, right));
        }
        Ok(bpe)
    }

    fn from_parts(
        tokens: Vec<String>,
        ids: HashMap<String, u32>,
        merges: &[(Pair, u32)],
    ) -> Result<Self, VocabularyError> {
        let find = |token: String| ids.get(&token).copied().ok_or(VocabularyError::MissingToken(token));
        let mut bytes = [(0, 0); 256];
        for (byte, symbol) in byte_symbols().into_iter().enumerate() {
            bytes[byte] = (find(symbol.to_string())?, find(format!("{symbol}{END_OF_WORD}"))?);
        }
        let mut ranks = HashMap::with_capacity(merges.len());
        for (rank, &(pair, merged)) in merges.iter().enumerate() {
            if ranks.insert(pair, (rank as u32, merged)).is_some() {
                let [left, right] = [pair.0, pair.1].map(|id| tokens[id as usize].clone());
                return Err(VocabularyError::DuplicateMerge { rank, left, right });
            }
        }
        let merges = merges.iter().map(|&(pair, _)| pair).collect();
        Ok(Self { tokens, ids, merges, ranks, bytes, remembered: RwLock::default() })
    }

    /// The tokens in the order of their ids.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The merges as pairs of tokens in the order of their ranks.
    pub fn merges(&self) -> impl Iterator<Item = (&str, &str)> {
        let token = |id: u32| self.tokens[id as usize].as_str();
        self.merges.iter().map(move |&(left, right)| (token(left), token(right)))
    }

    /// The id of a token in its printable form.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Appends the ids of `word`, which is encoded on its own.
    pub fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        if word.len() > REMEMBERED_LENGTH {
            return ids.extend(self.encode_bytes(word.as_bytes()));
        }
        if let Ok(remembered) = self.remembered.read()
            && let Some(known) = remembered.get(word)
        {
            return ids.extend_from_slice(known);
        }
        let symbols = self.encode_bytes(word.as_bytes());
        ids.extend_from_slice(&symbols);
        if let Ok(mut remembered) = self.remembered.write()
            && remembered.len() < REMEMBERED_WORDS
        {
            remembered.insert(word.into(), symbols.into());
        }
    }

    fn encode_bytes(&self, word: &[u8]) -> Vec<u32> {
        let mut symbols: Vec<u32> = word.iter().map(|&byte| self.bytes[usize::from(byte)].0).collect();
        if let (Some(symbol), Some(&byte)) = (symbols.last_mut(), word.last()) {
            *symbol = self.bytes[usize::from(byte)].1;
        }
        self.merge(&mut symbols);
        symbols
    }

    /// Merges the adjacent pair of least rank, everywhere from left to right, until no pair can be merged.
    fn merge(&self, symbols: &mut Vec<u32>) {
        loop {
            let rank = |pair: &[u32]| self.ranks.get(&(pair[0], pair[1])).copied();
            let Some((rank, merged)) = symbols.windows(2).filter_map(rank).min() else { return };
            merge_pair(symbols, self.merges[rank as usize], merged);
        }
    }

    /// The text of `ids`, with a space after each word; ids beyond the vocabulary are left out, and bytes that
    /// are not UTF-8 become U+FFFD.
    pub fn decode<'a>(&'a self, tokens: impl Iterator<Item = &'a str>) -> String {
        let bytes: HashMap<char, u8> = byte_symbols().into_iter().zip(0..=255).collect();
        let mut text = Vec::new();
        for symbol in tokens.flat_map(str::chars) {
            match bytes.get(&symbol) {
                Some(&byte) => text.push(byte),
                None => text.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        String::from_utf8_lossy(&text).replace(END_OF_WORD, " ")
    }
}

/// Replaces every occurrence of `pair`, from left to right, by `merged`.
pub(super) fn merge_pair(symbols: &mut Vec<u32>, pair: Pair, merged: u32) {
    let mut kept = 0;
    let mut at = 0;
    while at < symbols.len() {
        let here = symbols.get(at + 1).is_some_and(|&next| (symbols[at], next) == pair);
        symbols[kept] = if here { merged } else { symbols[at] };
        kept += 1;
        at += if here { 2 } else { 1 };
    }
    symbols.truncate(kept);
}

/// The id of each token.
fn index(tokens: &[String]) -> Result<HashMap<String, u32>, VocabularyError> {
    let mut ids = HashMap::with_capacity(tokens.len());
    for (token, id) in tokens.iter().zip(0u32..) {
        if let Some(first) = ids.insert(token.clone(), id) {
            return Err(VocabularyError::DuplicateToken { token: token.clone(), first, second: id });
        }
    }
    Ok(ids)
}
