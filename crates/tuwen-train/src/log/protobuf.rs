//! As much of protocol buffers as TensorBoard's event files need. The messages are those of TensorFlow's `event.proto`
//! and `summary.proto`.

use super::scalars::Scalars;

/// Field numbers of `Event`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;

/// Kinds of values on the wire.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// What a file begins with.
pub(super) fn file_version(wall_time: f64) -> Vec<u8> {
    let mut event = head(wall_time, 0);
    bytes(&mut event, FILE_VERSION, b"brain.Event:2");
    event
}

/// Tells a reader to forget what it has seen of this run: `SessionLog { status: START }` at step 0.
pub(super) fn start(wall_time: f64) -> Vec<u8> {
    let mut event = head(wall_time, 0);
    bytes(&mut event, SESSION_LOG, &[1 << 3, 1]);
    event
}

/// An event with these numbers: `Summary { value: [Value { tag, simple_value }] }`.
pub(super) fn summary(wall_time: f64, scalars: &Scalars) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in &scalars.values {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        varint(&mut value, 2 << 3 | FIXED32);
        value.extend((*number as f32).to_le_bytes());
        bytes(&mut summary, 1, &value);
    }
    let mut event = head(wall_time, scalars.step);
    bytes(&mut event, SUMMARY, &summary);
    event
}

/// The step of an event that has a summary; none for other events and for what is no event.
pub(super) fn step_of_summary(mut event: &[u8]) -> Option<u64> {
    let (mut step, mut has_summary) = (0, false);
    while !event.is_empty() {
        let key = take_varint(&mut event)?;
        has_summary |= key >> 3 == SUMMARY;
        let length = match key & 7 {
            VARINT => {
                let value = take_varint(&mut event)?;
                step = if key >> 3 == STEP { value } else { step };
                0
            }
            FIXED64 => 8,
            LENGTH => take_varint(&mut event)?,
            FIXED32 => 4,
            _ => return None,
        };
        event = event.get(usize::try_from(length).ok()?..)?;
    }
    has_summary.then_some(step)
}

fn head(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    varint(&mut event, WALL_TIME << 3 | FIXED64);
    event.extend(wall_time.to_le_bytes());
    varint(&mut event, STEP << 3 | VARINT);
    varint(&mut event, step);
    event
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | LENGTH);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let length = input.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (taken, rest) = input.split_at(length);
    *input = rest;
    Some(taken.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_read_back() {
        for step in [0, 1, 127, 128, 300, u64::MAX >> 1] {
            let scalars =
                Scalars { step, values: vec![("train/loss".into(), 2.5), ("train/lr".into(), 1e-3)] };
            let event = summary(1.7e9, &scalars);
            assert_eq!(step_of_summary(&event), Some(step));
            assert_eq!(step_of_summary(&event[..event.len() - 1]), None, "cut");
        }
        assert_eq!(step_of_summary(&file_version(1.0)), None);
        assert_eq!(step_of_summary(&start(1.0)), None);
    }
}
