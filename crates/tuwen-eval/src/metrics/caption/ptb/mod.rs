//! Words of a caption as the COCO caption tools count them: the conventions of the Penn Treebank, in lower case, without
//! punctuation.
//!
//! The tools run `PTBTokenizer -preserveLines -lowerCase` of Stanford CoreNLP 3.4.1 and take a list of punctuation marks
//! away. What that program does was found by giving it texts; ASCII and the scripts of Europe and East Asia come out alike.
//! Left out is what no caption holds: signs of rare scripts that it keeps or drops one by one.

mod rules;

use rules::{RULES, Rule, Text};

/// Marks that the COCO tools take away. Brackets would be among them, but their names are in lower case by then.
const PUNCTUATION: [&str; 14] = ["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", ""];

/// No token is longer, in bytes, unless it is made of letters; so that no text takes time beyond measure.
const LONGEST: usize = 1024;

/// The words of a caption.
pub fn tokenize(caption: &str) -> Vec<String> {
    words(caption, '\n')
}

/// The words of every caption of a corpus, as one run of the tools gives them: `'ll`, `'re` and `'ve` at the very end of
/// the last caption come apart, because a rule asks for what follows and there is nothing.
pub fn tokenize_corpus<T: AsRef<str>>(captions: &[T]) -> Vec<Vec<String>> {
    let last = captions.len().saturating_sub(1);
    let follows = |index| if index == last { END } else { '\n' };
    captions.iter().enumerate().map(|(index, caption)| words(caption.as_ref(), follows(index))).collect()
}

/// Stands behind the last text: a letter to the rules that ask for anything else, and the end to those that do not.
const END: char = '\u{1}';

fn words(caption: &str, follows: char) -> Vec<String> {
    // A soft hyphen and a space by name are no characters of their own to the tools.
    let mut text = caption.replace('\u{ad}', "").replace("&nbsp;", " ");
    text.push(follows);
    let mut rest = text.as_str();
    let mut words = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == END);
        if rest.is_empty() {
            return words;
        }
        let (taken, word) = next(rest);
        rest = &rest[taken..];
        let word = word.to_lowercase();
        if !PUNCTUATION.contains(&word.as_str()) {
            words.push(word);
        }
    }
}

/// The first token: how many bytes it takes, and how it is written. Of all rules the longest match wins, of equals the first.
fn next(text: &str) -> (usize, String) {
    let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    if letters > 0 && text[letters..].starts_with([' ', '\n']) && !rules::comes_apart(&text[..letters]) {
        return (letters, text[..letters].to_owned());
    }
    let window = &text[..text.floor_char_boundary(LONGEST)];
    let longest = RULES
        .iter()
        .filter_map(|rule| rule.find(window).map(|found| (rule, found)))
        .reduce(|best, candidate| if candidate.1.reach > best.1.reach { candidate } else { best });
    match longest {
        Some((rule, found)) => (found.taken, written(rule, &window[..found.taken])),
        None => sign(text),
    }
}

fn written(rule: &Rule, token: &str) -> String {
    match rule.text {
        Text::AsIs => token.to_owned(),
        Text::OneWord => token.replace(' ', "\u{a0}").replace('(', "-LRB-").replace(')', "-RRB-"),
        Text::PlainApostrophe => token.replace(['\u{2019}', '\u{92}'], "'").replace("&apos;", "'"),
        Text::Quotes => token.chars().map(quote).collect(),
        Text::PlainAmpersand => token.replace("&amp;", "&"),
        Text::Given(given) => given.to_owned(),
    }
}

fn quote(mark: char) -> &'static str {
    match mark {
        '\u{2018}' | '\u{201b}' => "`",
        '\u{2019}' => "'",
        '\u{201c}' => "``",
        '\u{201d}' => "''",
        _ => "\u{201a}",
    }
}

/// A sign that belongs to no longer token; some have a name, and what the tools do not know is dropped.
fn sign(text: &str) -> (usize, String) {
    let Some(sign) = text.chars().next() else { return (0, String::new()) };
    let name = match sign {
        '(' => "-LRB-",
        ')' => "-RRB-",
        '[' => "-LSB-",
        ']' => "-RSB-",
        '{' => "-LCB-",
        '}' => "-RCB-",
        '"' | '\u{ab}' | '\u{bb}' | '\u{93}' | '\u{94}' => "''",
        '\u{2039}' | '\u{203a}' | '\u{91}' | '\u{92}' => "'",
        '\u{2013}'..='\u{2015}' | '\u{96}' | '\u{97}' => "--",
        '\u{2026}' => "...",
        '\u{a2}' => "cents",
        '\u{a3}' => "#",
        '\u{80}' | '\u{a4}' | '\u{20a0}' | '\u{20ac}' => "$",
        '\u{bc}' => "1/4",
        '\u{bd}' => "1/2",
        '\u{be}' => "3/4",
        '\u{2153}' => "1/3",
        '\u{2154}' => "2/3",
        _ if is_known(sign) => return (sign.len_utf8(), sign.to_string()),
        _ => "",
    };
    (sign.len_utf8(), name.to_owned())
}

fn is_known(sign: char) -> bool {
    matches!(sign, '!'..='~' | '\u{a1}'..='\u{bf}' | '\u{d7}' | '\u{f7}' | '\u{37e}' | '\u{387}' | '\u{589}' | '\u{5be}'
        | '\u{5c0}' | '\u{5c3}' | '\u{5f3}'..='\u{5f4}' | '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{66a}' | '\u{6d4}'
        | '\u{964}'..='\u{965}' | '\u{e3f}' | '\u{2016}'..='\u{2017}' | '\u{201a}' | '\u{201e}'..='\u{2023}'
        | '\u{2030}'..='\u{2038}' | '\u{203b}' | '\u{203e}'..='\u{2042}' | '\u{2044}' | '\u{2070}'..='\u{208e}'
        | '\u{20a4}' | '\u{2100}'..='\u{214f}' | '\u{2155}'..='\u{215e}' | '\u{2190}'..='\u{2bff}'
        | '\u{3001}'..='\u{3002}' | '\u{3012}' | '\u{30fb}' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}'
        | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}' | '\u{ffe0}'..='\u{ffe6}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CoreNLP gives, marks taken away.
    #[test]
    fn tokens_are_those_of_corenlp() {
        for (caption, expected) in [
            ("a dog 's ball, the dogs' balls", "a dog 's ball the dogs balls"),
            ("HE'S here, WON'T go, isn't've", "he 's here wo n't go is n't 've"),
            ("cannot cannots 'tisn't gimme", "can not cannots 't is n't gim me"),
            ("O'Brien's ma'am d'a d'aa gov't li'l y'all", "o'brien 's ma'am d' a d'aa gov t li'l y' all"),
            ("Mr. No. 5 no. five etc. St.-Denis A.B.C", "mr. no. 5 no five etc. st.-denis a.b.c"),
            ("a-b a--b -a 10-year-old's 1.2-3.4", "a-b a b a 10-year-old 's 1.2-3 .4"),
            ("10:30am 1,000.50 5'10\" '90s 50% -5", "10:30 am 1,000.50 5 10 '90s 50 % -5"),
            ("a/b/c/d w/ 24/7 1\u{bd} US$5 \u{a3}5", "a/b/c / d w / 24/7 1 1/2 us$ 5 # 5"),
            (
                ":-) <3 (^_^) a:D #tag @user a@b.c, x.com/",
                ":--rrb- < 3 -lrb-^_^-rrb- a :d #tag @user a@b.c, x.com /",
            ),
            ("AT&amp;T Q&A a&b C++ ** ?! __", "at&t q&a a & b c++ ** ?! __"),
            ("20\u{b0}C x\u{b2} \u{1f600} 中文。 テスト", "20 \u{b0} c x \u{b2} 中文 。 テスト"),
        ] {
            assert_eq!(tokenize(caption).join(" "), expected, "{caption}");
        }
        assert_eq!(tokenize("2 1/2 <b c>"), ["2\u{a0}1/2", "<b\u{a0}c>"]);
    }

    #[test]
    fn only_the_last_caption_lacks_a_line_end() {
        let corpus = tokenize_corpus(&["he'll", "he'll"]);
        assert_eq!(corpus, [vec!["he", "'ll"], vec!["he", "ll"]]);
    }

    #[test]
    fn no_text_takes_long() {
        for piece in ["a,", "@", "<a ", "(", "a'", "\u{1}", "http://", "'", "1/"] {
            tokenize(&piece.repeat(5000));
        }
        assert_eq!(tokenize(""), [""; 0]);
        assert_eq!(tokenize(&"x".repeat(5000))[0].len(), 5000);
    }
}
