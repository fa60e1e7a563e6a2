//! From the start of a process to its first embedding.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tuwen_kernels::{Precision, threads};
use tuwen_models::clip::ClipConfig;

use super::line::Timed;
use super::process::peak_memory_of;
use super::session::Session;
use super::towers::Counted;
use crate::failure::Failure;

/// Time between two looks at the memory of the process.
const LOOK: Duration = Duration::from_millis(1);

/// Measures `tuwen embed` of one photograph until its line is there.
pub fn measure(session: &Session, precision: Precision, config: &ClipConfig) -> Result<Timed, Failure> {
    let directory = tempfile::tempdir().context("no directory for a photograph")?;
    let photograph = directory.path().join("photograph");
    fs::write(&photograph, &session.photograph).context("cannot write a photograph")?;
    let mut peak_memory = None;
    let seconds = session.clock.median_of(1, || {
        let (time, memory) = first_line(&mut command(session, precision, &photograph)?)?;
        peak_memory = peak_memory.max(memory);
        Ok(time)
    })?;
    // Weights come from a file in f32, whatever they become.
    let counted = Counted::new(config, Precision::F32).map_err(Failure::model)?;
    let work = counted.images(1, config.vision.image_size());
    Ok(Timed { batch: 1, seconds, work, peak_memory })
}

/// `tuwen embed PHOTOGRAPH` with the options of this process.
fn command(session: &Session, precision: Precision, photograph: &Path) -> Result<Command, Failure> {
    let program = std::env::current_exe().context("this program is not found")?;
    let mut command = Command::new(program);
    command.arg("embed").arg(photograph).args(["--json", "--quiet", "--model", session.model]);
    command.args(["--threads", &threads().to_string(), "--precision", precision.name()]);
    if let Some(adapter) = &session.global.adapter {
        command.args(["--adapter", adapter]);
    }
    if let Some(directory) = &session.global.cache_dir {
        command.arg("--cache-dir").arg(directory);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Time until a process has written a line, and its memory at its height.
fn first_line(command: &mut Command) -> Result<(Duration, Option<u64>), Failure> {
    let begin = Instant::now();
    let mut child = command.spawn().context("tuwen embed cannot be started")?;
    let stdout = child.stdout.take();
    let process = child.id().to_string();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = None;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(peak_memory_of(&process));
                std::thread::sleep(LOOK);
            }
            peak
        });
        let result = wait(child, stdout, begin);
        ended.store(true, Ordering::Relaxed);
        Ok((result?, watcher.join().unwrap_or_default()))
    })
}

fn wait(child: Child, stdout: Option<ChildStdout>, begin: Instant) -> Result<Duration, Failure> {
    let mut line = String::new();
    stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line)).transpose()?;
    let time = begin.elapsed();
    let output = child.wait_with_output()?;
    if output.status.success() && !line.is_empty() {
        return Ok(time);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("no embedding").to_owned();
    Err(Failure::model(anyhow!("tuwen embed: {first}")))
}
