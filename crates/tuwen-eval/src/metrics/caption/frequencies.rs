//! In how many documents an n-gram occurs, by which CIDEr tells what is rare.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::ngrams::ngrams;

/// Document frequencies of n-grams; a document is an image with all of its references.
///
/// As a file they are JSON, `{"documents": 5000, "ngrams": {"a dog": 713, ...}}`, so that captions of a few images are
/// weighed as in a large corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentFrequencies {
    documents: u64,
    /// By tokens with a space between them.
    ngrams: HashMap<String, u64>,
}

/// Why document frequencies cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrequencyError {
    /// Not the form of the file.
    #[error("no document frequencies: {0}")]
    Json(#[from] serde_json::Error),
    /// An n-gram in more documents than there are, or in none.
    #[error("{ngram:?} occurs in {count} of {documents} documents")]
    Count {
        /// The n-gram.
        ngram: String,
        /// Documents that it is said to occur in.
        count: u64,
        /// Documents in all.
        documents: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    documents: u64,
    ngrams: BTreeMap<String, u64>,
}

impl DocumentFrequencies {
    /// Counts the references of each image.
    pub fn of<'a>(documents: impl IntoIterator<Item = &'a [Vec<String>]>) -> Self {
        let mut all = Self { documents: 0, ngrams: HashMap::new() };
        for references in documents {
            all.documents += 1;
            let distinct: BTreeSet<&[String]> =
                references.iter().flat_map(|tokens| ngrams(tokens).into_keys()).collect();
            for ngram in distinct {
                *all.ngrams.entry(ngram.join(" ")).or_insert(0) += 1;
            }
        }
        all
    }

    /// The logarithm of the share of documents without an n-gram: `ln(documents / max(1, frequency))`.
    pub fn rarity(&self, ngram: &[String]) -> f64 {
        let count = self.ngrams.get(&ngram.join(" ")).copied().unwrap_or(1).max(1);
        (self.documents.max(1) as f64).ln() - (count as f64).ln()
    }

    /// Reads the JSON of a file.
    ///
    /// # Errors
    /// Another form, or counts that cannot be.
    pub fn from_json(text: &str) -> Result<Self, FrequencyError> {
        let File { documents, ngrams } = serde_json::from_str(text)?;
        match ngrams.iter().find(|&(_, &count)| count == 0 || count > documents) {
            Some((ngram, &count)) => Err(FrequencyError::Count { ngram: ngram.clone(), count, documents }),
            None => Ok(Self { documents, ngrams: ngrams.into_iter().collect() }),
        }
    }

    /// The JSON of a file.
    ///
    /// # Errors
    /// None that are known.
    pub fn to_json(&self) -> Result<String, FrequencyError> {
        let ngrams = self.ngrams.iter().map(|(ngram, &count)| (ngram.clone(), count)).collect();
        Ok(serde_json::to_string(&File { documents: self.documents, ngrams })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_what_was_counted() {
        let tokens = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
        let documents = [vec![tokens("a dog"), tokens("a dog runs")], vec![tokens("a cat")]];
        let counted = DocumentFrequencies::of(documents.iter().map(Vec::as_slice));
        assert_eq!(counted.rarity(&tokens("a dog")), 2.0_f64.ln(), "once for an image");
        assert_eq!(counted.rarity(&tokens("a")), 0.0);
        assert_eq!(counted.rarity(&tokens("unseen")), 2.0_f64.ln());
        let text = counted.to_json().expect("written");
        assert_eq!(DocumentFrequencies::from_json(&text).expect("read"), counted);
        for (text, expected) in [
            ("{}", "documents"),
            (&text[..text.len() - 3], "EOF"),
            (r#"{"documents": 2, "ngrams": {"a": 3}}"#, "\"a\" occurs in 3 of 2 documents"),
        ] {
            let error = DocumentFrequencies::from_json(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
