//! The classes of a data set, and the class of each sample by its place among them.

use std::collections::{BTreeMap, BTreeSet};

use tuwen_data::dataset::Sample;

use crate::EvalError;

/// Classes in the order of their numbers, or of their names where a data set has no numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    names: Vec<String>,
    /// Whether samples have names; otherwise only numbers, which stand in for them.
    named: bool,
}

/// What a class is called when nobody named it.
fn spoken(label: i64) -> String {
    label.to_string()
}

impl Classes {
    /// The classes of samples.
    ///
    /// # Errors
    /// Samples without a class; `data` is what the error calls the data set.
    pub fn of(samples: &[Sample], data: &str) -> Result<Self, EvalError> {
        let mut without =
            samples.iter().filter(|sample| sample.class_name.is_none() && sample.label.is_none());
        if let Some(first) = without.next() {
            let (missing, total) = (1 + without.count(), samples.len());
            return Err(EvalError::NoClass {
                data: data.to_owned(),
                missing,
                total,
                first: first.key.clone(),
            });
        }
        let named = samples.iter().all(|sample| sample.class_name.is_some());
        let numbered: Option<BTreeMap<i64, String>> = samples
            .iter()
            .map(|sample| {
                let label = sample.label?;
                Some((label, sample.class_name.clone().filter(|_| named).unwrap_or_else(|| spoken(label))))
            })
            .collect();
        let mut names: Vec<String> = match numbered {
            Some(numbered) => numbered.into_values().collect(),
            None => {
                let names = samples.iter().filter_map(|sample| sample.class_name.clone());
                names.collect::<BTreeSet<_>>().into_iter().collect()
            }
        };
        // Two numbers of one name, as in files merged from several data sets.
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(Self { names, named })
    }

    /// These classes in this order.
    pub fn from_names(names: Vec<String>) -> Self {
        Self { names, named: true }
    }

    /// Their names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Their names as in a sentence: without the underscores of file names.
    pub fn spoken(&self) -> Vec<String> {
        self.names.iter().map(|name| name.replace('_', " ")).collect()
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The place of the class of a sample.
    pub fn place(&self, class_name: Option<&str>, label: Option<i64>) -> Option<usize> {
        let number = || label.map(spoken);
        let name = if self.named { class_name.map(str::to_owned).or_else(number) } else { number() }?;
        self.names.iter().position(|known| *known == name)
    }

    /// The place of the class of each sample.
    ///
    /// # Errors
    /// A sample of another class, or of none.
    pub fn places(&self, samples: &[Sample], data: &str) -> Result<Vec<usize>, EvalError> {
        let place = |sample: &Sample| {
            let (name, label) = (sample.class_name.as_deref(), sample.label);
            self.place(name, label).ok_or_else(|| EvalError::UnknownClass {
                data: data.to_owned(),
                class: name.map(str::to_owned).or_else(|| label.map(spoken)).unwrap_or_default(),
                key: sample.key.clone(),
            })
        };
        samples.iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(label: Option<i64>, class_name: Option<&str>) -> Sample {
        let class_name = class_name.map(str::to_owned);
        Sample { key: "k".into(), label, class_name, ..Sample::default() }
    }

    #[test]
    fn numbers_order_and_names_identify() {
        let samples = [sample(Some(7), Some("hot_dog")), sample(Some(2), Some("zebra"))];
        let classes = Classes::of(&samples, "x").expect("classes");
        assert_eq!(
            (classes.names(), classes.spoken()[1].as_str()),
            (&["zebra", "hot_dog"].map(String::from)[..], "hot dog")
        );
        // Another data set may number the same classes otherwise.
        assert_eq!(classes.places(&[sample(Some(0), Some("hot_dog"))], "y").expect("known"), [1]);
        let error = classes.places(&[sample(Some(7), Some("cat"))], "y").expect_err("unknown").to_string();
        assert!(error.contains("y: class \"cat\" of sample k"), "{error}");
    }

    #[test]
    fn a_data_set_may_have_names_or_numbers_alone() {
        let numbers = Classes::of(&[sample(Some(10), None), sample(Some(9), None)], "x").expect("classes");
        assert_eq!(numbers.names(), ["9", "10"]);
        assert_eq!(numbers.place(None, Some(10)), Some(1));
        let names = Classes::of(&[sample(None, Some("b")), sample(None, Some("a"))], "x").expect("classes");
        assert_eq!(names.names(), ["a", "b"]);
        let error = Classes::of(&[sample(Some(1), None), sample(None, None)], "x").expect_err("none");
        assert_eq!(error.to_string(), "x: 1 of 2 samples have no class; the first is k");
    }
}
