//! The peers: processes of Python that measure on demand (`bench/peers/peer.py` describes the lines).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::Places;
use super::figures::Answer;
use super::options::Options;
use super::ours::answer;
use super::plan::Row;
use super::python::Python;

/// A program that others use.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// The package it consists of, and which.
    pub package: String,
    /// The arithmetic.
    pub precision: String,
    /// What it can do.
    pub stages: Vec<String>,
    script: PathBuf,
}

/// The peers that are installed and asked for; those that are missing are named.
pub fn listed(python: &Python, places: &Places, options: &Options) -> Result<Vec<Peer>, String> {
    let wanted =
        |name: &str| options.peers.as_ref().is_none_or(|peers| peers.iter().any(|peer| peer == name));
    let mut found = Vec::new();
    let script = places.peers.join("peer.py");
    for line in python.output(&[script.as_os_str(), "--list".as_ref()])?.lines() {
        let (name, peer) = read(line, &script).ok_or_else(|| format!("{}: {line}", script.display()))?;
        match peer {
            Some(peer) if wanted(&name) => found.push(peer),
            None if wanted(&name) => eprintln!("{name} is left out: its package is not installed"),
            _ => {}
        }
    }
    for name in options.peers.iter().flatten().filter(|name| found.iter().all(|peer| peer.name != **name)) {
        eprintln!("there is no peer {name}");
    }
    Ok(found)
}

/// A line of `--list`: the name, and the peer if its package is installed.
fn read(line: &str, script: &Path) -> Option<(String, Option<Peer>)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let name = text("peer")?;
    let stages = value["stages"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let (package, precision) = (text("package")?, text("precision")?);
    let peer = text("version").map(|version| Peer {
        name: name.clone(),
        package: format!("{package} {version}"),
        precision,
        stages,
        script: script.to_owned(),
    });
    Some((name, peer))
}

/// The packages of these peers with their versions, each once.
pub fn versions(peers: &[Peer]) -> Vec<String> {
    let mut packages: Vec<_> = peers.iter().map(|peer| peer.package.clone()).collect();
    packages.sort();
    packages.dedup();
    packages
}

/// A peer that waits for requests. It ends when it is dropped.
pub struct Process {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it; it loads a model with the first request.
    pub fn start(
        &self,
        python: &Python,
        checkpoint: Option<&Path>,
        threads: usize,
        places: &Places,
    ) -> Result<Process, String> {
        let mut command = Command::new(&python.path);
        command.arg(&self.script).args([&self.name, "--threads", &threads.to_string()]);
        if let Some(checkpoint) = checkpoint {
            command.arg("--model").arg(checkpoint).arg("--cache").arg(checkpoint.join("exported"));
        }
        command.arg("--image").arg(&places.photograph).env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.name))?;
        let requests = child.stdin.take();
        let answers = child.stdout.take().ok_or("no pipe")?;
        Ok(Process { child, requests, answers: BufReader::new(answers) })
    }
}

impl Process {
    /// A round of a row.
    pub fn ask(&mut self, row: &Row, seconds: f64) -> Result<Answer, String> {
        let request = json!({"stage": row.stage, "batch": row.batch, "seconds": seconds});
        let requests = self.requests.as_mut().ok_or("no pipe")?;
        writeln!(requests, "{request}").map_err(|error| format!("it has ended: {error}"))?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        let said = || match serde_json::from_str::<Value>(&line) {
            Ok(value) => value["error"].as_str().unwrap_or("no figure").to_owned(),
            Err(_) => "it has ended".to_owned(),
        };
        answer(&line).ok_or_else(said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends it; one that is busy is not waited for.
        drop(self.requests.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_without_its_package_has_a_name_only() {
        let line = |version: &str| {
            format!(
                r#"{{"peer":"ort","package":"onnxruntime","version":{version},"precision":"f32","stages":["encode_image"]}}"#
            )
        };
        let (name, peer) = read(&line("\"1.32.0\""), "peer.py".as_ref()).expect("a peer");
        let peer = peer.expect("installed");
        assert_eq!(
            (&name[..], &peer.package[..], &peer.stages[0][..]),
            ("ort", "onnxruntime 1.32.0", "encode_image")
        );
        assert_eq!(versions(&[peer.clone(), peer]), ["onnxruntime 1.32.0"]);
        assert_eq!(read(&line("null"), "peer.py".as_ref()), Some(("ort".to_owned(), None)));
        assert_eq!(read("Traceback", "peer.py".as_ref()), None);
    }
}
