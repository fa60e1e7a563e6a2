//! What a token may be: patterns, of which the longest match counts.

use std::sync::LazyLock;

use regex::Regex;

/// How a token is written.
#[derive(Clone, Copy)]
pub enum Text {
    AsIs,
    /// Spaces inside do not part it, and round brackets have their names.
    OneWord,
    /// A typographic apostrophe becomes a plain one.
    PlainApostrophe,
    /// Typographic quotation marks become those of TeX.
    Quotes,
    /// `&amp;` becomes `&`.
    PlainAmpersand,
    Given(&'static str),
}

/// A kind of token. A group in its pattern is the token; what lies around it has to be there and is not taken.
pub struct Rule {
    pattern: Regex,
    pub text: Text,
}

/// A match from the beginning of a text, in bytes.
pub struct Found {
    /// The token.
    pub taken: usize,
    /// The token and what has to follow it.
    pub reach: usize,
}

impl Rule {
    pub fn find(&self, text: &str) -> Option<Found> {
        if self.pattern.captures_len() == 1 {
            let reach = self.pattern.find(text)?.end();
            return Some(Found { taken: reach, reach });
        }
        let found = self.pattern.captures(text)?;
        let reach = found.get(0)?.end();
        Some(Found { taken: found.get(1)?.end(), reach })
    }
}

/// Words that are two to the treebank.
const CONTRACTED: [(&str, &str); 6] =
    [("can", "not"), ("gon", "na"), ("got", "ta"), ("lem", "me"), ("gim", "me"), ("wan", "na")];

/// Whether a word is written as one and counts as two.
pub fn comes_apart(word: &str) -> bool {
    CONTRACTED.iter().any(|(head, tail)| {
        word.len() == head.len() + tail.len()
            && word[..head.len()].eq_ignore_ascii_case(head)
            && word[head.len()..].eq_ignore_ascii_case(tail)
    })
}

const APOSTROPHE: &str = r"(?:['\x{2019}\x{92}]|&apos;)";
const LETTER: &str = r"(?:[\p{L}\p{Mn}\p{Mc}]|&[aeiouAEIOU](?:acute|grave|uml);)";
const ACRONYM: &str = r"[A-Za-z](?:\.[A-Za-z])+";
/// Abbreviations that keep their full stop, in any case.
const ABBREVIATIONS: &str = "(?i:adj|adm|adv|ala|alex|apr|ariz|assn|asst|atty|attys|aug|ave|bancorp|bhd|bldg|blvd|brig|bros|\
    calif|capt|cf|cie|cmdr|co|col|colo|comdr|conn|corp|cos|cpl|ct|dak|dec|dept|det|dr|drs|elec|ens|esq|est|etc|ext|feb|fla|fri|ft|\
    ga|gen|gov|govs|hon|inc|ind|insp|intl|invt|jan|jos|jr|jul|jun|kan|kans|ky|lieut|lt|ltd|maj|mar|md|messrs|mfg|mich|minn|mlle|\
    mme|mo|mon|mont|mr|mrs|ms|msgr|mt|mtg|natl|neb|nev|nov|oct|okla|penn|pfc|ph|plc|ppte|ppty|pres|prof|profs|pte|ptes|pty|ptys|\
    pvt|rd|rep|reps|rev|rt|sat|sen|sens|sep|sept|seq|sfc|sgt|spc|sq|sr|st|ste|sun|supt|supts|sys|tel|tenn|thu|thurs|tue|tues|univ|\
    va|vs|vt|wed|wis|wisc|wm|wyo|assoc|al)";
/// States of which only the name with a capital letter is one.
const STATES: &str =
    "(?:Ark|AZ|Az|DEL|Del|ILL|Ill|LA|La|MASS|Mass|MISS|Miss|ORE|Ore|PA|Pa|TEX|Tex|WASH|Wash|ARK)";
/// Abbreviations only before a number.
const NUMBERED: &str = "(?i:art|ca|figs?|nos?|op|pp?|prop)";
const EXTENSIONS: &str = "(?i:bat|bmp|cgi|class|cpp|c|dll|docx?|exe|gif|gz|html?|h|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|\
    ps|py|sql|tar|txt|wav|xml|x|zip)";
/// Words with an apostrophe of their own.
const APOSTROPHIZED: [&str; 15] = [
    "'cause",
    "'em",
    "'till?",
    "[ldj]'",
    "ol'",
    "somethin'",
    "dunkin'",
    "c'mon",
    "cap'n",
    "nat'l",
    "ev'ry",
    "li'l",
    "[no]?e'er",
    "o'er",
    "s'mores",
];

/// Words that begin a sentence after a single letter with a full stop.
const SENTENCE_STARTS: &str = "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many \
    More Now Once One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You";

fn sentence_starts() -> String {
    let words: Vec<String> =
        SENTENCE_STARTS.split(' ').flat_map(|word| [word.to_owned(), word.to_uppercase()]).collect();
    words.join("|")
}

/// All kinds of tokens but single signs.
pub static RULES: LazyLock<Vec<Rule>> =
    LazyLock::new(|| [words(), apostrophes(), numbers(), web(), signs()].into_iter().flatten().collect());

/// A rule from a pattern in which `LETTER`, `ALNUM`, `APOS`, `ACRO` and `EXT` stand for what their names say.
fn rule(pattern: &str, text: Text) -> Rule {
    let pattern = pattern
        .replace("ALNUM", r"(?:LETTER|\p{Nd})")
        .replace("LETTER", LETTER)
        .replace("APOS", APOSTROPHE)
        .replace("ACRO", ACRONYM)
        .replace("EXT", EXTENSIONS);
    Rule { pattern: Regex::new(&format!(r"\A(?:{pattern})")).expect("the pattern is fixed"), text }
}

fn as_is(pattern: &str) -> Rule {
    rule(pattern, Text::AsIs)
}

fn words() -> Vec<Rule> {
    let contracted = CONTRACTED.map(|(head, tail)| as_is(&format!("(?i:({head}){tail})")));
    let mut rules = Vec::from(contracted);
    rules.extend([
        // A word before a clitic, and one before n't.
        as_is(r"(LETTERALNUM*(?:[.!?]LETTERALNUM*)*)APOS(?i:[msd]|re|ve|ll)"),
        as_is(r"(LETTER+)(?i:nAPOSt)"),
        as_is(r"LETTERALNUM*(?:[.!?]LETTERALNUM*)*"),
        as_is(r"ALNUM+(?:[_\x{2010}\x{2011}-]ALNUM+)*"),
        as_is(r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:ACRO\.|[A-Za-z0-9]+))+"),
        as_is(r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"),
        rule(r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", Text::PlainAmpersand),
        as_is(&format!(r"(?:(?i:ph|ed)\.[Dd]|{ABBREVIATIONS}|{STATES}|ACRO|[A-Za-z])\.")),
        // A letter at the end of a sentence is no initial: the next sentence begins with such a word.
        as_is(&format!(r"(LETTER)\.\s+(?:{}|Mr\.)\s", sentence_starts())),
        // Before a comma any word may be abbreviated.
        as_is(r"(ALNUM+(?:[._-]ALNUM+)*\.)[,;:\x{3001}]"),
        as_is(&format!(r"({NUMBERED}\.)[ \x{{a0}}]*[0-9]")),
    ]);
    rules
}

fn apostrophes() -> Vec<Rule> {
    let mut rules = vec![
        as_is(r"(?i:('t)(?:is|was))"),
        rule(r"(APOS(?i:[msd]))(?:[^\p{L}]|\z)", Text::PlainApostrophe),
        rule(r"(APOS(?i:re|ve|ll))[^\p{L}\x01]", Text::PlainApostrophe),
        rule(r"(?i:nAPOSt)", Text::PlainApostrophe),
        as_is(r"[dDlLoO]APOSALNUM{2,}(?:-ALNUM+)*"),
        as_is(r"[nA-HJ-XZ]APOSLETTER{2,}"),
        as_is(r"LETTER+[aeiouyAEIOUY]APOS[aeiouA-Z]LETTER*"),
        as_is(r"(?i:(yAPOS)LETTER)"),
        as_is(r"(APOS(?:[nN]|[0-9]{2}))\s"),
        as_is(r"APOS[nN]APOS"),
        as_is(r"APOS[2-9]0s"),
    ];
    rules.extend(APOSTROPHIZED.map(|word| as_is(&format!("(?i:{})", word.replace('\'', "APOS")))));
    rules
}

fn numbers() -> Vec<Rule> {
    vec![
        as_is(r"[+-]?(?:[0-9\p{Nd}]*(?:[.:,]\p{Nd}+)+|\p{Nd}+)"),
        as_is(r"[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}"),
        rule(r"(?:[0-9]{1,4}[- \x{a0}])?[0-9]{1,4}(?:\\?/|\x{2044})[0-9]{1,4}", Text::OneWord),
        rule(
            r"(?:\([0-9]{2,3}\)[ \x{a0}]?|(?:\+\+?)?(?:[0-9]{2,4}[- \x{a0}])?[0-9]{2,4}[- \x{a0}])[0-9]{3,4}[- \x{a0}]?[0-9]{3,5}",
            Text::OneWord,
        ),
        as_is(r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"),
        as_is(
            r"[\x{207a}\x{207b}\x{208a}\x{208b}]?(?:[\x{2070}\x{b9}\x{b2}\x{b3}\x{2074}-\x{2079}]+|[\x{2080}-\x{2089}]+)",
        ),
        as_is(r"[A-Z]*\$"),
    ]
}

fn web() -> Vec<Rule> {
    vec![
        as_is(r#"(?i:https?)://[^ \t\r\n\f"<>|()]+[^ \t\r\n\f"<>|.!?(){},-]"#),
        as_is(
            r#"(?:www\.(?:[^ \t\r\n\f"<>|.!?(){},]+\.)+[A-Za-z]{2,4}|(?:[^ \t\r\n\f"`'<>|.!?(){},-_$]+\.)+(?:com|net|org|edu))(?:/[^ \t\r\n\f"<>|()]+[^ \t\r\n\f"<>|.!?(){},-])?"#,
        ),
        as_is(
            r#"(?:&lt;|<)?[A-Za-z0-9][^ \t\r\n\f"<>|(){}\x{a0}]*@(?:[^ \t\r\n\f"<>|(){}.\x{a0}]+\.)*[^ \t\r\n\f"<>|(){}.\x{a0}]+(?:&gt;|>)?"#,
        ),
        as_is("@[A-Za-z_][A-Za-z_0-9]*"),
        as_is("#LETTER+"),
        as_is(r"(ALNUM+(?:\.ALNUM+)*\.EXT)[\s.,!?]"),
        as_is(r"(?i:c\+\+|[cf]#)"),
        rule(
            r#"<(?:[!?][A-Za-z-][^>\r\n]*|/?[A-Za-z][A-Za-z0-9_:.-]*(?: +(?:[A-Za-z][A-Za-z0-9_:.-]*(?: *= *['"][^\r\n'"]*['"])?|['"][^\r\n'"]*['"]| */))*/? *)>"#,
            Text::OneWord,
        ),
        rule("&(?:MD|mdash|ndash);", Text::Given("--")),
        rule("(?i:&amp;)", Text::Given("&")),
        rule("(?i:&lt;)", Text::Given("<")),
        rule("(?i:&gt;)", Text::Given(">")),
        rule("&(?:quot|apos);", Text::Given("'")),
        as_is("&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);"),
    ]
}

fn signs() -> Vec<Rule> {
    vec![
        rule(r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z0-9\x01]", Text::OneWord),
        as_is(r"[\^x=~<>'-]_[\^x=~<>'-]"),
        rule(r"\((?:[\^x=~<>'-][_.]?[\^x=~<>'-]|[\^x=~<>']-[\^x=~<>'`])\)", Text::OneWord),
        rule(r"-{2,4}", Text::Given("--")),
        rule(r"\.{3,4}", Text::Given("...")),
        rule(r"[\x{2018}-\x{201d}]{1,2}", Text::Quotes),
        as_is(r"-{5,}|''|``|\*+|\\\*|_+|[!?]+|@+|#+|<<|>>"),
        as_is("(?i:-[lr][rsc]b-)"),
    ]
}
