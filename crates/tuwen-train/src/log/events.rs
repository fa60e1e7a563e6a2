//! TensorBoard's event file: records framed as TensorFlow frames them, each with a masked CRC-32C of its length and of
//! its content.
//!
//! A run that resumes writes a new file with all events up to its checkpoint, and tells the reader to begin anew: a
//! TensorBoard that is looking on follows, and no event is there twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use super::protobuf;
use super::scalars::Scalars;
use crate::TrainError;

/// CRC-32C with a table of 256 entries.
static CRC_32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Names begin as TensorBoard expects and end as no other program's do.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".tuwen";

/// An event file that grows.
pub(super) struct Events {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Events {
    /// Begins a file in the output directory with the events of an earlier one up to `step`.
    pub(super) fn open(output: &Path, step: u64) -> Result<Self, TrainError> {
        let old = files(output).map_err(TrainError::io(output))?;
        let path = output.join(name(old.last()));
        let begin = || {
            let unfinished = output.join(".events.unfinished");
            let mut content = frame(&protobuf::file_version(now()));
            content.extend(frame(&protobuf::start(now())));
            for file in &old {
                content.extend(events_until(&fs::read(file)?, step));
            }
            fs::write(&unfinished, content)?;
            fs::rename(unfinished, &path)?;
            old.iter().filter(|file| **file != path).try_for_each(fs::remove_file)?;
            OpenOptions::new().append(true).open(&path)
        };
        let out = BufWriter::new(begin().map_err(TrainError::io(&path))?);
        Ok(Self { path, out })
    }

    /// Appends an event.
    pub(super) fn write(&mut self, scalars: &Scalars) -> Result<(), TrainError> {
        let event = frame(&protobuf::summary(now(), scalars));
        self.out.write_all(&event).and_then(|()| self.out.flush()).map_err(TrainError::io(&self.path))
    }

    /// Brings all events to the disk.
    pub(super) fn sync(&mut self) -> Result<(), TrainError> {
        self.out.get_ref().sync_data().map_err(TrainError::io(&self.path))
    }
}

/// The event files of earlier runs, oldest first.
fn files(output: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(output)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            files.push(output.join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// A name that comes after that of the latest file, even if both are of the same second.
fn name(latest: Option<&PathBuf>) -> String {
    let name = latest.and_then(|path| path.file_name()?.to_str());
    let second = name.and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse::<u64>().ok());
    let now = now() as u64;
    format!("{PREFIX}{:010}{SUFFIX}", second.map_or(now, |second| now.max(second + 1)))
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Length, its checksum, content, its checksum.
fn frame(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), event, &checksum(event)].concat()
}

/// A CRC-32C that may itself be part of what a CRC is made of: rotated and shifted by a constant.
fn checksum(content: &[u8]) -> [u8; 4] {
    CRC_32C.checksum(content).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// The framed events with numbers up to a step; what follows a record that is cut off or broken is left out.
fn events_until(mut content: &[u8], step: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    while let Some((record, event)) = take_record(&mut content) {
        if protobuf::step_of_summary(event).is_some_and(|of| of <= step) {
            kept.extend(record);
        }
    }
    kept
}

/// The next record: as it is framed, and its content.
fn take_record<'a>(content: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let whole: &'a [u8] = content;
    let (length, rest) = whole.split_first_chunk::<8>()?;
    let (length_checksum, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let event = rest.get(..size)?;
    let (event_checksum, after) = rest[size..].split_first_chunk::<4>()?;
    if *length_checksum != checksum(length) || *event_checksum != checksum(event) {
        return None;
    }
    let record = &whole[..whole.len() - after.len()];
    *content = after;
    Some((record, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(step: u64) -> Scalars {
        Scalars { step, values: vec![("train/loss".into(), step as f64)] }
    }

    /// The steps in the only file of a directory.
    fn steps(directory: &Path) -> Vec<u64> {
        let files = files(directory).unwrap();
        assert_eq!(files.len(), 1);
        let content = fs::read(&files[0]).unwrap();
        let mut rest = content.as_slice();
        let mut steps = Vec::new();
        while let Some((_, event)) = take_record(&mut rest) {
            steps.extend(protobuf::step_of_summary(event));
        }
        assert!(rest.is_empty(), "whole records only");
        steps
    }

    /// The check value of CRC-32C, masked by hand.
    #[test]
    fn checksums_are_tensorflows() {
        let crc = 0xe306_9283_u32;
        let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(checksum(b"123456789"), masked.to_le_bytes());
    }

    #[test]
    fn a_resumed_run_has_each_step_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut events = Events::open(directory.path(), 0).unwrap();
        (1..=5).for_each(|step| events.write(&scalars(step)).unwrap());
        events.sync().unwrap();
        let path = events.path.clone();
        drop(events);
        // Killed in the middle of a record.
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut events = Events::open(directory.path(), 3).unwrap();
        assert!(events.path > path, "a reader goes on to the file with the greater name");
        (4..=6).for_each(|step| events.write(&scalars(step)).unwrap());
        assert_eq!(steps(directory.path()), [1, 2, 3, 4, 5, 6]);
        drop(Events::open(directory.path(), 0).unwrap());
        assert_eq!(steps(directory.path()), [0; 0]);
    }
}
