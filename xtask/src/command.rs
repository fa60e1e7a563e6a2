//! Programs that the chores start: what failed is told with their arguments.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// A program with its arguments.
pub struct Step {
    command: Command,
    title: String,
}

/// Cargo, the one that runs this, in the root of the project.
pub fn cargo(root: &Path, arguments: &[&str]) -> Step {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    step(root, "cargo", Command::new(program), arguments)
}

/// The compiler of the project's toolchain.
pub fn rustc(root: &Path, arguments: &[&str]) -> Step {
    step(root, "rustc", Command::new("rustc"), arguments)
}

fn step(root: &Path, name: &str, mut command: Command, arguments: &[&str]) -> Step {
    command.args(arguments).current_dir(root);
    Step { command, title: format!("{name} {}", arguments.join(" ")) }
}

impl Step {
    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub fn run(mut self) -> Result<(), String> {
        self.end(|command| command.status(), |status| *status).map(drop)
    }

    /// Runs it to its end; what it wrote to stdout is returned.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub fn output(mut self) -> Result<String, String> {
        self.command.stderr(Stdio::inherit());
        let output = self.end(|command| command.output(), |output| output.status)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn end<T>(
        &mut self,
        run: impl FnOnce(&mut Command) -> std::io::Result<T>,
        status: impl FnOnce(&T) -> ExitStatus,
    ) -> Result<T, String> {
        let ended = run(&mut self.command).map_err(|error| format!("{}: {error}", self.title))?;
        let status = status(&ended);
        if status.success() { Ok(ended) } else { Err(format!("{}: {status}", self.title)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_named() {
        let message = cargo(Path::new("."), &["no-such-verb"]).run().expect_err("unknown");
        assert!(message.starts_with("cargo no-such-verb: "), "{message}");
    }

    #[test]
    fn output_is_what_was_printed() {
        assert!(cargo(Path::new("."), &["--version"]).output().expect("runs").starts_with("cargo "));
    }
}
