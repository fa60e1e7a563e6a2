//! Why a model could not be fetched; a line each.

use std::io;
use std::path::PathBuf;

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A name that the hub cannot know.
    #[error("{0:?} is no hub id: expected organisation/name, perhaps with @revision")]
    NotAnId(String),
    /// The user wants no network.
    #[error("{0} is not fetched: HF_HUB_OFFLINE is set")]
    Offline(String),
    /// This build opens no connections.
    #[error("this build cannot fetch anything: it was made without the feature hub")]
    NotBuilt,
    /// No place to put it.
    #[error("no cache directory is known; give --cache-dir")]
    NoCache,
    /// No answer.
    #[error("{endpoint} cannot be reached: {reason}")]
    NoNetwork {
        /// The server.
        endpoint: String,
        /// What the system says.
        reason: String,
    },
    /// The server knows no such model, or does not let on.
    #[error("{endpoint} has no model {model}, or a private one that {} does not open", if *token { "this token" } else { "nobody without a token" })]
    NotFound {
        /// The server.
        endpoint: String,
        /// The model.
        model: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// The model has no such branch, tag or commit.
    #[error("{model} has no revision {revision}")]
    NoRevision {
        /// The model.
        model: String,
        /// What was asked for.
        revision: String,
    },
    /// A model that its owners open to single people.
    #[error("{model} is gated: its owners have to grant access, {}", if *token { "which this token does not have" } else { "and no token was given" })]
    NoAccess {
        /// The model.
        model: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// A token that the server refuses.
    #[error("{0} refuses the token")]
    Token(String),
    /// A repository without weights for tuwen.
    #[error("{model} holds no weights that tuwen reads ({found})")]
    NoWeights {
        /// The model.
        model: String,
        /// What it holds instead.
        found: String,
    },
    /// An answer that is none.
    #[error("{url}: {reason}")]
    Reply {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The connection broke.
    #[error("{file}: the download stopped at {done} of {total} bytes: {reason}")]
    Interrupted {
        /// The file.
        file: String,
        /// Bytes that are there.
        done: u64,
        /// All bytes.
        total: u64,
        /// What the system says.
        reason: String,
    },
    /// What came is not what was announced.
    #[error("{0}: what came is not what was announced; it was thrown away")]
    Damaged(String),
    /// Another program is at it.
    #[error("{}: another program is fetching this file", .0.display())]
    Busy(PathBuf),
    /// A file of the cache cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl HubError {
    #[cfg(feature = "hub")]
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
