//! WebDataset: tar files in which `KEY.jpg`, `KEY.txt` and `KEY.json` follow one another.
//!
//! One scan over the headers notes where each member lies; samples are then read from there. Nothing is unpacked.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::metadata::{self, Metadata};
use super::place::Place;
use super::{CutFiles, DataError, Dataset, Sample, check_index};
use crate::image::SUFFIXES;

/// Bytes of a block of a tar file.
const BLOCK: u64 = 512;

/// Samples of one or several tar files, in the order of the files and their members.
pub struct WebDataset {
    name: String,
    shards: Vec<Place>,
    /// The samples of each shard.
    entries: Vec<Vec<Entry>>,
    /// Number of the first sample of each shard.
    firsts: Vec<usize>,
    len: usize,
    /// Files that were cut and are passed over from there on, in words.
    faults: Vec<String>,
}

/// Where a sample lies.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    key: String,
    image: Member,
    text: Option<Member>,
    json: Option<Member>,
}

/// Where the bytes of a member lie, and the suffix of its name.
#[derive(Serialize, Deserialize)]
struct Member {
    suffix: String,
    offset: u64,
    size: u64,
}

impl Member {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.size)
    }
}

/// The members of one key, as far as they have been seen.
struct Group {
    key: String,
    image: Option<Member>,
    text: Option<Member>,
    json: Option<Member>,
}

impl WebDataset {
    /// Scans the headers of these files.
    pub fn open(name: &str, shards: Vec<PathBuf>) -> Result<Self, DataError> {
        let shards = shards.into_iter().map(Place::Local).collect();
        Self::open_places(name, shards, None, CutFiles::Refuse)
    }

    /// The same for objects of a store, whose indices are kept in a directory.
    pub(super) fn open_places(
        name: &str,
        shards: Vec<Place>,
        cache_dir: Option<&Path>,
        cut_files: CutFiles,
    ) -> Result<Self, DataError> {
        let (entries, faults) = scan_all(&shards, cache_dir, cut_files)?;
        let (mut firsts, mut len) = (Vec::new(), 0);
        for entries in &entries {
            firsts.push(len);
            len += entries.len();
        }
        Ok(Self { name: name.to_owned(), shards, entries, firsts, len, faults })
    }

    /// A sample and the shard it lies in.
    fn find(&self, index: usize) -> Result<(&Entry, &Place), DataError> {
        check_index(self, index)?;
        let number = self.firsts.partition_point(|first| *first <= index) - 1;
        Ok((&self.entries[number][index - self.firsts[number]], &self.shards[number]))
    }
}

/// The samples of each shard, and what is said of those that were cut and are passed over from there on.
#[cfg_attr(not(feature = "remote"), expect(unused_variables, reason = "local files are indexed in no time"))]
fn scan_all(
    shards: &[Place],
    cache_dir: Option<&Path>,
    cut_files: CutFiles,
) -> Result<(Vec<Vec<Entry>>, Vec<String>), DataError> {
    #[cfg(feature = "remote")]
    if shards.iter().any(Place::is_remote) {
        return Ok((super::remote::index(shards, cache_dir, scan)?, Vec::new()));
    }
    let (mut entries, mut faults, mut first) = (Vec::new(), Vec::new(), None);
    for shard in shards {
        let mut whole = Vec::new();
        match scan_into(shard, &mut whole) {
            Err(error) if error.is_cut() && cut_files == CutFiles::PassOver => {
                faults.push(format!("{error}; {} samples before it are whole", whole.len()));
                first = first.or(Some(error));
            }
            result => result?,
        }
        entries.push(whole);
    }
    match first {
        Some(error) if entries.iter().all(Vec::is_empty) => Err(error),
        _ => Ok((entries, faults)),
    }
}

impl Dataset for WebDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn faults(&self) -> &[String] {
        &self.faults
    }

    fn is_remote(&self) -> bool {
        self.shards.iter().any(Place::is_remote)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (entry, shard) = self.find(index)?;
        entry.read(shard)
    }

    fn metadata(&self, index: usize) -> Result<Map<String, Value>, DataError> {
        let (entry, shard) = self.find(index)?;
        entry.read_json(shard)
    }
}

impl Entry {
    /// Reads the members, all at once.
    fn read(&self, shard: &Place) -> Result<Sample, DataError> {
        let fail = |member: &Member, problem: String| self.error(shard, member, problem);
        let members: Vec<&Member> =
            [Some(&self.image), self.json.as_ref(), self.text.as_ref()].into_iter().flatten().collect();
        let ranges: Vec<Range<u64>> = members.iter().map(|member| member.range()).collect();
        let bytes =
            shard.read(&ranges).map_err(|error| fail(&self.image, format!("cannot be read: {error}")))?;
        let mut bytes = bytes.into_iter();
        let image = bytes.next().unwrap_or_default();
        let mut metadata = Metadata::default();
        if let Some(member) = &self.json {
            let json = bytes.next().unwrap_or_default();
            metadata = serde_json::from_slice(&json).map_err(|error| fail(member, error.to_string()))?;
        }
        let mut texts = metadata.take_texts();
        if let (Some(member), true) = (&self.text, texts.is_empty()) {
            let text = metadata::text(bytes.next().unwrap_or_default());
            texts.extend(text.map_err(|error| fail(member, error.to_string()))?);
        }
        let (class_name, questions) = (metadata.take_class_name(), metadata.questions());
        let (key, label) = (self.key.clone(), metadata.label);
        Ok(Sample { key, image, texts, class_name, label, questions, ..Sample::default() })
    }

    /// The object of the JSON member; empty where there is none.
    fn read_json(&self, shard: &Place) -> Result<Map<String, Value>, DataError> {
        let Some(member) = &self.json else { return Ok(Map::new()) };
        let bytes = shard.read(&[member.range()]);
        let bytes = bytes.map_err(|error| self.error(shard, member, format!("cannot be read: {error}")))?;
        serde_json::from_slice(&bytes.concat()).map_err(|error| self.error(shard, member, error.to_string()))
    }

    fn error(&self, shard: &Place, member: &Member, problem: String) -> DataError {
        let member = format!("{}.{}", self.key, member.suffix);
        DataError::Member { shard: shard.path().to_owned(), member, problem }
    }
}

/// The samples of one tar file.
#[cfg(feature = "remote")]
fn scan(place: &Place) -> Result<Vec<Entry>, DataError> {
    let mut samples = Vec::new();
    scan_into(place, &mut samples)?;
    Ok(samples)
}

/// The same one after another: where the file was cut, `samples` are those before the sample in which it was.
fn scan_into(place: &Place, samples: &mut Vec<Entry>) -> Result<(), DataError> {
    let shard = place.path();
    let length = place.len().map_err(DataError::io(shard))?;
    let mut archive = tar::Archive::new(place.open().map_err(DataError::io(shard))?);
    let mut group: Option<Group> = None;
    let mut last = String::from("(none)");
    let mut end = 0;
    let error = |member: &str, problem: String| DataError::Member {
        shard: shard.to_owned(),
        member: member.to_owned(),
        problem,
    };
    let cut = |member: &str, problem: String| DataError::Cut {
        shard: shard.to_owned(),
        member: member.to_owned(),
        problem,
    };
    for entry in archive.entries_with_seek().map_err(DataError::io(shard))? {
        let entry = entry
            .map_err(|problem| cut(&last, format!("what follows at {end} is no tar header: {problem}")))?;
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| error(&last, "the name of the member that follows is not UTF-8".into()))?;
        let (offset, size) = (entry.raw_file_position(), entry.size());
        end = offset.saturating_add(size).div_ceil(BLOCK).saturating_mul(BLOCK);
        if offset.saturating_add(size) > length {
            let problem = format!("cut short: needs {size} bytes from {offset}, the file ends at {length}");
            // A sample before that of this member is whole.
            let other = |group: &Group| split_name(&path).is_some_and(|(key, _)| key != group.key);
            if let Some(done) = group.take_if(|group| other(group)) {
                samples.extend(done.finish(shard)?);
            }
            return Err(cut(&path, problem));
        }
        if entry.header().entry_type().is_file()
            && let Some((key, suffix)) = split_name(&path)
        {
            if group.as_ref().is_none_or(|group| group.key != key) {
                if let Some(done) = group.take() {
                    samples.extend(done.finish(shard)?);
                }
                group = Some(Group { key: key.to_owned(), image: None, text: None, json: None });
            }
            let member = Member { suffix: suffix.to_ascii_lowercase(), offset, size };
            if !group.as_mut().is_none_or(|group| group.add(member)) {
                return Err(error(&path, "a second member of this kind for the same key".into()));
            }
        }
        last = path;
    }
    if end + BLOCK > length {
        return Err(cut(&last, format!("no end mark follows at {end}: the file was cut short")));
    }
    if let Some(done) = group {
        samples.extend(done.finish(shard)?);
    }
    Ok(())
}

/// The key and the suffix of a member: the file name is split at its first dot.
fn split_name(path: &str) -> Option<(&str, &str)> {
    let file = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = file + path[file..].find('.').filter(|&dot| dot > 0)?;
    Some((&path[..dot], &path[dot + 1..]))
}

impl Group {
    /// Takes up a member; false if there is one of its kind already. Members of no use are passed over.
    fn add(&mut self, member: Member) -> bool {
        let place = match member.suffix.as_str() {
            "txt" => &mut self.text,
            "json" => &mut self.json,
            suffix if SUFFIXES.contains(&suffix) => &mut self.image,
            _ => return true,
        };
        place.replace(member).is_none()
    }

    /// The sample, if the key had any member of use.
    fn finish(self, shard: &Path) -> Result<Option<Entry>, DataError> {
        let Self { key, image, text, json } = self;
        match image {
            Some(image) => Ok(Some(Entry { key, image, text, json })),
            None if text.is_none() && json.is_none() => Ok(None),
            None => Err(DataError::Member {
                shard: shard.to_owned(),
                member: format!("{key}.{{{}}}", SUFFIXES.join(",")),
                problem: "missing, though the key has a text".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar file of these members.
    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<(tempfile::TempDir, WebDataset), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard-0.tar");
        std::fs::write(&path, bytes).unwrap();
        WebDataset::open("test", vec![path]).map(|dataset| (folder, dataset))
    }

    const MEMBERS: [(&str, &[u8]); 7] = [
        ("x/a.b.jpg", b"other suffix"),
        ("x/a.JPG", b"first image"),
        ("x/a.json", br#"{"captions":["one","two"],"label":4}"#),
        ("x/a.txt", b"one"),
        ("x/b.png", b"second image"),
        ("x/b.txt", b" text of b\n"),
        ("readme", b"no suffix"),
    ];

    #[test]
    fn members_become_samples() {
        let (_folder, dataset) = open(&tar(&MEMBERS)).unwrap();
        assert_eq!(dataset.len(), 2);
        let first = dataset.get(0).unwrap();
        assert_eq!((first.key.as_str(), first.image.as_slice()), ("x/a", b"first image".as_slice()));
        assert_eq!((first.texts, first.label), (vec!["one".to_owned(), "two".to_owned()], Some(4)));
        let second = dataset.get(1).unwrap();
        assert_eq!(
            (second.image.as_slice(), second.texts),
            (b"second image".as_slice(), vec!["text of b".into()])
        );
        assert!(matches!(dataset.get(2), Err(DataError::OutOfRange { index: 2, len: 2, .. })));
        assert_eq!(dataset.metadata(0).unwrap()["label"], 4);
        assert!(dataset.metadata(1).unwrap().is_empty());
    }

    #[test]
    fn a_cut_file_is_an_error_that_names_the_member() {
        let whole = tar(&MEMBERS);
        let marked_end = whole.len() - 2 * BLOCK as usize;
        for length in 0..=marked_end {
            let Err(error) = open(&whole[..length]) else { panic!("{length} bytes accepted") };
            let message = error.to_string();
            assert!(message.contains("shard-0.tar"), "{length}: {message}");
        }
        // Header and data take a block each: the third member is cut in its data.
        let message = open(&whole[..5 * BLOCK as usize + 10]).err().unwrap().to_string();
        assert!(message.contains("member x/a.json: cut short"), "{message}");
    }

    /// Wherever a file is cut, all samples before the one at the cut are whole, and it is said where; a file with nothing
    /// whole is refused, and so is a fault that is no cut.
    #[test]
    fn what_is_whole_of_a_cut_file_is_there() {
        let samples: Vec<(String, &[u8])> = (0..4)
            .flat_map(|n| [(format!("{n}.jpg"), &[9_u8; 700][..]), (format!("{n}.txt"), b"text")])
            .collect();
        let members: Vec<(&str, &[u8])> =
            samples.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        let bytes = tar(&members);
        let folder = tempfile::tempdir().unwrap();
        let open = |length: usize| {
            let path = folder.path().join("shard-0.tar");
            std::fs::write(&path, &bytes[..length]).unwrap();
            WebDataset::open_places("test", vec![Place::Local(path)], None, CutFiles::PassOver)
        };
        // A header and two blocks, a header and one.
        let sample = 5 * BLOCK as usize;
        for length in (0..bytes.len()).step_by(100) {
            let whole = length.saturating_sub(1) / sample;
            match open(length) {
                Ok(dataset) if dataset.faults().is_empty() => {
                    assert!(length > 4 * sample + BLOCK as usize - 1 && dataset.len() == 4, "{length}");
                }
                Ok(dataset) => {
                    // The last sample may be at the cut though nothing of it is lost.
                    assert!(
                        [whole, whole.saturating_sub(1)].contains(&dataset.len()),
                        "{length}: {}",
                        dataset.len()
                    );
                    assert_eq!(dataset.faults().len(), 1);
                    let fault = &dataset.faults()[0];
                    let whole = format!("; {} samples before it are whole", dataset.len());
                    assert!(fault.contains("shard-0.tar: member ") && fault.ends_with(&whole), "{fault}");
                    (0..dataset.len())
                        .for_each(|index| assert_eq!(dataset.get(index).unwrap().texts, ["text"]));
                }
                Err(error) => assert!(whole <= 1 && error.is_cut(), "{length}: {error}"),
            }
        }
    }

    #[test]
    fn a_file_cut_after_the_scan_is_an_error() {
        let whole = tar(&MEMBERS);
        let (folder, dataset) = open(&whole).unwrap();
        std::fs::write(folder.path().join("shard-0.tar"), &whole[..9 * BLOCK as usize + 3]).unwrap();
        assert!(dataset.get(0).is_ok());
        let message = dataset.get(1).unwrap_err().to_string();
        assert!(message.contains("shard-0.tar") && message.contains("x/b.png"), "{message}");
    }

    #[test]
    fn wrong_members_are_named() {
        let message = |members: &[(&str, &[u8])]| open(&tar(members)).err().unwrap().to_string();
        let missing = message(&[("a.jpg", b"1"), ("b.txt", b"2"), ("c.jpg", b"3")]);
        assert!(
            missing.contains("b.{jpg,jpeg,png,webp,gif,bmp,tif,tiff}") && missing.contains("missing"),
            "{missing}"
        );
        let twice = message(&[("a.jpg", b"1"), ("a.png", b"2")]);
        assert!(twice.contains("a.png") && twice.contains("second"), "{twice}");
        let (_folder, dataset) = open(&tar(&[("a.jpg", b"1"), ("a.json", b"{")])).unwrap();
        let broken = dataset.get(0).unwrap_err().to_string();
        assert!(broken.contains("member a.json"), "{broken}");
    }
}
