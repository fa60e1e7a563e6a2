//! Answers as the official VQA evaluation writes them before it compares: `vqaEval.py` of GT-Vision-Lab/VQA, with its quirks.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Marks that are dropped or become a space.
const MARKS: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];

/// Full stops that are dropped at most: the program passes a flag of the value 32 where a count is expected.
const FULL_STOPS: usize = 32;

const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// Contractions. A word that lacks one of their apostrophes gets it back.
const CONTRACTIONS: &str = "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd \
    how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've \
    shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's \
    they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've \
    who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've couldn't've \
    hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've something'd've there'd've \
    they'd've we'd've who'd've wouldn't've y'all'll you'd've 'ow's'at y'all'd've";

/// Words and what they become.
static WORDS: LazyLock<HashMap<String, &str>> = LazyLock::new(|| {
    let without_one = |word: &'static str| {
        word.match_indices('\'').map(move |(at, _)| (format!("{}{}", &word[..at], &word[at + 1..]), word))
    };
    let contractions = CONTRACTIONS.split_whitespace().flat_map(without_one);
    let numbers = NUMBERS.map(|(word, number)| (word.to_owned(), number));
    // A slip of the original's table.
    contractions.chain(numbers).chain([("somebody'd".to_owned(), "somebodyd")]).collect()
});

/// An answer on one line without blanks around it; this much is done to every answer.
pub fn trim_answer(answer: &str) -> String {
    answer.replace(['\n', '\t'], " ").trim().to_owned()
}

/// An answer as it is compared: without punctuation and articles, in lower case, numbers up to ten as digits, contractions
/// with their apostrophes.
pub fn normalize_answer(answer: &str) -> String {
    let text = without_punctuation(&trim_answer(answer)).to_lowercase();
    let words = text.split_whitespace().filter_map(|word| match word {
        "a" | "an" | "the" => None,
        _ => Some(WORDS.get(word).copied().unwrap_or(word)),
    });
    words.collect::<Vec<&str>>().join(" ")
}

/// The first step of [`normalize_answer`]. A mark is dropped where one of its kind stands beside a space, or where the text has a comma between digits; elsewhere
/// it becomes a space. A full stop is dropped unless a digit follows.
pub fn without_punctuation(answer: &str) -> String {
    let thousands = has_comma_between_digits(answer);
    let beside_space =
        |mark: char| answer.contains(&format!("{mark} ")) || answer.contains(&format!(" {mark}"));
    let dropped: Vec<char> = MARKS.into_iter().filter(|&mark| thousands || beside_space(mark)).collect();
    let mut full_stops = 0;
    let mut text = String::with_capacity(answer.len());
    // Marks go first, so that a full stop is judged by what follows it then.
    let marked =
        answer.chars().filter(|c| !dropped.contains(c)).map(|c| if MARKS.contains(&c) { ' ' } else { c });
    let mut characters = marked.peekable();
    while let Some(character) = characters.next() {
        let before_digit = characters.peek().is_some_and(|next| is_digit(*next));
        if character == '.' && !before_digit && full_stops < FULL_STOPS {
            full_stops += 1;
        } else {
            text.push(character);
        }
    }
    text
}

fn has_comma_between_digits(text: &str) -> bool {
    text.match_indices(',').any(|(at, _)| {
        text[..at].chars().next_back().is_some_and(is_digit)
            && text[at + 1..].chars().next().is_some_and(is_digit)
    })
}

/// What Python's `\d` matches, nearly.
fn is_digit(character: char) -> bool {
    character.is_ascii_digit() || (!character.is_ascii() && character.is_numeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirks_are_kept() {
        for (answer, expected) in [
            ("The  A an cat", "cat"),
            ("left (side)", "left side"),
            ("1,000-2", "10002"),
            ("x-y x -y", "xy x y"),
            ("3.5 3. 5 a.m.", "3.5 3 5 am"),
            ("Im dont couldntve couldn'tve ow's'at", "im don't couldntve couldn't've 'ow's'at"),
            ("somebody'd lets", "somebodyd lets"),
            ("None, ten", "0 10"),
            ("blue\tgreen\n", "blue green"),
        ] {
            assert_eq!(normalize_answer(answer), expected, "{answer}");
        }
        assert_eq!(normalize_answer(&".".repeat(40)).len(), 8);
    }
}
