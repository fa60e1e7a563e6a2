//! Data sets through a model: images decoded and prepared on all threads, encoded in batches, kept as vectors.

use tuwen::{Embedder, Embeddings, Picture, Pixels};
use tuwen_data::dataset::{Dataset, Sample};
use tuwen_kernels::parallel_chunks_mut;

use crate::EvalError;

/// Images that are decoded before they are encoded.
const CHUNK: usize = 64;

/// A model as a benchmark knows it.
pub trait Encoder: Sync {
    /// An image as the network takes it.
    type Image: Send;

    /// Width of the vector of an image.
    fn dim(&self) -> usize;

    /// Prepares an image.
    fn prepare(&self, image: &Picture) -> Self::Image;

    /// Vectors of images.
    fn images(&self, images: &[Self::Image]) -> Embeddings;

    /// Vectors of texts.
    ///
    /// # Errors
    /// The model cannot read them.
    fn texts(&self, texts: &[String]) -> Result<Embeddings, EvalError>;
}

impl Encoder for Embedder<'_> {
    type Image = Pixels;

    fn dim(&self) -> usize {
        Embedder::dim(self)
    }

    fn prepare(&self, image: &Picture) -> Pixels {
        Embedder::prepare(self, image)
    }

    fn images(&self, images: &[Pixels]) -> Embeddings {
        self.pixels(images)
    }

    fn texts(&self, texts: &[String]) -> Result<Embeddings, EvalError> {
        let texts = Embedder::texts(self, texts).map_err(|error| EvalError::Model(error.to_string()))?;
        Ok(texts.embeddings)
    }
}

/// A data set whose images have become vectors.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// What it is called in messages.
    pub data: String,
    /// A row for each sample that could be read.
    pub images: Embeddings,
    /// What is said of these samples; without the image files.
    pub samples: Vec<Sample>,
    /// Samples that could not be read, with the reason.
    pub failed: Vec<String>,
}

/// Encodes all images of a data set; `done` is told how many more samples were read.
///
/// # Errors
/// None of them can be read, or the vectors are no numbers.
pub fn encode<E: Encoder>(
    encoder: &E,
    dataset: &dyn Dataset,
    done: &mut dyn FnMut(usize),
) -> Result<Encoded, EvalError> {
    let data = dataset.name().to_owned();
    let (mut samples, mut vectors) = (Vec::new(), Vec::new());
    let prepare = |picture: &Picture| encoder.prepare(picture);
    let failed = each_chunk(dataset, prepare, done, |chunk| {
        samples.extend(chunk.samples);
        vectors.extend_from_slice(encoder.images(&chunk.images).values());
        Ok(())
    })?;
    if samples.is_empty() {
        let reason = failed.into_iter().next().unwrap_or_default();
        return Err(EvalError::NoImages { data, reason });
    }
    if vectors.iter().any(|value| !value.is_finite()) {
        return Err(EvalError::NotFinite);
    }
    Ok(Encoded { data, images: Embeddings::new(vectors, encoder.dim()), samples, failed })
}

/// Some samples of a data set that could be read.
pub(crate) struct Chunk<I> {
    /// Their numbers.
    pub numbers: Vec<usize>,
    /// What is said of them; without the image files.
    pub samples: Vec<Sample>,
    /// Their images, prepared.
    pub images: Vec<I>,
}

/// Reads all images of a data set, some at a time, and gives `each` those that can be read, if any; returns why the others,
/// and files of it, cannot. `done` is told how many more samples were read.
///
/// # Errors
/// What `each` returns.
pub(crate) fn each_chunk<I: Send>(
    dataset: &dyn Dataset,
    prepare: impl Fn(&Picture) -> I + Sync,
    done: &mut dyn FnMut(usize),
    mut each: impl FnMut(Chunk<I>) -> Result<(), EvalError>,
) -> Result<Vec<String>, EvalError> {
    let mut failed = dataset.faults().to_vec();
    for start in (0..dataset.len()).step_by(CHUNK) {
        let mut read: Vec<_> = (start..dataset.len().min(start + CHUNK)).map(|index| (index, None)).collect();
        parallel_chunks_mut(&mut read, 1, |_, slot| slot[0].1 = Some(sample(dataset, slot[0].0, &prepare)));
        let count = read.len();
        let mut chunk = Chunk { numbers: Vec::new(), samples: Vec::new(), images: Vec::new() };
        for (number, result) in read {
            match result {
                Some(Ok((sample, image))) => {
                    chunk.numbers.push(number);
                    chunk.samples.push(sample);
                    chunk.images.push(image);
                }
                Some(Err(reason)) => failed.push(reason),
                None => (),
            }
        }
        if !chunk.images.is_empty() {
            each(chunk)?;
        }
        done(count);
    }
    Ok(failed)
}

/// A sample without its image file, and the image prepared.
fn sample<I>(
    dataset: &dyn Dataset,
    index: usize,
    prepare: impl Fn(&Picture) -> I,
) -> Result<(Sample, I), String> {
    let sample = dataset.get(index).map_err(|error| error.to_string())?;
    let picture = Picture::decode(&sample.image).map_err(|error| format!("{}: {error}", sample.key))?;
    Ok((Sample { image: Vec::new(), ..sample }, prepare(&picture)))
}
