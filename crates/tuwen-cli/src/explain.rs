//! `--explain`: what words look at, drawn over the one image that a verb was given.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::anyhow;
use tuwen::{Ability, Error, Explanation, GroundedModel, Model, Picture, Pixels};
use tuwen_data::image::read;
use tuwen_tensor::checkpoint::write_atomically;

use crate::failure::Failure;
use crate::images::{Content, ImageInputs};
use crate::models::model_failure;

/// Explains the only image of `images`, and writes the drawing to a file, whole or not at all.
pub fn to_file(
    path: &Path,
    images: &ImageInputs,
    model: &Model,
    explain: impl FnOnce(&GroundedModel, &Pixels) -> Result<Vec<Explanation>, Error>,
) -> Result<(), Failure> {
    if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        return Err(Failure::usage(anyhow!(
            "{}: the drawing is a PNG file: end its name in .png",
            path.display()
        )));
    }
    let Some(grounded) = model.grounded() else {
        return Err(model_failure(model.require(Ability::Explain).err().unwrap_or(Error::NoBuiltIn)));
    };
    if images.uses_of_stdin() > 0 {
        return Err(Failure::usage(anyhow!("--explain draws over an image in a file")));
    }
    let picture = only(images)?;
    let explanations = explain(grounded, &grounded.prepare(&picture)).map_err(model_failure)?;
    let drawing = Explanation::draw(&explanations, &picture.to_rgb());
    let file = drawing.to_png().ok_or_else(|| anyhow!("{}: nothing to draw", path.display()))?;
    Ok(write_atomically(path, |out| out.write_all(&file))?)
}

/// The image, if it is the only one.
fn only(images: &ImageInputs) -> Result<Picture, Failure> {
    let mut contents = Vec::new();
    let _ = images.open()?.visit(&mut |_, content| {
        contents.push(content());
        if contents.len() > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let (Some(content), true) = (contents.pop(), contents.is_empty()) else {
        return Err(Failure::usage(anyhow!("--explain draws one image")));
    };
    let bytes = match content? {
        Content::File(path) => read(&path)?,
        Content::Bytes(bytes) => bytes,
    };
    Ok(Picture::decode(&bytes)?)
}
