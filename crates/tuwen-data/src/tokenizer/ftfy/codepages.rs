//! The single-byte encodings that UTF-8 is commonly mistaken for.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What kind of encoding a [`Codepage`] is; the rules of repair differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Latin1,
    /// Unassigned bytes are read as Latin-1, and byte 0x1A stands for U+FFFD, a byte that was lost.
    Windows,
    MacRoman,
    Other,
}

/// A single-byte encoding whose lower half is ASCII.
pub(super) struct Codepage {
    pub kind: Kind,
    bytes: HashMap<char, u8>,
}

impl Codepage {
    /// `upper` holds the characters of the last bytes; the bytes from 0x80 up to it are as in Latin-1.
    fn new(kind: Kind, upper: &str) -> Self {
        let first = 256 - upper.chars().count();
        let latin = (0..first).map(|b| b as u8).map(|b| (char::from(b), b));
        let mut bytes: HashMap<char, u8> = latin.chain(upper.chars().zip(first as u8..=255)).collect();
        if kind == Kind::Windows {
            bytes.remove(&'\x1A');
            bytes.insert(char::REPLACEMENT_CHARACTER, 0x1A);
        }
        Self { kind, bytes }
    }

    /// The bytes of `text`, or `None` if a character does not exist in this encoding.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.bytes.get(&c).copied()).collect()
    }

    /// All characters of the encoding with their bytes, in no particular order.
    pub fn characters(&self) -> impl Iterator<Item = (char, u8)> {
        self.bytes.iter().map(|(&c, &b)| (c, b))
    }
}

/// The encodings in the order in which they are tried.
pub(super) static CODEPAGES: LazyLock<[Codepage; 10]> = LazyLock::new(|| {
    [
        Codepage::new(Kind::Latin1, "ÿ"),
        Codepage::new(Kind::Windows, &format!("{WINDOWS_1252_CONTROLS}{}", latin1(0xA0))),
        Codepage::new(Kind::Windows, WINDOWS_1251),
        Codepage::new(Kind::Windows, WINDOWS_1250),
        Codepage::new(Kind::Windows, WINDOWS_1253),
        Codepage::new(Kind::Windows, WINDOWS_1254),
        Codepage::new(Kind::Windows, WINDOWS_1257),
        Codepage::new(Kind::Other, ISO_8859_2),
        Codepage::new(Kind::MacRoman, MAC_ROMAN),
        Codepage::new(Kind::Other, CP437),
    ]
});

/// The Latin-1 characters from `first` to 0xFF.
fn latin1(first: u8) -> String {
    (first..=255).map(char::from).collect()
}

/// Reads a byte as Windows-1252, and the bytes unassigned there as Latin-1.
pub(super) fn windows_1252(byte: u8) -> char {
    let control = usize::from(byte).checked_sub(0x80);
    control.and_then(|i| WINDOWS_1252_CONTROLS.chars().nth(i)).unwrap_or(char::from(byte))
}

/// Windows-1252 from 0x80 to 0x9F; the rest is Latin-1.
const WINDOWS_1252_CONTROLS: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8D}Ž\u{8F}\u{90}‘’“”•–—˜™š›œ\u{9D}žŸ";

/// Windows-1250 from 0x80.
const WINDOWS_1250: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\
    \u{A0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{AD}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľż\
    ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢß\
    ŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";

/// Windows-1251 from 0x80.
const WINDOWS_1251: &str = "\
    ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\
    \u{A0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{AD}®Ї°±Ііґµ¶·ё№є»јЅѕї\
    АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ\
    абвгдежзийклмнопрстуфхцчшщъыьэюя";

/// Windows-1253 from 0x80.
const WINDOWS_1253: &str = "\
    €\u{81}‚ƒ„…†‡\u{88}‰\u{8A}‹\u{8C}\u{8D}\u{8E}\u{8F}\u{90}‘’“”•–—\u{98}™\u{9A}›\u{9C}\u{9D}\u{9E}\u{9F}\
    \u{A0}΅Ά£¤¥¦§¨©ª«¬\u{AD}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏ\
    ΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήί\
    ΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ";

/// Windows-1254 from 0x80.
const WINDOWS_1254: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8D}\u{8E}\u{8F}\u{90}‘’“”•–—˜™š›œ\u{9D}\u{9E}Ÿ\
    \u{A0}¡¢£¤¥¦§¨©ª«¬\u{AD}®¯°±²³´µ¶·¸¹º»¼½¾¿\
    ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞß\
    àáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";

/// Windows-1257 from 0x80.
const WINDOWS_1257: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰\u{8A}‹\u{8C}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9A}›\u{9C}¯˛\u{9F}\
    \u{A0}¡¢£¤¥¦§Ø©Ŗ«¬\u{AD}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æ\
    ĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽß\
    ąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙";

/// ISO 8859-2 from 0xA0.
const ISO_8859_2: &str = "\
    \u{A0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{AD}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žż\
    ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢß\
    ŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";

/// Mac OS Roman from 0x80.
const MAC_ROMAN: &str = "\
    ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü\
    †°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø\
    ¿¡¬√ƒ≈∆«»…\u{A0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ\
    ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{F8FF}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";

/// The IBM PC code page 437 from 0x80.
const CP437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ\
    áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
    αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{A0}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        for (index, codepage) in CODEPAGES.iter().enumerate() {
            assert_eq!(codepage.bytes.len(), 256, "code page {index}");
            assert_eq!(codepage.encode("Az~\n"), Some(b"Az~\n".to_vec()));
        }
    }

    #[test]
    fn known_bytes() {
        let expected = [0xE4, 0xE4, 0xE4, 0xE4, 0xE4, 0xE4, 0x8A, 0x84];
        let pages = CODEPAGES.iter().filter_map(|page| page.encode("ä")).flatten();
        assert_eq!(pages.collect::<Vec<_>>(), expected);
        assert_eq!(CODEPAGES[2].encode("Я…"), Some(vec![0xDF, 0x85]));
        assert_eq!(CODEPAGES[4].encode("Ω\u{FFFD}"), Some(vec![0xD9, 0x1A]));
        assert_eq!((windows_1252(0x80), windows_1252(0x81), windows_1252(b'a')), ('€', '\u{81}', 'a'));
    }
}
