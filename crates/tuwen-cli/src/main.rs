//! The command-line program `tuwen`.
fn main() {}
