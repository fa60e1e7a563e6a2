//! The few requests that the hub answers, over HTTP.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::wanted::is_plain;
use super::{ENDPOINT, Hub, HubError};
use crate::source::HubId;

/// Longest description of a repository; the largest have some thousand files.
const MAX_DESCRIPTION: u64 = 16 << 20;

/// Redirections that are followed.
const MAX_REDIRECTS: usize = 5;

const CONNECTING: Duration = Duration::from_secs(15);
const ANSWERING: Duration = Duration::from_secs(60);

/// A connection to the hub for one model.
pub struct Client<'h> {
    agent: Agent,
    endpoint: &'h str,
    token: Option<&'h str>,
    id: HubId<'h>,
}

/// What the hub says about a repository.
#[derive(Deserialize)]
pub struct Description {
    /// The commit.
    pub sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Description {
    /// The files at the top of the repository.
    pub fn files(self) -> Vec<String> {
        self.siblings.into_iter().map(|file| file.rfilename).filter(|name| is_plain(name)).collect()
    }
}

/// What the hub says about a file.
pub struct Metadata {
    /// The name of its content: SHA-256 for large files, else git's.
    pub hash: String,
    /// Its bytes.
    pub size: u64,
}

impl<'h> Client<'h> {
    pub fn new(hub: &'h Hub, id: HubId<'h>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECTING))
            .timeout_recv_response(Some(ANSWERING))
            .user_agent(concat!("tuwen/", env!("CARGO_PKG_VERSION")))
            .build();
        let endpoint = hub.endpoint.as_deref().unwrap_or(ENDPOINT).trim_end_matches('/');
        Self { agent: Agent::new_with_config(config), endpoint, token: hub.token.as_deref(), id }
    }

    /// The commit of the revision, and its files.
    pub fn describe(&self) -> Result<Description, HubError> {
        let revision = self.id.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, self.id.name());
        let response = self.get(&url, None)?;
        self.check(&response, &url)?;
        let text = response.into_body().into_with_config().limit(MAX_DESCRIPTION).read_to_vec();
        let text = text.map_err(|error| self.no_answer(&error))?;
        let fault = |reason: String| HubError::Reply { url: url.clone(), reason };
        let description: Description = serde_json::from_slice(&text)
            .map_err(|error| fault(format!("not the description of a model: {error}")))?;
        if !is_plain(&description.sha) {
            return Err(fault("it names no commit".to_owned()));
        }
        Ok(description)
    }

    /// Name and size of a file's content at a commit.
    pub fn metadata(&self, commit: &str, file: &str) -> Result<Metadata, HubError> {
        let mut url = self.file_url(commit, file);
        for _ in 0..MAX_REDIRECTS {
            // Packed, it would have another size.
            let request = self.agent.head(&url).header("accept-encoding", "identity");
            let request = self.authorize(&url, request);
            let response = request.call().map_err(|error| self.no_answer(&error))?;
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            let elsewhere = header("location").filter(|_| response.status().is_redirection());
            // Large files lie elsewhere, but what is said here about them counts.
            if let (Some(location), None) = (elsewhere, header("x-linked-etag")) {
                url = absolute(&url, location);
                continue;
            }
            if elsewhere.is_none() {
                self.check(&response, &url)?;
            }
            let fault = |reason: &str| HubError::Reply { url: url.clone(), reason: reason.to_owned() };
            let etag = header("x-linked-etag").or_else(|| header("etag")).unwrap_or_default();
            let hash = etag.trim_start_matches("W/").trim_matches('"');
            let size =
                header("x-linked-size").or_else(|| header("content-length").filter(|_| elsewhere.is_none()));
            let size = size
                .and_then(|size| size.parse().ok())
                .ok_or_else(|| fault("no size of the file is given"))?;
            if !is_plain(hash) {
                return Err(fault("no usable ETag is given"));
            }
            return Ok(Metadata { hash: hash.to_owned(), size });
        }
        Err(HubError::Reply { url, reason: "redirected without end".to_owned() })
    }

    /// The content of a file from byte `start` on, and the byte where it does begin: 0 from a server without ranges.
    pub fn content(
        &self,
        commit: &str,
        file: &str,
        start: u64,
    ) -> Result<(u64, impl Read + 'static), HubError> {
        let url = self.file_url(commit, file);
        let response = self.get(&url, (start > 0).then_some(start))?;
        self.check(&response, &url)?;
        let start = if response.status() == StatusCode::PARTIAL_CONTENT { start } else { 0 };
        Ok((start, response.into_body().into_reader()))
    }

    fn file_url(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.endpoint, self.id.name())
    }

    /// The answer at the end of all redirections.
    fn get(&self, url: &str, start: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let mut request = self.agent.get(&url).header("accept-encoding", "identity");
            if let Some(start) = start {
                request = request.header("range", format!("bytes={start}-"));
            }
            let request = self.authorize(&url, request);
            let response = request.call().map_err(|error| self.no_answer(&error))?;
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            match location.filter(|_| response.status().is_redirection()) {
                Some(location) => url = absolute(&url, location),
                None => return Ok(response),
            }
        }
        Err(HubError::Reply { url, reason: "redirected without end".to_owned() })
    }

    /// Adds the token where the endpoint itself is asked, and nowhere else.
    fn authorize<B>(&self, url: &str, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match self.token {
            Some(token) if server(url) == server(self.endpoint) => {
                request.header("authorization", format!("Bearer {token}"))
            }
            _ => request,
        }
    }

    /// What a status says.
    fn check(&self, response: &Response<Body>, url: &str) -> Result<(), HubError> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or("");
        let (model, token) = (self.id.name(), self.token.is_some());
        Err(match (code, status) {
            ("GatedRepo", _) | ("", StatusCode::FORBIDDEN) => HubError::NoAccess { model, token },
            ("RevisionNotFound", _) => HubError::NoRevision { model, revision: self.id.revision.to_owned() },
            ("", StatusCode::UNAUTHORIZED) if token => HubError::Token(self.endpoint.to_owned()),
            ("RepoNotFound", _) | ("", StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => {
                HubError::NotFound { endpoint: self.endpoint.to_owned(), model, token }
            }
            _ => HubError::Reply { url: url.to_owned(), reason: format!("the server answers {status}") },
        })
    }

    fn no_answer(&self, error: &ureq::Error) -> HubError {
        HubError::NoNetwork { endpoint: self.endpoint.to_owned(), reason: error.to_string() }
    }
}

/// Scheme, host and port.
fn server(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |end| host + end);
    &url[..end]
}

/// Where a redirection leads.
fn absolute(url: &str, location: &str) -> String {
    match location {
        _ if location.contains("://") => location.to_owned(),
        _ if location.starts_with('/') => format!("{}{location}", server(url)),
        _ => format!("{}/{location}", url.rsplit_once('/').map_or(url, |(folder, _)| folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_lead_where_they_say() {
        for (location, expected) in [
            ("https://cdn.org/x?y=://z", "https://cdn.org/x?y=://z"),
            ("/b/c", "http://hub:80/b/c"),
            ("c", "http://hub:80/a/c"),
        ] {
            assert_eq!(absolute("http://hub:80/a/b", location), expected);
        }
        assert_eq!(server("https://hub.co?x"), "https://hub.co");
        assert_eq!(server("https://hub.co.evil.org/hub.co"), "https://hub.co.evil.org");
    }
}
