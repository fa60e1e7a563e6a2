//! Training of BLIP and ALBEF agrees with their programs, and goes on as if it had never stopped.

#![allow(clippy::print_stderr)] // says what it skips

#[path = "../../../tuwen/tests/common/golden.rs"]
mod golden;

mod albef;
mod case;
mod pairs;
mod resume;
mod texts;
