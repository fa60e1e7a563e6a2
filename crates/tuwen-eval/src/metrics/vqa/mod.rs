//! VQA accuracy: how many of ten people gave an answer.

mod normalize;

use std::collections::BTreeMap;

pub use normalize::{normalize_answer, trim_answer, without_punctuation};

use super::Metrics;

/// When answers are normalised before they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalize {
    /// As the official program does: only where people disagree. Where all gave the same answer, it has to be met to the
    /// letter.
    IfDifferent,
    /// Always.
    Always,
}

/// The accuracy of an answer, 0 to 1: over all ways to leave one person out, the mean of `min(1, n / 3)`, where `n` of the
/// others gave that answer. With one right answer there is nobody to leave out, and it is met or not.
pub fn vqa_accuracy(prediction: &str, answers: &[String], normalize: Normalize) -> f64 {
    let trimmed: Vec<String> = answers.iter().map(|answer| trim_answer(answer)).collect();
    let differ = trimmed.windows(2).any(|pair| pair[0] != pair[1]);
    let (prediction, answers) = if differ || normalize == Normalize::Always {
        (normalize_answer(prediction), trimmed.iter().map(|answer| normalize_answer(answer)).collect())
    } else {
        (trim_answer(prediction), trimmed)
    };
    let matches = answers.iter().filter(|answer| **answer == prediction).count();
    if answers.len() < 2 {
        return matches as f64;
    }
    let others = |left_out: &String| matches - usize::from(*left_out == prediction);
    let accuracy = |left_out| (others(left_out) as f64 / 3.0).min(1.0);
    answers.iter().map(accuracy).sum::<f64>() / answers.len() as f64
}

/// An answer and what it is measured by.
#[derive(Clone, Debug, PartialEq)]
pub struct VqaItem {
    /// What was predicted.
    pub prediction: String,
    /// What people answered; ten of them in VQA.
    pub answers: Vec<String>,
    /// `yes/no`, `number` or `other`, where that is known.
    pub answer_type: Option<String>,
    /// How the question begins, where that is known.
    pub question_type: Option<String>,
}

/// The accuracy of a set of answers.
#[derive(Clone, Debug, PartialEq)]
pub struct VqaScores {
    /// In percent: `accuracy` as the official program has it, `accuracy_normalized` with all answers normalised, and for
    /// each kind of answer and question `answer_type:KIND` and `question_type:KIND`, as the official program has them.
    pub metrics: Metrics,
    /// The official accuracy of each item, 0 to 1.
    pub items: Vec<f64>,
}

/// Measures a set of answers.
pub fn vqa(items: &[VqaItem]) -> VqaScores {
    let official = |item: &VqaItem| vqa_accuracy(&item.prediction, &item.answers, Normalize::IfDifferent);
    let accuracies: Vec<f64> = items.iter().map(official).collect();
    let mut groups: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    let mut add = |name: String, accuracy: f64| {
        let (sum, count) = groups.entry(name).or_default();
        *sum += accuracy;
        *count += 1;
    };
    for (item, &accuracy) in items.iter().zip(&accuracies) {
        add("accuracy".to_owned(), accuracy);
        add(
            "accuracy_normalized".to_owned(),
            vqa_accuracy(&item.prediction, &item.answers, Normalize::Always),
        );
        item.answer_type.iter().for_each(|kind| add(format!("answer_type:{kind}"), accuracy));
        item.question_type.iter().for_each(|kind| add(format!("question_type:{kind}"), accuracy));
    }
    let percent = |(name, (sum, count)): (String, (f64, usize))| (name, 100.0 * sum / count as f64);
    VqaScores { metrics: groups.into_iter().map(percent).collect(), items: accuracies }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(counts: &[(&str, usize)]) -> Vec<String> {
        counts.iter().flat_map(|&(answer, count)| vec![answer.to_owned(); count]).collect()
    }

    #[test]
    fn one_person_is_left_out_in_turn() {
        for (given, expected) in [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)] {
            let answers = answers(&[("red", given), ("blue", 10 - given)]);
            let accuracy = vqa_accuracy("Red.", &answers, Normalize::IfDifferent);
            assert!((accuracy - expected).abs() < 1e-12, "{given}: {accuracy}");
        }
    }

    #[test]
    fn unanimous_answers_are_compared_to_the_letter_by_the_official_program() {
        let answers = answers(&[("yes, it is", 10)]);
        assert_eq!(vqa_accuracy(" yes, it is", &answers, Normalize::IfDifferent), 1.0);
        assert_eq!(vqa_accuracy("Yes it is", &answers, Normalize::IfDifferent), 0.0);
        assert_eq!(vqa_accuracy("Yes it is", &answers, Normalize::Always), 1.0);
    }

    #[test]
    fn a_single_answer_is_met_or_not() {
        assert_eq!(vqa_accuracy("chair", &answers(&[("chair", 1)]), Normalize::IfDifferent), 1.0);
        assert_eq!(vqa_accuracy("chair", &answers(&[("table", 1)]), Normalize::IfDifferent), 0.0);
        assert_eq!(vqa_accuracy("chair", &[], Normalize::Always), 0.0);
    }
}
