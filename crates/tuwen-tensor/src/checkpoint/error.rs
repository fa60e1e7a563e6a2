//! What can be wrong with a checkpoint, said with the file, the place and the expectation.

use std::fmt::{self, Write};
use std::path::PathBuf;

/// A failure to open, read or write a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// The content is not what a checkpoint may hold.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong.
        #[source]
        problem: Problem,
    },
    /// A tensor was asked for that is not there.
    #[error("{}: no tensor named `{}`", path.display(), Name(name))]
    NoSuchTensor {
        /// The file concerned.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// No weight file in a directory.
    #[error("{}: no weights here (looked for {looked_for}){found}", path.display())]
    NoWeights {
        /// The directory.
        path: PathBuf,
        /// The file names that are tried, in order.
        looked_for: String,
        /// Other files that may be checkpoints, as the end of the sentence, or empty.
        found: String,
    },
    /// A naming rule and a tensor disagree.
    #[error("naming rule for `{}`: {}", Name(name), Reason(reason))]
    Rule {
        /// The tensor concerned.
        name: String,
        /// What does not fit.
        reason: String,
    },
}

/// What is wrong with the content of a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Content of no known kind.
    #[error("not a checkpoint that tuwen reads: {}", Reason(.0))]
    Unknown(String),
    /// A pickle names code or objects.
    #[error(
        "refused: the pickle names `{}`; tuwen reads tensors only and calls nothing{}",
        Name(name),
        refusal_hint(name)
    )]
    Refused {
        /// Module and name.
        name: String,
    },
    /// A pickle that cannot be followed.
    #[error("pickle, byte {at}: {}", Reason(reason))]
    Pickle {
        /// Offset within the pickle.
        at: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A safetensors header that does not hold.
    #[error("safetensors header: {}", Reason(.0))]
    Safetensors(String),
    /// A zip archive that does not hold.
    #[error("zip archive: {}", Reason(.0))]
    Archive(String),
    /// A tensor whose description and data disagree.
    #[error("tensor `{}`: {}", Name(name), Reason(reason))]
    Tensor {
        /// Name in the file.
        name: String,
        /// What disagrees.
        reason: String,
    },
    /// A shard index that does not hold.
    #[error("shard index: {}", Reason(.0))]
    Index(String),
}

/// A name from a file, as part of one line: no control characters, and cut where it gets long.
pub(super) struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(self.0, 100, f)
    }
}

/// A sentence that may quote a file, treated alike.
struct Reason<'a>(&'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(self.0, 500, f)
    }
}

fn one_line(text: &str, longest: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (count, character) in text.chars().enumerate() {
        if count == longest {
            return f.write_str("...");
        }
        if character.is_control() {
            write!(f, "{}", character.escape_default())?
        } else {
            f.write_char(character)?
        }
    }
    Ok(())
}

fn refusal_hint(name: &str) -> &'static str {
    let code =
        ["os.", "posix.", "nt.", "subprocess.", "builtins.", "__builtin__.", "sys.", "runpy.", "socket."];
    if code.iter().any(|module| name.starts_with(module)) {
        " (a function call: the file may be malicious)"
    } else {
        " (save the model's state_dict() alone)"
    }
}

impl Problem {
    pub(super) fn in_file(self, path: &std::path::Path) -> CheckpointError {
        CheckpointError::Invalid { path: path.to_path_buf(), problem: self }
    }

    pub(super) fn tensor(name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { name: name.to_owned(), reason: reason.into() }
    }
}

impl CheckpointError {
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_within_one_line() {
        let name = format!("a\nb\u{1b}[2J{}", "x".repeat(1_000_000));
        let problem = Problem::tensor(&name, name.clone());
        let message = problem.in_file(std::path::Path::new("model.pt")).to_string();
        assert!(message.starts_with(r"model.pt: tensor `a\nb\u{1b}[2Jxx"), "{message:.100}");
        assert!(message.lines().count() == 1 && message.len() < 700, "{}", message.len());
        assert!(Problem::Refused { name }.to_string().len() < 250);
    }
}
