//! Values of settings in JSON; of what is wrong, what was expected.

use serde_json::Value;

/// A whole number of at least so many.
pub(super) fn count(value: &Value, least: u64) -> Result<usize, String> {
    let number = value.as_u64().filter(|&number| number >= least && number <= u64::from(u32::MAX));
    number.map(|number| number as usize).ok_or_else(|| format!("expected a whole number of at least {least}"))
}

/// True or false.
pub(super) fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "expected true or false".to_owned())
}

/// Any number.
pub(super) fn number(value: &Value) -> Result<f32, String> {
    in_range(value, "a number", |_| true)
}

/// A number above 0.
pub(super) fn above_zero(value: &Value) -> Result<f32, String> {
    in_range(value, "a number above 0", |number| number > 0.0)
}

/// A number from 0 to 1.
pub(super) fn fraction(value: &Value) -> Result<f32, String> {
    in_range(value, "a number from 0 to 1", |number| (0.0..=1.0).contains(&number))
}

/// A part of a whole that is not nothing.
pub(super) fn share(value: &Value) -> Result<f32, String> {
    in_range(value, "a number above 0 and at most 1", |number| number > 0.0 && number <= 1.0)
}

fn in_range(value: &Value, expected: &str, holds: impl Fn(f32) -> bool) -> Result<f32, String> {
    let number = value.as_f64().map(|number| number as f32);
    let number = number.filter(|&number| number.is_finite() && holds(number));
    number.ok_or_else(|| format!("expected {expected}"))
}

/// A token.
pub(super) fn id(value: &Value) -> Result<u32, String> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| "expected a token id".to_owned())
}

/// Tokens.
pub(super) fn ids(value: &Value) -> Result<Vec<u32>, String> {
    let ids = value.as_array().and_then(|ids| ids.iter().map(|value| id(value).ok()).collect());
    ids.ok_or_else(|| "expected a list of token ids".to_owned())
}

/// Tokens in a row, several times.
pub(super) fn words(value: &Value) -> Result<Vec<Vec<u32>>, String> {
    let words = value.as_array().and_then(|words| words.iter().map(|word| ids(word).ok()).collect());
    words.ok_or_else(|| "expected a list of token ids in each place of a list".to_owned())
}
