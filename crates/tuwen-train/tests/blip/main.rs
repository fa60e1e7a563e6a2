//! Training of BLIP agrees with salesforce/BLIP, and goes on as if it had never stopped.

#![allow(clippy::print_stderr)] // says what it skips

#[path = "../../../tuwen/tests/common/golden.rs"]
mod golden;

mod case;
mod pairs;
mod resume;
mod texts;
