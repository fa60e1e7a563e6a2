//! Images through a model: found and read on another thread, prepared on all, computed in batches, handed on in order.

use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};
use tuwen::{Embedder, Embeddings, EncodedImages, PairScorer, Picture, Pixels};
use tuwen_data::image::{ImageError, read};

use crate::ahead::{Hand, Limit, ahead};
use crate::console::Console;
use crate::failure::{Failure, one_line};
use crate::images::{Content, ImageInputs, Images, Input};

/// Images that are prepared together, for each thread: enough that the threads end at about the same time.
const IMAGES: usize = 16;
/// Bytes of files that are read ahead, for each thread.
const BYTES: usize = 32 << 20;
/// Larger files are read when they are decoded.
const MAX_READ_AHEAD: u64 = 16 << 20;

/// An input that was dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the user calls it; a text is its own name.
    pub input: String,
    /// What it is.
    pub kind: Kind,
    /// Why there is no vector of it, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is turned into a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum Kind {
    Text,
    Image,
}

/// What is done with images.
pub trait Work: Copy + Sync {
    /// What comes of a batch.
    type Output;

    /// Decodes an image file, as exactly as the work needs it.
    fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError>;

    /// Prepares an image.
    fn prepare(&self, image: &Picture) -> Pixels;

    /// Images that go through the network together.
    fn batch_size(&self) -> usize;

    /// Computes a batch.
    fn compute(&self, images: &[Pixels]) -> Self::Output;
}

impl Work for Embedder<'_> {
    type Output = Embeddings;

    fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        Embedder::decode(self, bytes)
    }

    fn prepare(&self, image: &Picture) -> Pixels {
        Embedder::prepare(self, image)
    }

    fn batch_size(&self) -> usize {
        Embedder::batch_size(self)
    }

    fn compute(&self, images: &[Pixels]) -> Embeddings {
        self.pixels(images)
    }
}

impl Work for PairScorer<'_> {
    type Output = EncodedImages;

    fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        PairScorer::decode(self, bytes)
    }

    fn prepare(&self, image: &Picture) -> Pixels {
        PairScorer::prepare(self, image)
    }

    fn batch_size(&self) -> usize {
        PairScorer::batch_size(self)
    }

    fn compute(&self, images: &[Pixels]) -> EncodedImages {
        self.encode(images)
    }
}

/// Inputs that went through the network together, with those that failed among them.
pub struct Batch<T = Embeddings> {
    /// All of them, in order.
    pub records: Vec<Record>,
    /// What came of those without an error; of an embedder a row for each.
    pub computed: T,
}

impl<T> Batch<T> {
    /// The inputs that did not fail.
    pub fn good(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.error.is_none())
    }
}

impl Batch {
    /// The inputs that did not fail, with their vectors.
    pub fn rows(&self) -> impl Iterator<Item = (&Record, &[f32])> {
        self.good().zip(self.computed.rows())
    }
}

/// Says of an input whether it was dealt with before; breaks where nothing shall be dealt with.
pub type Seen<'s> = dyn FnMut(&str) -> ControlFlow<(), bool> + Send + 's;

/// Gives `each` what came of every batch, and returns how many inputs failed; those are named on stderr.
///
/// # Errors
/// A list that cannot be opened, and what `each` returns.
pub fn each_batch<W: Work>(
    inputs: &ImageInputs,
    work: W,
    console: &Console,
    mut each: impl FnMut(&Batch<W::Output>) -> Result<(), Failure>,
) -> Result<usize, Failure> {
    let images = inputs.open()?;
    let each = |batch: Batch<W::Output>| each(&batch).map(ControlFlow::Continue);
    each_unseen(inputs, images, work, console, &mut |_| ControlFlow::Continue(false), each)
}

/// [`each_batch`] for the inputs that were not `seen` before, until `each` breaks.
pub fn each_unseen<W: Work>(
    inputs: &ImageInputs,
    images: Images,
    work: W,
    console: &Console,
    seen: &mut Seen<'_>,
    mut each: impl FnMut(Batch<W::Output>) -> Result<ControlFlow<()>, Failure>,
) -> Result<usize, Failure> {
    let mut progress = console.progress(0, "images");
    let stop = Stop(AtomicBool::new(false));
    let mut failed = 0;
    thread::scope(|scope| {
        // Dropped before the scope waits for its threads.
        let stop = &stop;
        let _stop = stop.when_dropped();
        if let Some(set_total) = progress.total() {
            scope.spawn(move || inputs.count(&stop.0).map(set_total));
        }
        let passed = progress.passed();
        let find = move |hand: &mut Hand<'_, Input>| {
            let _ = images.visit(&mut |name, read| {
                if seen(&name)? {
                    passed();
                    return ControlFlow::Continue(());
                }
                hand(Input { name, content: read().and_then(read_ahead) })
            });
        };
        let prepare = |input: Input| prepare(input, work, inputs.exact_decode);
        let threads = tuwen_kernels::threads();
        let limit = Limit { items: IMAGES * threads, weight: BYTES * threads };
        let mut prepared = ahead(scope, limit, find, weight, prepare);
        while let Some(batch) = next_batch(&mut prepared, work, console) {
            failed += batch.records.iter().filter(|record| record.error.is_some()).count();
            let done = batch.records.len() as u64;
            if each(batch)?.is_break() {
                break;
            }
            progress.advance(done);
        }
        Ok(failed)
    })
}

/// An image that is prepared, or the reason why it is not.
type Prepared = (String, anyhow::Result<Pixels>);

/// The bytes of a file, unless it is large.
fn read_ahead(content: Content) -> anyhow::Result<Content> {
    match content {
        Content::File(path) if fs::metadata(&path).is_ok_and(|file| file.len() <= MAX_READ_AHEAD) => {
            Ok(Content::Bytes(read(&path)?))
        }
        content => Ok(content),
    }
}

/// Bytes that an input holds in memory.
fn weight(input: &Input) -> usize {
    match &input.content {
        Ok(Content::Bytes(bytes)) => bytes.len(),
        _ => 0,
    }
}

fn prepare(input: Input, work: impl Work, exact: bool) -> Prepared {
    let decode = |content| -> anyhow::Result<Picture> {
        let bytes = match content {
            Content::File(path) => read(&path)?,
            Content::Bytes(bytes) => bytes,
        };
        Ok(if exact { Picture::decode(&bytes) } else { work.decode(&bytes) }?)
    };
    let picture = input.content.and_then(decode);
    (input.name, picture.map(|picture| work.prepare(&picture)))
}

/// Takes images until a batch is full, and computes it; none if nothing is left.
fn next_batch<W: Work>(
    prepared: &mut impl Iterator<Item = Prepared>,
    work: W,
    console: &Console,
) -> Option<Batch<W::Output>> {
    let (mut records, mut pixels) = (Vec::new(), Vec::new());
    while pixels.len() < work.batch_size()
        && let Some((input, result)) = prepared.next()
    {
        let error = match result {
            Ok(image) => {
                pixels.push(image);
                None
            }
            Err(error) => {
                let reason = without_name(&input, &error);
                // A line for each, whatever is in a name.
                console.warn(format!("{input}: {reason}").replace('\n', "\\n"));
                Some(reason)
            }
        };
        records.push(Record { input, kind: Kind::Image, error });
    }
    (!records.is_empty()).then(|| Batch { records, computed: work.compute(&pixels) })
}

/// The reason of a failure without the name that it may begin with.
fn without_name(name: &str, error: &anyhow::Error) -> String {
    let reason = one_line(error);
    reason.strip_prefix(name).map_or(reason.as_str(), |rest| rest.trim_start_matches([':', ' '])).to_owned()
}

/// A flag that tells a thread beside to stop.
struct Stop(AtomicBool);

impl Stop {
    /// Raises the flag when it goes out of scope, on whatever way.
    fn when_dropped(&self) -> impl Drop {
        struct Raise<'s>(&'s AtomicBool);
        impl Drop for Raise<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        Raise(&self.0)
    }
}
