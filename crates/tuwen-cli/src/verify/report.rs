//! Comparison: how far each computed tensor is from the recorded one, and whether that is close enough.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{RawTensor, TensorSource};

/// How far a value may be off: `abs + rel * |expected|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// In units of the value.
    pub abs: f64,
    /// As a part of the recorded value.
    pub rel: f64,
}

impl Tolerance {
    /// Equality.
    pub const EXACT: Self = Self { abs: 0.0, rel: 0.0 };

    /// An absolute tolerance alone.
    pub fn abs(abs: f64) -> Self {
        Self { abs, rel: 0.0 }
    }
}

/// A comparison of one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the tensor in the files of the case.
    pub tensor: String,
    /// Largest difference.
    pub max_abs: f64,
    /// Largest difference as a part of the recorded value, where that is larger than the absolute tolerance.
    pub max_rel: f64,
    /// The absolute tolerance.
    pub tolerance: f64,
    /// What is added to it as a part of the recorded value.
    pub tolerance_rel: f64,
    /// Whether every value is close enough.
    pub ok: bool,
    /// Why not, where numbers do not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// All comparisons of a case in the order of computation, and what was computed.
#[derive(Default)]
pub struct Report {
    /// The comparisons.
    pub rows: Vec<Row>,
    /// Everything computed, under the names of the case.
    pub computed: Vec<(String, RawTensor<'static>)>,
    /// What a user should know.
    pub notes: Vec<String>,
}

impl Report {
    /// The first comparison that failed.
    pub fn first_wrong(&self) -> Option<&Row> {
        self.rows.iter().find(|row| !row.ok)
    }

    /// Compares values one by one; `got` is kept.
    pub fn compare(
        &mut self,
        name: &str,
        got: RawTensor<'static>,
        expected: &RawTensor<'_>,
        tolerance: Tolerance,
    ) {
        self.rows.push(compare(name, &got, expected, tolerance, |_| true));
        self.computed.push((name.to_owned(), got));
    }

    /// Compares only the values whose index is of interest.
    pub fn compare_some(
        &mut self,
        name: &str,
        got: RawTensor<'static>,
        expected: &RawTensor<'_>,
        tolerance: Tolerance,
        of_interest: impl Fn(usize) -> bool,
    ) {
        self.rows.push(compare(name, &got, expected, tolerance, of_interest));
        self.computed.push((name.to_owned(), got));
    }

    /// Compares a number that is no tensor.
    pub fn number(&mut self, name: &str, got: f64, expected: f64, tolerance: f64) {
        let off = (got - expected).abs();
        let max_rel = if expected.abs() > tolerance { off / expected.abs() } else { 0.0 };
        let ok = off <= tolerance;
        self.rows.push(Row {
            max_abs: off,
            max_rel,
            ok,
            note: None,
            ..failed(name, Tolerance::abs(tolerance), "")
        });
        self.computed.push((name.to_owned(), RawTensor::from_f32(&[], &[got as f32])));
    }

    /// Notes how many things of a kind differ, of which none may; `first` says which is the first.
    pub fn count(&mut self, name: &str, different: usize, first: Option<String>) {
        let row = Row {
            max_abs: different as f64,
            note: first,
            ok: different == 0,
            ..failed(name, Tolerance::EXACT, "")
        };
        self.rows.push(row);
    }

    /// Notes a failure.
    pub fn fail(&mut self, name: &str, tolerance: Tolerance, note: impl Into<String>) {
        self.rows.push(failed(name, tolerance, note));
    }
}

fn failed(name: &str, tolerance: Tolerance, note: impl Into<String>) -> Row {
    Row {
        tensor: name.to_owned(),
        max_abs: 0.0,
        max_rel: 0.0,
        tolerance: tolerance.abs,
        tolerance_rel: tolerance.rel,
        ok: false,
        note: Some(note.into()),
    }
}

fn compare(
    name: &str,
    got: &RawTensor<'_>,
    expected: &RawTensor<'_>,
    tolerance: Tolerance,
    of_interest: impl Fn(usize) -> bool,
) -> Row {
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    // A scalar may be recorded as one number in a row.
    if got.shape != expected.shape && (count(&got.shape), count(&expected.shape)) != (1, 1) {
        return failed(name, tolerance, format!("expected shape {:?}, got {:?}", expected.shape, got.shape));
    }
    let mut row = Row { ok: true, note: None, ..failed(name, tolerance, "") };
    let pairs = got.to_f32().into_iter().zip(expected.to_f32()).enumerate().filter(|(i, _)| of_interest(*i));
    for (_, (got, expected)) in pairs {
        let (off, size) = (f64::from(got - expected).abs(), f64::from(expected).abs());
        // Not a number is no agreement.
        row.ok &= off <= tolerance.abs + tolerance.rel * size;
        row.max_abs = if off.is_nan() { f64::NAN } else { row.max_abs.max(off) };
        if size > tolerance.abs {
            row.max_rel = row.max_rel.max(off / size);
        }
    }
    row
}

/// The recorded tensors of a file, ticked off one by one.
pub struct Expected<S> {
    source: S,
    left: BTreeSet<String>,
}

impl<S: TensorSource> Expected<S> {
    /// All tensors of a file.
    pub fn new(source: S) -> Self {
        let left = source.names().into_iter().collect();
        Self { source, left }
    }

    /// Compares a computed tensor with the recorded one of this name, if there is one; either way it is kept.
    pub fn check(
        &mut self,
        report: &mut Report,
        name: &str,
        got: &Tensor,
        tolerance: Tolerance,
    ) -> Result<()> {
        let values = got.to_vec();
        if !self.left.remove(name) {
            report.computed.push((name.to_owned(), RawTensor::from_f32(got.shape(), &values)));
            return Ok(());
        }
        let expected = self.source.read(name)?;
        // A map of patches is recorded as rows and columns.
        let same_but_grid =
            expected.shape.len() == 4 && got.shape().len() == 3 && expected.shape[..2] == got.shape()[..2];
        let fits = same_but_grid && expected.shape[2] * expected.shape[3] == got.shape()[2];
        let shape = if fits { &expected.shape } else { got.shape() };
        report.compare(name, RawTensor::from_f32(shape, &values), &expected, tolerance);
        Ok(())
    }

    /// Recorded integers.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let raw = self.source.read(name)?;
        raw.to_i64().with_context(|| format!("{name}: expected integers, got {}", raw.dtype))
    }

    /// Recorded numbers, which are ticked off.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let raw = self.source.read(name)?;
        self.left.remove(name);
        Ok(Tensor::new(&raw.to_f32(), &raw.shape))
    }

    /// Ticks off what begins with one of these names without a comparison, and returns how many that were.
    pub fn leave_out(&mut self, names: &[&str]) -> usize {
        let before = self.left.len();
        self.left.retain(|left| !names.iter().any(|name| left.starts_with(name)));
        before - self.left.len()
    }

    /// Whether a name is recorded and not yet ticked off.
    pub fn wants(&self, name: &str) -> bool {
        self.left.contains(name)
    }

    /// Every recorded tensor that was not computed is a failure.
    pub fn finish(self, report: &mut Report, tolerance: Tolerance) {
        for name in self.left {
            report.fail(&name, tolerance, "not computed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tuwen_tensor::checkpoint::{open, write_safetensors};

    use super::*;

    fn expected(directory: &std::path::Path) -> Expected<impl TensorSource + 'static> {
        let path = directory.join("expected.safetensors");
        let tensors = [
            ("a", vec![2], vec![1.0, 100.0]),
            ("b", vec![1], vec![1.0]),
            ("c", vec![1, 1, 2, 2], vec![0.0; 4]),
        ];
        let tensors =
            tensors.map(|(name, shape, values)| (name.to_owned(), RawTensor::from_f32(&shape, &values)));
        write_safetensors(&path, tensors, &BTreeMap::new()).expect("written");
        Expected::new(open(&path).expect("opened"))
    }

    #[test]
    fn close_is_absolute_plus_relative() {
        let directory = tempfile::tempdir().expect("a directory");
        let tolerance = Tolerance { abs: 0.1, rel: 0.01 };
        for (values, ok) in
            [([1.0, 101.0], true), ([1.12, 100.0], false), ([0.9, 102.0], false), ([f32::NAN, 100.0], false)]
        {
            let (mut report, mut expected) = (Report::default(), expected(directory.path()));
            expected.check(&mut report, "a", &Tensor::new(&values, &[2]), tolerance).expect("read");
            assert_eq!(report.rows[0].ok, ok, "{values:?}");
        }
    }

    #[test]
    fn what_is_missing_or_shaped_otherwise_is_wrong() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut report, mut expected) = (Report::default(), expected(directory.path()));
        let mut check = |name: &str, shape: &[usize]| {
            let got = Tensor::full(1.0, shape);
            expected.check(&mut report, name, &got, Tolerance::EXACT).expect("read");
        };
        check("extra", &[3]);
        check("b", &[]);
        check("a", &[1, 2]);
        expected.finish(&mut report, Tolerance::EXACT);
        let rows: Vec<_> =
            report.rows.iter().map(|row| (row.tensor.as_str(), row.ok, row.note.as_deref())).collect();
        let shape = Some("expected shape [2], got [1, 2]");
        assert_eq!(rows, [("b", true, None), ("a", false, shape), ("c", false, Some("not computed"))]);
        assert_eq!(report.first_wrong().map(|row| row.tensor.as_str()), Some("a"));
        assert_eq!(report.computed.len(), 3);
    }
}
