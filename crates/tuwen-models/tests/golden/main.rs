//! BLIP and ALBEF compute what the original programs and transformers compute, from files of each.

#![allow(clippy::print_stderr)] // says what is skipped

#[path = "../../../tuwen/tests/common/golden.rs"]
mod golden;

mod albef;
mod blip_hugging_face;
mod blip_salesforce;
mod explain;
mod generation;
mod support;
mod written;
