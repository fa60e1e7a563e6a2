//! The Python that the peers run in, and the checkpoints it writes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Places;
use super::options::Options;

/// An interpreter.
pub struct Python {
    /// The program.
    pub path: PathBuf,
}

impl Python {
    /// The one that was named, or an environment with the packages of `requirements.txt`, made if it is not there.
    pub fn find(options: &Options, places: &Places) -> Result<Self, String> {
        if let Some(path) = &options.python {
            return Ok(Self { path: path.clone() });
        }
        let environment = places.work.join("python");
        let path = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        let complete = environment.join("complete");
        let requirements = places.peers.join("requirements.txt");
        let wanted =
            std::fs::read(&requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
        if std::fs::read(&complete).ok().as_ref() != Some(&wanted) {
            eprintln!("== packages of the peers, into {}", environment.display());
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
            let mut pip = Command::new(&path);
            pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements);
            succeed(&mut pip)?;
            std::fs::write(&complete, wanted).map_err(|error| format!("{}: {error}", complete.display()))?;
        }
        Ok(Self { path })
    }

    /// The directory of a checkpoint, written if it is not there.
    pub fn checkpoint(&self, model: &str, places: &Places) -> Result<PathBuf, String> {
        let directory = places.work.join(model);
        if !directory.exists() {
            eprintln!("== a checkpoint of the size of {model}");
            let mut command = self.command(&[places.peers.join("checkpoints.py").as_os_str()]);
            succeed(command.arg(model).arg(&directory))?;
        }
        Ok(directory)
    }

    /// What a script prints.
    pub fn output(&self, words: &[&OsStr]) -> Result<String, String> {
        let told =
            self.command(words).output().map_err(|error| format!("{}: {error}", self.path.display()))?;
        if told.status.success() {
            return Ok(String::from_utf8_lossy(&told.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&told.stderr);
        Err(format!("{}: {}", self.path.display(), said.lines().last().unwrap_or("failed")))
    }

    fn command(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(words).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let what = Path::new(command.get_program()).display().to_string();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what}: {status}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
