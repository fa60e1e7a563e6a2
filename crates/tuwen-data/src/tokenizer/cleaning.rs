//! What BLIP and ALBEF do to captions and questions before they are tokenized.
//!
//! References: salesforce/BLIP `data/utils.py` and salesforce/ALBEF `dataset/utils.py` (`pre_caption`, `pre_question`).

/// A text cleaned as one of the two programs cleans it for training and evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaning {
    /// BLIP's `pre_caption`.
    BlipCaption,
    /// BLIP's `pre_question`.
    BlipQuestion,
    /// ALBEF's `pre_caption`.
    AlbefCaption,
    /// ALBEF's `pre_question`.
    AlbefQuestion,
}

impl Cleaning {
    /// The text in lower case without most punctuation, and no more than `max_words` of its words, which single spaces
    /// part.
    pub fn apply(self, text: &str, max_words: usize) -> String {
        let text = self.without_punctuation(&text.to_lowercase());
        let text = match self {
            Self::BlipQuestion | Self::AlbefQuestion => text.trim_end_matches(' ').to_owned(),
            Self::BlipCaption | Self::AlbefCaption => {
                single_spaces(&text).trim_end_matches('\n').trim_matches(' ').to_owned()
            }
        };
        text.split(' ').take(max_words).collect::<Vec<_>>().join(" ")
    }

    fn without_punctuation(self, text: &str) -> String {
        const BLIP: &[char] = &['.', '!', '"', '(', ')', '*', '#', ':', ';', '~'];
        const ALBEF: &[char] = &[',', '.', '\'', '!', '?', '"', '(', ')', '*', '#', ':', ';', '~'];
        match self {
            Self::BlipCaption => text.replace(BLIP, " "),
            Self::BlipQuestion => text.replace(BLIP, ""),
            Self::AlbefCaption => {
                text.replace(ALBEF, "").replace(['-', '/'], " ").replace("<person>", "person")
            }
            Self::AlbefQuestion => text.replace(ALBEF, "").replace(['-', '/'], " "),
        }
    }
}

/// Two or more white-space characters become one space; a single one stays what it is.
fn single_spaces(text: &str) -> String {
    let mut single = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let run = is_space(c) && chars.peek().copied().is_some_and(is_space);
        while run && chars.next_if(|&c| is_space(c)).is_some() {}
        single.push(if run { ' ' } else { c });
    }
    single
}

/// White space as Python has it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_beyond_the_limit_go() {
        assert_eq!(Cleaning::BlipCaption.apply(" A dog;  (red)\n", 2), "a dog");
        assert_eq!(Cleaning::BlipQuestion.apply("What's  this, a ~dog?  ", 9), "what's  this, a dog?");
        assert_eq!(Cleaning::AlbefCaption.apply("<person>'s T-shirt.", 9), "persons t shirt");
        assert_eq!(Cleaning::AlbefQuestion.apply("Is it a/b?", 9), "is it a b");
    }
}
