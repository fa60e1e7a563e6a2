//! An HTTP server on this machine that knows HEAD, GET and ranges, and that fails when it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Objects by name, served until it is dropped.
pub struct Store {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    objects: Mutex<(BTreeMap<String, Vec<u8>>, String)>,
    /// Each request of so many fails; none if 0.
    failing: usize,
    requests: AtomicUsize,
    bytes_sent: AtomicUsize,
    closed: AtomicBool,
}

impl Store {
    pub fn new(objects: Vec<(String, Vec<u8>)>, failing: usize) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let objects = Mutex::new((objects.into_iter().collect(), "first".to_owned()));
        let (requests, bytes_sent, closed) = Default::default();
        let shared = Arc::new(Shared { objects, failing, requests, bytes_sent, closed });
        let serving = shared.clone();
        let listener = thread::spawn(move || {
            for stream in socket.incoming() {
                if serving.closed.load(Ordering::SeqCst) {
                    return;
                }
                let serving = serving.clone();
                // A client that goes away ends its thread.
                thread::spawn(move || stream.and_then(|stream| serving.answer(stream)));
            }
        });
        Self { address, shared, listener: Some(listener) }
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Bytes of objects that were sent so far.
    pub fn bytes_sent(&self) -> usize {
        self.shared.bytes_sent.load(Ordering::SeqCst)
    }

    /// Serves other objects from now on, of another version.
    pub fn replace(&self, objects: Vec<(String, Vec<u8>)>, version: &str) {
        *self.shared.objects.lock().unwrap() = (objects.into_iter().collect(), version.to_owned());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // The listener wakes up to see that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    /// Answers one request and closes the connection.
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut range = None;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            range = line.strip_prefix("range: bytes=").map(str::to_owned).or(range);
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (object, version) = {
            let objects = self.objects.lock().unwrap();
            (objects.0.get(path.trim_start_matches('/')).cloned(), objects.1.clone())
        };
        let Some(object) = object else { return plain(&mut stream, "404 Not Found") };
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let fails = self.failing > 0 && number % self.failing == self.failing - 1;
        // The ways to fail take turns.
        let way = if fails { number / self.failing % 3 } else { 3 };
        match way {
            0 => return plain(&mut stream, "503 Service Unavailable"),
            1 => return Ok(()),
            _ => {}
        }
        let (start, end) = match range.as_deref().and_then(|range| range.split_once('-')) {
            Some((start, end)) => (start.parse().unwrap_or(0), end.parse::<usize>().unwrap_or(0) + 1),
            None => (0, object.len()),
        };
        let end = end.min(object.len());
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        let mut head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{version}\"\r\nAccept-Ranges: bytes\r\n\
             Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: close\r\n",
            end - start
        );
        if range.is_some() {
            head += &format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, object.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if method == "HEAD" {
            return Ok(());
        }
        let content = &object[start..end];
        let sent = if way == 2 { content.len() / 2 } else { content.len() };
        self.bytes_sent.fetch_add(sent, Ordering::SeqCst);
        stream.write_all(&content[..sent])
    }
}

fn plain(stream: &mut TcpStream, status: &str) -> std::io::Result<()> {
    stream
        .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
}
