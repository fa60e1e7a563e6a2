//! From the layout of one program to that of another.
//!
//! What is written records that it was converted ([`RECORD`]), so that a later conversion may take its place without
//! being told to, while nothing else is ever written over unasked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tuwen_tensor::checkpoint::StoredType;

use crate::export::{Export, Parts, Progress, Target};
use crate::{Error, ModelFiles, Opened};

/// The file in a converted directory that says where it comes from.
pub const RECORD: &str = "tuwen.json";

/// What is to be written, and where.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// A directory, or for openai/CLIP a file that ends in `.pt` or `.pth`, for salesforce one that ends in `.pth`.
    pub destination: &'a Path,
    /// Whose layout.
    pub target: Target,
    /// Element types of the weights.
    pub stored: StoredType,
    /// Whether something that no conversion wrote may be written over.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The files with their sizes in bytes.
    pub files: Vec<(PathBuf, u64)>,
    /// Number of tensors.
    pub tensors: usize,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// The content of [`RECORD`].
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    /// What the source was called.
    converted_from: String,
    program: String,
    version: String,
    /// All files beside the record.
    files: Vec<String>,
}

/// A conversion that nothing is in the way of.
pub struct Prepared<'a> {
    export: Export<'a>,
    destination: &'a Path,
    is_file: bool,
    source: &'a str,
    target: Target,
}

impl<'a> Conversion<'a> {
    /// Checks everything that can be checked before writing.
    ///
    /// # Errors
    /// A model that does not load or that the program cannot hold, a destination that holds the source or something that
    /// is not to be written over.
    pub fn prepare(self, files: &'a Opened) -> Result<Prepared<'a>, Error> {
        files.check()?;
        let is_file = self.is_file();
        self.check_destination(files.weights_path(), is_file)?;
        let export = match files {
            Opened::Clip(files) => self.export_clip(files)?,
            Opened::Grounded(files) => Export::of_grounded(files, self.target, self.stored)?,
        };
        let Self { destination, target, .. } = self;
        Ok(Prepared { export, destination, is_file, source: files.name(), target })
    }

    fn export_clip(&self, files: &'a ModelFiles) -> Result<Export<'a>, Error> {
        let parts = Parts {
            config: &files.config,
            weights: &files.weights,
            processor: &files.processor,
            tokenizer: files.tokenizer(),
        };
        let mut export = Export::new(parts, self.target, self.stored)?;
        if let Some(classifier) = &files.own_classifier {
            export = export.with_classifier(classifier.clone());
        }
        Ok(export)
    }

    /// Whether a file is meant: openai/CLIP's and salesforce's models are single files.
    fn is_file(&self) -> bool {
        let ending = self.destination.extension().and_then(|ending| ending.to_str());
        let is_one = match self.target {
            Target::OpenAi => matches!(ending, Some("pt" | "pth")),
            Target::Salesforce => ending == Some("pth"),
            Target::HuggingFace | Target::OpenClip => false,
        };
        is_one && !self.destination.is_dir()
    }

    fn check_destination(&self, weights: &Path, is_file: bool) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Destination { path: self.destination.to_owned(), reason });
        if self.destination.file_name().is_none() {
            return refuse("give the directory by its name".to_owned());
        }
        let Ok(real) = self.destination.canonicalize() else { return Ok(()) };
        let source = weights.canonicalize().ok();
        let directory = weights.parent().and_then(|parent| parent.canonicalize().ok());
        let inside = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.starts_with(&real));
        if inside(&source) || inside(&directory) {
            return refuse("this is where the model is read from".to_owned());
        }
        match (is_file, real.is_dir()) {
            (true, _) if self.force => Ok(()),
            (true, _) => refuse("there is a file already".to_owned()),
            (false, false) => refuse("a file of this name is in the way".to_owned()),
            (false, true) => match in_the_way(&real).map_err(Error::io(self.destination))? {
                InTheWay::Directory(name) => {
                    refuse(format!("it holds the directory {name}, and only files are ever written over"))
                }
                InTheWay::File(name) if !self.force => {
                    refuse(format!("it holds {name}, which no conversion wrote"))
                }
                InTheWay::File(_) | InTheWay::Nothing => Ok(()),
            },
        }
    }
}

/// What would be lost with a directory.
enum InTheWay {
    Nothing,
    /// A file that no conversion wrote.
    File(String),
    Directory(String),
}

fn in_the_way(directory: &Path) -> io::Result<InTheWay> {
    let record = fs::read_to_string(directory.join(RECORD)).ok();
    let record = record.and_then(|text| serde_json::from_str::<Record>(&text).ok());
    let known = record.map_or(Vec::new(), |record| record.files);
    let mut foreign = None;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            return Ok(InTheWay::Directory(name));
        }
        if !known.contains(&name) && (name != RECORD || known.is_empty()) {
            foreign.get_or_insert(name);
        }
    }
    Ok(foreign.map_or(InTheWay::Nothing, InTheWay::File))
}

impl Prepared<'_> {
    /// Bytes of tensors that will be written.
    pub fn bytes(&self) -> u64 {
        self.export.bytes()
    }

    /// Writes; `progress` hears of every tensor's bytes.
    ///
    /// # Errors
    /// What the file system or a tensor fails with; then the destination is as it was.
    pub fn write(mut self, progress: &mut Progress<'_>) -> Result<Written, Error> {
        if self.is_file {
            self.export.write_weights(self.destination, progress)?;
        } else {
            let record = Record {
                converted_from: self.source.to_owned(),
                program: self.target.program().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                files: self.export.file_names(),
            };
            let text = serde_json::to_string_pretty(&record);
            let text = text.map_err(|error| Error::io(self.destination)(error.into()))?;
            self.export.add_document(RECORD, text + "\n");
            self.export.write_directory(self.destination, progress)?;
        }
        let paths = if self.is_file {
            vec![self.destination.to_owned()]
        } else {
            self.export.file_names().iter().map(|name| self.destination.join(name)).collect()
        };
        let sized = |path: PathBuf| {
            let metadata = fs::metadata(&path).map_err(Error::io(&path))?;
            Ok((path, metadata.len()))
        };
        Ok(Written {
            files: paths.into_iter().map(sized).collect::<Result<_, Error>>()?,
            tensors: self.export.tensor_count(),
            notes: self.export.notes().to_vec(),
        })
    }
}
