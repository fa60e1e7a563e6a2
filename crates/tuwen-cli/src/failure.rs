//! How a run ends: the exit status, and what is said when something is in the way.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind};
use std::process::ExitCode;

/// The exit status of the program; a contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything was done.
    Done = 0,
    /// Done, but some inputs failed; each was named on stderr.
    SomeFailed = 1,
    /// Wrong usage or arguments.
    Usage = 2,
    /// The model could not be loaded.
    Model = 3,
    /// A check did not hold.
    Check = 4,
}

impl Status {
    /// `SomeFailed` if any input failed.
    pub fn after(failed: usize) -> Self {
        if failed == 0 { Self::Done } else { Self::SomeFailed }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a run stopped early.
#[derive(Debug)]
pub struct Failure {
    /// What the program exits with.
    pub status: Status,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// Something that the user has to ask for differently.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { status: Status::Usage, ..Self::from(error) }
    }

    /// A model that cannot be loaded or used.
    pub fn model(error: impl Into<anyhow::Error>) -> Self {
        Self { status: Status::Model, ..Self::from(error) }
    }

    /// Says what to try.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same; where there is no room for what is to be written, with what to do once there is.
    pub fn hint_if_full(self, go_on: &str) -> Self {
        use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match self.io_kind() {
            Some(FileTooLarge | QuotaExceeded | StorageFull) => self.hint(format!("make room; {go_on}")),
            _ => self,
        }
    }

    /// Whether the reader of the output went away, as `head` does; nobody is left to complain to.
    pub fn is_closed_pipe(&self) -> bool {
        self.io_kind() == Some(ErrorKind::BrokenPipe)
    }

    /// What the system says, if it said something.
    fn io_kind(&self) -> Option<ErrorKind> {
        self.error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { status: Status::SomeFailed, error: error.into(), hint: None }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", one_line(&self.error))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The causes of an error, from outside to inside; a cause that an outer text already tells is left out.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        said if said.contains(&cause) => line,
        said => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow!("no such file").context("a.jpg: no such file").context("cannot embed");
        assert_eq!(one_line(&error), "cannot embed: a.jpg: no such file");
    }

    #[test]
    fn the_hint_has_its_own_line() {
        let failure = Failure::usage(anyhow!("no labels")).hint("give --labels");
        assert_eq!(failure.to_string(), "error: no labels\nhint: give --labels");
        assert_eq!(failure.status, Status::Usage);
    }

    #[test]
    fn a_closed_pipe_is_known_through_its_context() {
        let io = |kind| Failure::from(anyhow::Error::from(io::Error::from(kind)).context("writing"));
        assert!(io(ErrorKind::BrokenPipe).is_closed_pipe());
        assert!(!io(ErrorKind::StorageFull).is_closed_pipe());
        let full = io(ErrorKind::StorageFull).hint_if_full("go on");
        assert!(full.to_string().ends_with("\nhint: make room; go on"), "{full}");
        assert!(!io(ErrorKind::NotFound).hint_if_full("go on").to_string().contains("hint"));
    }
}
