//! Rows of vectors: what towers give and what is compared.

/// Vectors of one width, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    values: Vec<f32>,
    dim: usize,
}

impl Embeddings {
    /// Rows of `dim` values, one after the other.
    ///
    /// # Panics
    /// If the values do not make whole rows.
    pub fn new(values: Vec<f32>, dim: usize) -> Self {
        assert!(dim > 0 && values.len().is_multiple_of(dim), "{} values in rows of {dim}", values.len());
        Self { values, dim }
    }

    /// Width of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim.max(1))
    }

    /// A row by its number.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.dim..][..self.dim]
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows brought to length 1.
    pub fn normalized(mut self) -> Self {
        self.values.chunks_exact_mut(self.dim.max(1)).for_each(normalize);
        self
    }

    /// The mean of every `group` rows, brought to length 1: one vector for a class that several prompts describe.
    ///
    /// # Panics
    /// If the rows do not make whole groups.
    pub fn grouped(&self, group: usize) -> Self {
        assert!(group > 0 && self.len().is_multiple_of(group), "{} rows in groups of {group}", self.len());
        let mut values = Vec::with_capacity(self.values.len() / group);
        for rows in self.values.chunks_exact(group * self.dim) {
            let mean =
                (0..self.dim).map(|i| rows.iter().skip(i).step_by(self.dim).sum::<f32>() / group as f32);
            values.extend(mean);
        }
        Self { values, dim: self.dim }.normalized()
    }

    /// Dot products of each row here with each row there: `[self.len()][other.len()]`.
    pub fn dot(&self, other: &Self) -> Vec<Vec<f32>> {
        self.rows().map(|row| other.rows().map(|column| dot(row, column)).collect()).collect()
    }

    /// The dot product of one row here with one row there.
    pub fn dot_of_rows(&self, row: usize, other: &Self, other_row: usize) -> f32 {
        dot(self.row(row), other.row(other_row))
    }
}

/// The sum of products, in order.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Divides by the length, as `torch.nn.functional.normalize` does.
fn normalize(row: &mut [f32]) {
    let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    row.iter_mut().for_each(|v| *v /= length);
}

/// `exp(x) / sum(exp(x))`.
pub(crate) fn softmax(logits: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|x| *x /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_is_the_normalised_mean() {
        let prompts = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 4.0], 2);
        let classes = prompts.grouped(2);
        let half = 0.5_f32.sqrt();
        assert_eq!(classes.len(), 2);
        for (got, expected) in classes.values().iter().zip([half, half, 0.0, 1.0]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn rows_are_multiplied_with_rows() {
        let a = Embeddings::new(vec![1.0, 2.0, 3.0, 4.0], 2);
        let b = Embeddings::new(vec![5.0, 6.0], 2);
        assert_eq!(a.dot(&b), [[17.0], [39.0]]);
        assert_eq!(Embeddings::new(vec![3.0, 4.0, 0.0, 0.0], 2).normalized().values(), [0.6, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let mut logits = [1000.0, 1000.0, 0.0];
        softmax(&mut logits);
        assert_eq!(logits, [0.5, 0.5, 0.0]);
    }
}
