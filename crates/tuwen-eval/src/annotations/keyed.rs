//! Things with an id, each id once: predictions, references, questions.

use std::collections::{HashMap, HashSet};

use super::AnnotationError;

/// Entries by the id of an image or of a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed<T> {
    source: String,
    noun: &'static str,
    entries: Vec<(String, T)>,
}

impl<T> Keyed<T> {
    /// Entries from a file or a model, whose name is `source`; `noun` says what an id stands for: `image`, `question`.
    ///
    /// # Errors
    /// No entry, or an id that occurs twice.
    pub fn new(
        source: impl Into<String>,
        noun: &'static str,
        entries: Vec<(String, T)>,
    ) -> Result<Self, AnnotationError> {
        let source = source.into();
        if entries.is_empty() {
            return Err(AnnotationError::Empty { source_name: source });
        }
        let mut seen = HashSet::new();
        let again: Vec<&String> = entries.iter().map(|(id, _)| id).filter(|&id| !seen.insert(id)).collect();
        if let Some(&first) = again.first() {
            let count = again.iter().collect::<HashSet<_>>().len();
            let first = first.clone();
            return Err(AnnotationError::Duplicate { source_name: source, noun, count, first });
        }
        Ok(Self { source, noun, entries })
    }

    /// Where the entries are from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The entries in their order.
    pub fn entries(&self) -> &[(String, T)] {
        &self.entries
    }

    /// All entries, for changes to what belongs to an id.
    pub fn values_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.entries.iter_mut().map(|(id, value)| (id.as_str(), value))
    }

    /// Refuses entries that lack something.
    pub(crate) fn require(
        &self,
        what: &'static str,
        has: impl Fn(&T) -> bool,
    ) -> Result<(), AnnotationError> {
        let without: Vec<&String> =
            self.entries.iter().filter(|(_, value)| !has(value)).map(|(id, _)| id).collect();
        let Some(&first) = without.first() else { return Ok(()) };
        Err(AnnotationError::Without {
            source_name: self.source.clone(),
            noun: self.noun,
            what,
            count: without.len(),
            total: self.entries.len(),
            first: first.clone(),
        })
    }

    /// Each reference that has a prediction, with it: `(id, prediction, reference)` in the order of the references.
    ///
    /// # Errors
    /// A prediction for what is not there; unless `partial`, a reference without a prediction.
    pub fn pair<'a, R>(
        &'a self,
        references: &'a Keyed<R>,
        partial: bool,
    ) -> Result<Vec<(&'a str, &'a T, &'a R)>, AnnotationError> {
        let known: HashSet<&str> = references.entries.iter().map(|(id, _)| id.as_str()).collect();
        let unknown: Vec<&String> =
            self.entries.iter().map(|(id, _)| id).filter(|id| !known.contains(id.as_str())).collect();
        let (source_name, names, noun) = (self.source.clone(), references.source.clone(), self.noun);
        if let Some(&first) = unknown.first() {
            let (count, total, first) = (unknown.len(), self.entries.len(), first.clone());
            return Err(AnnotationError::Unknown {
                source_name,
                references: names,
                noun,
                count,
                total,
                first,
            });
        }
        let predictions: HashMap<&str, &T> =
            self.entries.iter().map(|(id, value)| (id.as_str(), value)).collect();
        let paired =
            |(id, reference): &'a (String, R)| Some((id.as_str(), *predictions.get(id.as_str())?, reference));
        let missing = || references.entries.iter().filter(|(id, _)| !predictions.contains_key(id.as_str()));
        match missing().next() {
            Some((first, _)) if !partial => {
                let (count, total, first) = (missing().count(), references.entries.len(), first.clone());
                Err(AnnotationError::Missing { source_name, references: names, noun, count, total, first })
            }
            _ => Ok(references.entries.iter().filter_map(paired).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(source: &str, ids: &[&str]) -> Result<Keyed<usize>, AnnotationError> {
        Keyed::new(source, "image", ids.iter().enumerate().map(|(i, id)| ((*id).to_owned(), i)).collect())
    }

    #[test]
    fn sides_have_to_meet() {
        let references = keyed("references", &["1", "2", "3"]).expect("distinct");
        let pair = |ids: &[&str], partial| {
            let predictions = keyed("predictions", ids).expect("distinct");
            let paired = predictions.pair(&references, partial).map_err(|error| error.to_string())?;
            Ok(paired.into_iter().map(|(id, &p, &r)| format!("{id}:{p}{r}")).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(pair(&["3", "1", "2"], false), Ok("1:10 2:21 3:02".to_owned()));
        assert_eq!(pair(&["3"], true), Ok("3:02".to_owned()));
        let missing = "predictions lacks 2 of the 3 images of references; the first is 1";
        assert_eq!(pair(&["3"], false), Err(missing.to_owned()));
        let unknown = "predictions: 1 of 2 images are not in references; the first is 9";
        assert_eq!(pair(&["3", "9"], true), Err(unknown.to_owned()));
    }

    #[test]
    fn an_id_occurs_once() {
        let error = keyed("predictions", &["1", "2", "1", "1"]).expect_err("twice").to_string();
        assert_eq!(error, "predictions: 1 images occur more than once; the first is 1");
        assert_eq!(keyed("p", &[]).expect_err("nothing").to_string(), "p has nothing to measure");
    }
}
