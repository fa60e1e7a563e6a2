//! `pull` and `--download` against a small server that speaks as the Hugging Face hub does.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use common::{stderr, tuwen, workplace};
use sha2::{Digest as _, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// What the server does with requests for the content of large files.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// Bytes after which it hangs up, of every answer.
    cut_after: Option<usize>,
    /// Whether it changes a byte.
    damage: bool,
    /// Whether nobody is let in without the token.
    gated: bool,
}

/// A hub with one model, `org/model`, on a port of its own.
struct Server {
    address: String,
    manners: Arc<Mutex<Manners>>,
    /// Requests so far: the line, and the headers in lower case.
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self::with_large_files_at("", files)
    }

    /// Sends those who want large files on to another server.
    fn with_large_files_at(elsewhere: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let elsewhere = elsewhere.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("known"));
        let server = Self { address, manners: Arc::default(), requests: Arc::default() };
        let (manners, requests) = (Arc::clone(&server.manners), Arc::clone(&server.requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let Some((line, headers)) = read_request(&stream) else { continue };
                requests.lock().expect("whole").push((line.clone(), headers.clone()));
                let manners = *manners.lock().expect("whole");
                // A client that hangs up is no matter.
                let _ = answer(&stream, &line, &headers, &files, manners, &elsewhere);
            }
        });
        server
    }

    fn with(&self, manners: Manners) {
        *self.manners.lock().expect("whole") = manners;
    }

    /// Requests whose line has this in it, since the last call.
    fn requests(&self, part: &str) -> Vec<(String, String)> {
        let all = std::mem::take(&mut *self.requests.lock().expect("whole"));
        all.into_iter().filter(|(line, _)| line.contains(part)).collect()
    }
}

fn read_request(stream: &TcpStream) -> Option<(String, String)> {
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next()?.ok()?;
    let headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    Some((line, headers.map(|line| line.to_lowercase() + "\n").collect()))
}

fn answer(
    mut stream: &TcpStream,
    line: &str,
    headers: &str,
    files: &BTreeMap<String, Vec<u8>>,
    manners: Manners,
    elsewhere: &str,
) -> std::io::Result<()> {
    let (method, path) = line.split_once(' ').unwrap_or_default();
    let path = path.split(' ').next().unwrap_or_default();
    let mut reply = |status: &str, more: &str, body: &[u8]| {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n")?;
        if method == "GET" { stream.write_all(body) } else { Ok(()) }
    };
    if manners.gated && !headers.contains(&format!("authorization: bearer {TOKEN}")) {
        return reply("401 Unauthorized", "x-error-code: GatedRepo\r\n", b"gated");
    }
    if let Some(revision) = path.strip_prefix("/api/models/org/model/revision/") {
        if revision != "main" && revision != COMMIT {
            return reply("404 Not Found", "x-error-code: RevisionNotFound\r\n", b"");
        }
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"id": "org/model", "sha": COMMIT, "siblings": siblings}).to_string();
        return reply("200 OK", "", body.as_bytes());
    }
    let name = path.strip_prefix(&format!("/org/model/resolve/{COMMIT}/")).or(path.strip_prefix("/cdn/"));
    let Some((name, content)) = name.and_then(|name| files.get_key_value(name)) else {
        return reply("404 Not Found", "x-error-code: RepoNotFound\r\n", b"");
    };
    // Large files lie elsewhere.
    if name.ends_with(".safetensors") && !path.starts_with("/cdn/") {
        let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let size = content.len();
        let linked = format!(
            "x-linked-etag: \"{hash}\"\r\nx-linked-size: {size}\r\nlocation: {elsewhere}/cdn/{name}\r\n"
        );
        return reply("302 Found", &linked, b"");
    }
    let start =
        headers.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let start: usize = start.unwrap_or(0);
    let (status, more) = match start {
        0 => ("200 OK", String::new()),
        _ => {
            let range = format!("content-range: bytes {start}-{}/{}\r\n", content.len() - 1, content.len());
            ("206 Partial Content", range)
        }
    };
    let mut rest = content[start..].to_vec();
    if manners.damage {
        rest[0] ^= 1;
    }
    let etag = format!("etag: \"git{}\"\r\n", name.replace('.', "0"));
    match manners.cut_after {
        Some(bytes) if bytes < rest.len() && method == "GET" => {
            let length = rest.len();
            write!(stream, "HTTP/1.1 {status}\r\n{etag}{more}content-length: {length}\r\n\r\n")?;
            stream.write_all(&rest[..bytes])
        }
        _ => reply(status, &(etag + &more), &rest),
    }
}

/// The files of the tiny model, with others that nobody needs.
fn repository(place: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(place.join("model")).expect("listed");
    let mut files: BTreeMap<_, _> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(path).expect("read"))
        })
        .collect();
    for unneeded in ["README.md", "pytorch_model.bin", "flax_model.msgpack"] {
        files.insert(unneeded.to_owned(), b"unneeded".to_vec());
    }
    files
}

/// Runs the program with this server for the hub and `cache` for its cache.
fn run(place: &Path, server: &Server, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = tuwen(place, arguments);
    for proxy in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    for variable in ["HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", &server.address).env("HF_HUB_CACHE", place.join("cache"));
    command.envs(variables.iter().copied()).output().expect("runs")
}

fn said(output: &Output, status: i32) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    said
}

const EMBED: [&str; 5] = ["embed", "red.png", "--model", "org/model", "--json"];

#[test]
fn what_was_pulled_is_found_and_not_fetched_again() {
    let place = workplace();
    let store = Server::start(repository(place.path()));
    let server = Server::with_large_files_at(&store.address, repository(place.path()));
    let run = |arguments: &[&str]| run(place.path(), &server, arguments, &[("HF_TOKEN", TOKEN)]);
    assert!(said(&run(&EMBED), 3).contains("hint: fetch it with `tuwen pull` or --download"));
    assert!(server.requests("").is_empty(), "nothing is fetched unasked");

    let output = run(&["pull", "org/model", "--json"]);
    said(&output, 0);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!(line["revision"], COMMIT);
    let fetched = server.requests("GET");
    assert!(fetched.iter().all(|(line, _)| !line.contains("README") && !line.contains("pytorch_model")));
    // The token goes to the hub, and not to where the hub sends on.
    assert!(fetched[0].1.contains("authorization: bearer hf_secret"));
    let stored = store.requests("GET /cdn/model.safetensors");
    assert!(stored.len() == 1 && !stored[0].1.contains("authorization"), "{stored:?}");

    let repository = place.path().join("cache/models--org--model");
    assert_eq!(fs::read_to_string(repository.join("refs/main")).expect("a branch"), COMMIT);
    let weights = repository.join("snapshots").join(COMMIT).join("model.safetensors");
    assert_eq!(
        fs::read(&weights).expect("read"),
        fs::read(place.path().join("model/model.safetensors")).expect("read")
    );
    #[cfg(unix)]
    assert!(fs::read_link(&weights).expect("a link").starts_with("../../blobs"));

    assert_eq!(run(&EMBED).stdout, run(&["embed", "red.png", "--model", "model", "--json"]).stdout);
    server.requests("");
    said(&run(&["pull", "org/model"]), 0);
    assert_eq!(server.requests("").len(), 1, "one question for the commit");
    // A second branch of the same commit; by its number it is known without a branch.
    said(&run(&["pull", &format!("org/model@{COMMIT}")]), 0);
    said(&run(&["embed", "red.png", "--model", &format!("org/model@{COMMIT}")]), 0);
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let place = workplace();
    let server = Server::start(repository(place.path()));
    let whole = fs::metadata(place.path().join("model/model.safetensors")).expect("there").len() as usize;
    server.with(Manners { cut_after: Some(whole / 3), ..Manners::default() });
    said(&run(place.path(), &server, &["pull", "org/model", "--quiet"], &[]), 0);
    let ranges = server.requests("GET /cdn/model.safetensors");
    let second = format!("range: bytes={}-", whole / 3);
    assert!(ranges.len() >= 3 && ranges[1].1.contains(&second), "{ranges:?}");

    // Cut off for good, the part stays for the next run, and nothing looks whole before it is.
    fs::remove_dir_all(place.path().join("cache")).expect("removed");
    server.with(Manners { cut_after: Some(0), ..Manners::default() });
    let output = run(place.path(), &server, &["pull", "org/model"], &[]);
    let message = said(&output, 3);
    assert!(message.contains("the download stopped at 0 of"), "{message}");
    assert!(message.contains("hint: the same command goes on where it stopped"), "{message}");
    let blobs = place.path().join("cache/models--org--model/blobs");
    let hash: String = Sha256::digest(fs::read(place.path().join("model/model.safetensors")).expect("read"))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let content = fs::read(place.path().join("model/model.safetensors")).expect("read");
    fs::write(blobs.join(format!("{hash}.incomplete")), &content[..1000]).expect("written");
    assert!(!place.path().join("cache/models--org--model/refs/main").exists());
    server.with(Manners::default());
    server.requests("");
    said(&run(place.path(), &server, &[&EMBED[..], &["--download"]].concat(), &[]), 0);
    let ranges = server.requests("GET /cdn/model.safetensors");
    assert!(ranges.len() == 1 && ranges[0].1.contains("range: bytes=1000-"), "{ranges:?}");
}

#[test]
fn what_is_damaged_is_thrown_away() {
    let place = workplace();
    let server = Server::start(repository(place.path()));
    server.with(Manners { damage: true, ..Manners::default() });
    let message = said(&run(place.path(), &server, &["pull", "org/model"], &[]), 3);
    assert!(message.contains("model.safetensors: what came is not what was announced"), "{message}");
    let blobs = fs::read_dir(place.path().join("cache/models--org--model/blobs")).expect("listed");
    let left = blobs.filter(|blob| blob.as_ref().is_ok_and(|blob| blob.path().extension().is_some()));
    assert_eq!(left.count(), 0);
}

#[test]
fn every_refusal_is_a_line() {
    let place = workplace();
    let mut files = repository(place.path());
    let server = Server::start(files.clone());
    files.retain(|name, _| name.ends_with(".json"));
    let empty = Server::start(files);
    let gone = Server {
        address: "http://127.0.0.1:9".to_owned(),
        manners: Arc::default(),
        requests: Arc::default(),
    };
    let gated = Manners { gated: true, ..Manners::default() };
    for (server, model, variables, manners, status, expected) in [
        (&server, "model", &[][..], Manners::default(), 2, "\"model\" is no hub id"),
        (&server, "org/other", &[], Manners::default(), 3, "has no model org/other, or a private one"),
        (&server, "org/model@v2", &[], Manners::default(), 3, "org/model has no revision v2"),
        (
            &server,
            "org/model",
            &[],
            gated,
            3,
            "org/model is gated: its owners have to grant access, and no token",
        ),
        (&server, "org/model", &[("HF_TOKEN", "hf_other")], gated, 3, "which this token does not have"),
        (
            &server,
            "org/model",
            &[("HF_HUB_OFFLINE", "1")],
            gated,
            3,
            "org/model is not fetched: HF_HUB_OFFLINE is set",
        ),
        (
            &empty,
            "org/model",
            &[],
            Manners::default(),
            3,
            "org/model holds no weights that tuwen reads (it holds ",
        ),
        (&gone, "org/model", &[], Manners::default(), 3, "http://127.0.0.1:9 cannot be reached"),
    ] {
        server.with(manners);
        let output = run(place.path(), server, &["pull", model], variables);
        let message = said(&output, status);
        assert!(message.starts_with("error: ") && message.contains(expected), "{model}: {message}");
        assert!(message.lines().count() <= 2 && output.stdout.is_empty(), "{message}");
        assert!(!message.contains("hf_other"), "a token is never shown: {message}");
    }
    server.with(gated);
    said(&run(place.path(), &server, &["pull", "org/model"], &[("HF_TOKEN", TOKEN)]), 0);
}
