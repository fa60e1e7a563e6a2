//! Our own figures, by `tuwen bench`: a process each time, so that its memory is that of the row.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::figures::Answer;
use super::plan::Row;

/// The program.
pub struct Ours {
    program: PathBuf,
    threads: usize,
}

impl Ours {
    /// Builds the release.
    pub fn build(root: &Path, threads: usize) -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--quiet", "--package", "tuwen-cli"]).current_dir(root);
        match build.status() {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("cargo build: {status}")),
            Err(error) => return Err(format!("cargo build: {error}")),
        }
        let name = format!("tuwen{}", std::env::consts::EXE_SUFFIX);
        Ok(Self { program: root.join("target/release").join(name), threads })
    }

    /// A round of a row.
    pub fn measure(&self, row: &Row, checkpoint: Option<&Path>, seconds: f64) -> Result<Answer, String> {
        let mut command = Command::new(&self.program);
        command.arg("bench").args(checkpoint).args(["--json", "--quiet", "--stage", row.stage]);
        command.args(["--batch", &row.batch.to_string(), "--precision", row.precision]);
        command.args(["--seconds", &seconds.to_string(), "--threads", &self.threads.to_string()]);
        let output = command.output().map_err(|error| format!("tuwen bench: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let failed = || format!("tuwen bench: {}", said.lines().next().unwrap_or("no line"));
        if !output.status.success() {
            return Err(failed());
        }
        let line = String::from_utf8_lossy(&output.stdout);
        answer(line.lines().next().unwrap_or_default()).ok_or_else(failed)
    }
}

/// A line of `tuwen bench --json`, or of a peer.
pub fn answer(line: &str) -> Option<Answer> {
    let value: Value = serde_json::from_str(line).ok()?;
    let seconds = value["seconds"].as_f64()?;
    Some(Answer { seconds, peak_memory: value["peak_memory"].as_u64(), roofline: value["roofline"].as_f64() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_kinds_are_read() {
        let ours = answer(r#"{"stage":"decode","seconds":0.5,"peak_memory":7,"roofline":0.25}"#);
        assert_eq!(ours, Some(Answer { seconds: 0.5, peak_memory: Some(7), roofline: Some(0.25) }));
        let theirs = answer(r#"{"seconds":0.5,"runs":3,"peak_memory":null}"#);
        assert_eq!(theirs, Some(Answer { seconds: 0.5, peak_memory: None, roofline: None }));
        assert_eq!(answer(r#"{"error":"no"}"#), None);
        assert_eq!(answer(""), None);
    }
}
