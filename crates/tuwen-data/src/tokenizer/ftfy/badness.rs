//! ftfy's heuristic for mojibake: sequences of characters that hardly occur in intended text.

/// A set of classes of characters, one bit each.
type Classes = u32;

const LOWER: Classes = 1; // a-z
const UPPER: Classes = 1 << 1; // A-Z
const SPACE: Classes = 1 << 2;
const WORD: Classes = 1 << 3; // letters, numbers and the underscore, of any script
const COMMON: Classes = 1 << 4; // punctuation that is found in many places
const C1: Classes = 1 << 5;
const BAD: Classes = 1 << 6; // hardly seen outside of mojibake
const LAW: Classes = 1 << 7;
const CURRENCY: Classes = 1 << 8;
const START: Classes = 1 << 9; // punctuation before a word
const END: Classes = 1 << 10; // punctuation after a word
const NUMERIC: Classes = 1 << 11;
const KAOMOJI: Classes = 1 << 12; // letters that are used for drawing faces
const UPPER_ACCENTED: Classes = 1 << 13;
const LOWER_ACCENTED: Classes = 1 << 14;
const UPPER_COMMON: Classes = 1 << 15; // Greek and Cyrillic capitals
const LOWER_COMMON: Classes = 1 << 16;
const BOX: Classes = 1 << 17; // pieces of frames and shades
const NOT_LATIN: Classes = 1 << 18; // anything but a-z and A-Z

const LATIN: Classes = LOWER | UPPER;
const ACCENTED: Classes = UPPER_ACCENTED | LOWER_ACCENTED;
const PUNCTUATION: Classes = START | END;
/// Everything that is suspicious beside a [`BAD`] character.
const ODD: Classes = ACCENTED | BOX | PUNCTUATION | CURRENCY | NUMERIC | LAW;

/// The classes of a character.
fn classes(c: char) -> Classes {
    let word = if c.is_alphanumeric() || c == '_' { WORD } else { 0 };
    let not_latin = if c.is_ascii_alphabetic() { 0 } else { NOT_LATIN };
    word | not_latin
        | match c {
            'a'..='z' => LOWER,
            'A'..='Z' => UPPER,
            '\u{A0}' => SPACE | COMMON,
            '\u{85}' => SPACE | C1,
            '\u{80}'..='\u{9F}' => C1,
            _ if c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}') => SPACE,
            '\u{AD}' | '·' | '´' | '–' | '—' | '―' | '…' | '’' => COMMON,
            '¦' | '¤' | '¨' | '¬' | '¯' | '¸' | 'ƒ' | 'ˆ' | 'ˇ' | '˘' | '˛' | '˜' => BAD,
            '†' | '‡' | '‰' | '⌐' | '◊' | '\u{FFFD}' | 'ª' | 'º' => BAD,
            '¶' | '§' => LAW,
            '¢' | '£' | '¥' | '₧' | '€' => CURRENCY,
            '¡' | '«' | '¿' | '©' | '΄' | '΅' | '‘' | '‚' | '“' | '„' | '•' | '‹' | '\u{F8FF}' => {
                START
            }
            '®' | '»' | '˝' | '”' | '›' | '™' => END,
            '²' | '³' | '¹' | '±' | '¼' | '½' | '¾' | '×' | 'µ' | '÷' | '⁄' | '∂' | '∆' | '∏' | '∑' => {
                NUMERIC
            }
            '√' | '∞' | '∩' | '∫' | '≈' | '≠' | '≡' | '≤' | '≥' | '№' => NUMERIC,
            'Ü' => KAOMOJI | UPPER_ACCENTED,
            'Ő' | 'Ō' | 'Ū' | 'Ų' | '°' | 'Ò'..='Ö' | 'Ù'..='Û' => KAOMOJI,
            'ü' => KAOMOJI | LOWER_ACCENTED,
            'ò'..='ö' | 'ø'..='û' => KAOMOJI,
            'À'..='Ñ' | 'Ø' | 'Ý' | 'Ă' | 'Ā' | 'Ą' | 'Ć' | 'Č' | 'Ď' | 'Đ' | 'Ę' | 'Ě' | 'Ē' | 'Ė' => {
                UPPER_ACCENTED
            }
            'Ğ' | 'Ģ' | 'İ' | 'Ī' | 'Ķ' | 'Ĺ' | 'Ľ' | 'Ł' | 'Ļ' | 'Ń' | 'Ň' | 'Ņ' | 'Œ' | 'Ř' => {
                UPPER_ACCENTED
            }
            'Ś' | 'Ş' | 'Š' | 'Ţ' | 'Ť' | 'Ů' | 'Ű' | 'Ÿ' | 'Ź' | 'Ż' | 'Ž' | 'Ґ' => {
                UPPER_ACCENTED
            }
            'ß'..='ñ' | 'ă' | 'ą' | 'ā' | 'ć' | 'č' | 'ď' | 'đ' | 'ę' | 'ě' | 'ē' | 'ė' => {
                LOWER_ACCENTED
            }
            'ğ' | 'ģ' | 'į' | 'ī' | 'ķ' | 'ĺ' | 'ľ' | 'ł' | 'ļ' | 'œ' | 'ŕ' | 'ś' | 'ş' | 'š' | 'ť' => {
                LOWER_ACCENTED
            }
            'ź' | 'ż' | 'ž' | 'ґ' | 'ﬁ' | 'ﬂ' => LOWER_ACCENTED,
            'Þ' | 'Α'..='Ω' | 'Ά' | 'Έ' | 'Ή' | 'Ί' | 'Ό' | 'Ύ' | 'Ώ' | 'Ϊ' | 'Ϋ' | 'Ё'..='Я' => {
                UPPER_COMMON
            }
            'α'..='ω' | 'ά' | 'έ' | 'ή' | 'ί' | 'ΰ' | 'а'..='џ' => LOWER_COMMON,
            '│' | '┌' | '┐' | '┘' | '├' | '┤' | '┬' | '┼' | '═'..='╬' => BOX,
            '▀' | '▄' | '█' | '▌' | '▐' | '░' | '▒' | '▓' => BOX,
            _ => 0,
        }
}

/// A place in a rule: characters of these classes, or these characters themselves.
struct Place(Classes, &'static str);

impl Place {
    fn holds(&self, &(c, classes): &(char, Classes)) -> bool {
        classes & self.0 != 0 || self.1.contains(c)
    }
}

/// Any character of the classes.
const fn of(classes: Classes) -> Place {
    Place(classes, "")
}

/// Any of the characters.
const fn one(characters: &'static str) -> Place {
    Place(0, characters)
}

/// What follows the lead letters of two-byte sequences in Windows-1252 mojibake of Arabic.
const AFTER_ARABIC: Place = Place(COMMON | CURRENCY | BAD | NUMERIC | START, "ŸŠ®°µ»");

/// Sequences of characters each of which makes a text bad.
static RULES: &[&[Place]] = &[
    &[of(C1)],
    &[of(ODD | BAD), of(BAD)],
    &[of(LATIN), of(LOWER_COMMON | UPPER_COMMON), of(BAD)],
    &[of(BAD), of(ODD)],
    &[of(LOWER_ACCENTED | LOWER_COMMON | BOX | END | CURRENCY | NUMERIC), of(UPPER_ACCENTED)],
    &[of(BOX | END | CURRENCY | NUMERIC), of(LOWER_ACCENTED)],
    &[of(LOWER_ACCENTED | BOX | END), of(CURRENCY)],
    &[of(SPACE), of(UPPER_ACCENTED), of(CURRENCY)],
    &[of(UPPER_ACCENTED | BOX), of(NUMERIC | LAW)],
    &[of(ACCENTED | BOX | CURRENCY | END), of(START), of(NUMERIC)],
    &[of(ACCENTED | CURRENCY | NUMERIC | BOX | LAW), of(END), of(START)],
    &[of(CURRENCY | NUMERIC | BOX), of(START)],
    &[of(LOWER), of(UPPER_ACCENTED), of(START | CURRENCY)],
    &[of(BOX), of(KAOMOJI | END)],
    &[of(ACCENTED | CURRENCY | NUMERIC | PUNCTUATION | LAW), of(BOX)],
    &[of(ACCENTED), of(PUNCTUATION), of(WORD)],
    &[of(UPPER_ACCENTED), one("°")],
    &[one("Œœ"), of(NOT_LATIN)],
    // Windows-1252
    &[one("ÂÃÎÐ"), Place(PUNCTUATION, "€œŠš¢£Ÿž\u{A0}\u{AD}®©°·»–—´")],
    &[one("×"), one("²³")],
    &[one("ØÙ"), AFTER_ARABIC, one("ØÙ"), AFTER_ARABIC],
    &[one("à"), one("²µ¹¼½¾")],
    &[one("Ã"), one("\u{A0}¡")],
    &[of(LOWER), one("ÃÂ"), one(" ")],
    &[of(LOWER), of(SPACE), one("ÃÂ"), one(" ")],
    &[Place(LOWER | END, ".,?!"), one("Â"), Place(PUNCTUATION, " ")],
    // Mac OS Roman
    &[one("√"), one("±∂†≠®™´≤≥¥µø")],
    &[one("≈"), one("°¢")],
    &[one("‚"), one("Ä"), one("ìîïòôúùû†°¢π")],
    &[one("‚"), one("âó"), one("àä°ê")],
    // Windows-1251
    &[one("в"), one("Ђ")],
    &[one("ВГРС"), Place(C1 | BAD | PUNCTUATION | CURRENCY, "°µ"), one("ВГРС")],
    &[one("Г"), one("ў"), one("В"), one("Ђ"), one("В"), of(LATIN | NOT_LATIN), Place(LATIN, " ")],
    // Windows-1253
    &[one("β"), one("€"), one("™\u{A0}Ά\u{AD}®°")],
    &[one("ΒΓΞΟ"), Place(C1 | BAD | PUNCTUATION | CURRENCY, "°"), one("ΒΓΞΟ")],
    // Windows-1257
    &[one("ā"), one("€")],
];

/// Whether `text` holds a sequence of characters that looks like mojibake.
pub(super) fn is_bad(text: &str) -> bool {
    let text: Vec<_> = text.chars().map(|c| (c, classes(c))).collect();
    let a_rule_starts = |rest: &[(char, Classes)]| {
        RULES
            .iter()
            .any(|rule| rule.len() <= rest.len() && rule.iter().zip(rest).all(|(place, c)| place.holds(c)))
    };
    matches!(text[..], [('Ã' | 'Â', _), (' ', _), ..]) || (0..text.len()).any(|at| a_rule_starts(&text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_text_is_bad() {
        for text in
            ["FranÃ§ais", "â€œquotes", "Ã la mode", "c1 \u{80}", "вЂ”", "РїСЂРё РІРµС‚\u{A0}", "‚Äúmac", "×²"]
        {
            assert!(is_bad(text), "{text}");
        }
    }

    #[test]
    fn intended_text_is_not() {
        for text in [
            "",
            "naïve café",
            "Привет МИР",
            "¿Qué? ¡Sí!",
            "└─┐ 20°",
            "NESCAFÉ®",
            "«où»",
            "日本語 € 5",
            "œuvre",
        ] {
            assert!(!is_bad(text), "{text}");
        }
    }
}
