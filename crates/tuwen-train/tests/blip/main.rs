//! Training of BLIP and ALBEF agrees with their programs, and goes on as if it had never stopped.

#![allow(clippy::print_stderr)] // says what it skips

#[path = "../../../tuwen/tests/common/golden.rs"]
mod golden;

mod albef;
mod albef_runs;
mod case;
mod distillation;
mod nlvr;
mod pairs;
mod resume;
mod start;
mod texts;
