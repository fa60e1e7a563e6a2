//! Inputs, and the comparison of an operation with its definition.

use tuwen_tensor::Tensor;

/// Step of the central differences, in f64: the error is about 1e-10.
const STEP: f64 = 1e-5;

/// An input of an operation.
#[derive(Clone, Debug)]
pub struct Input {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Numbers between -1 and 1, the same for the same seed.
pub fn input(shape: &[usize], seed: u64) -> Input {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    let values = (0..shape.iter().product()).map(|_| next()).collect();
    Input { shape: shape.to_vec(), values }
}

/// One input a shape, of different numbers.
pub fn inputs(shapes: &[&[usize]]) -> Vec<Input> {
    shapes.iter().zip(1..).map(|(shape, seed)| input(shape, seed)).collect()
}

impl Input {
    /// Off the tape.
    pub fn tensor(&self) -> Tensor {
        Tensor::new(&self.values, &self.shape)
    }

    pub fn wide(&self) -> Vec<f64> {
        self.values.iter().map(|&value| f64::from(value)).collect()
    }
}

/// Each element within 1e-4 of what is expected, or within 1e-5 of the largest one.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: number of elements");
    let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let allowed = 1e-4 * expected.abs() + 1e-5 * largest + 1e-7;
        let error = (f64::from(got) - expected).abs();
        assert!(error <= allowed, "{what}: element {i} is {got}, expected {expected}, error {error:e}");
    }
}

/// Checks the values of `op`, on and off the tape, and the gradient of `Σ seed · op(inputs)` for each input: with all
/// inputs on the tape, and with that input alone.
#[track_caller]
pub fn check(
    what: &str,
    inputs: &[Input],
    op: impl Fn(&[Tensor]) -> Tensor,
    definition: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let mut point: Vec<Vec<f64>> = inputs.iter().map(Input::wide).collect();
    let constants: Vec<Tensor> = inputs.iter().map(Input::tensor).collect();
    let leaves: Vec<Tensor> = constants.iter().map(Tensor::leaf).collect();
    let expected = definition(&point);
    let (untaped, y) = (op(&constants), op(&leaves));
    assert!(!untaped.requires_grad() && y.requires_grad(), "{what}: on the tape if an input is");
    assert_eq!(untaped.shape(), y.shape(), "{what}: shapes");
    assert_close(&format!("{what}, off the tape"), &untaped.to_vec(), &expected);
    assert_close(what, &y.to_vec(), &expected);

    let seed = input(y.shape(), 99);
    let gradients = y.backward_from(seed.tensor());
    let loss = |point: &[Vec<f64>]| -> f64 {
        definition(point).iter().zip(&seed.values).map(|(y, &weight)| y * f64::from(weight)).sum()
    };
    for (i, leaf) in leaves.iter().enumerate() {
        let gradient = gradients.get(leaf).unwrap_or_else(|| panic!("{what}: no gradient for input {i}"));
        assert_eq!(gradient.shape(), leaf.shape(), "{what}: shape of gradient {i}");
        let numeric: Vec<f64> = (0..leaf.elements())
            .map(|element| {
                let value = point[i][element];
                let mut at = |value| {
                    point[i][element] = value;
                    loss(&point)
                };
                let slope = (at(value + STEP) - at(value - STEP)) / (2.0 * STEP);
                point[i][element] = value;
                slope
            })
            .collect();
        assert_close(&format!("{what}, gradient {i}"), &gradient.to_vec(), &numeric);

        let mut mixed = constants.clone();
        mixed[i] = constants[i].leaf();
        let alone = op(&mixed).backward_from(seed.tensor());
        let alone = alone.get(&mixed[i]).unwrap_or_else(|| panic!("{what}: no gradient for input {i} alone"));
        assert_eq!(alone.to_vec(), gradient.to_vec(), "{what}: gradient {i} alone");
    }
}
