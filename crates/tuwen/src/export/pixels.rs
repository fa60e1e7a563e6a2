//! Whether a program prepares images as a model wants it.

use tuwen_data::image::{Resize, Size, Transform};
use tuwen_models::clip::ClipImageProcessor;

use super::Target;
use crate::Error;

/// Refuses what a program would do otherwise. When a picture becomes RGB, and which of two middle pixels it takes, is
/// every program's own and does not count.
pub(super) fn understood(
    target: Target,
    meant: &ClipImageProcessor,
    read: &ClipImageProcessor,
) -> Result<(), Error> {
    same(target, &meant.transform, &read.transform)
}

/// The same of what is done with a picture.
pub(super) fn same(target: Target, meant: &Transform, read: &Transform) -> Result<(), Error> {
    let (meant, read) = (essence(meant), essence(read));
    let fields = [
        ("resize", format!("{:?}", meant.resize), format!("{:?}", read.resize)),
        ("interpolation", format!("{:?}", meant.interpolation), format!("{:?}", read.interpolation)),
        ("crop", format!("{:?}", meant.center_crop), format!("{:?}", read.center_crop)),
        ("padding", meant.fill.to_string(), read.fill.to_string()),
        ("do_rescale", meant.do_rescale.to_string(), read.do_rescale.to_string()),
        ("rescale_factor", meant.rescale_factor.to_string(), read.rescale_factor.to_string()),
        ("do_normalize", meant.do_normalize.to_string(), read.do_normalize.to_string()),
        ("image_mean", format!("{:?}", meant.mean), format!("{:?}", read.mean)),
        ("image_std", format!("{:?}", meant.std), format!("{:?}", read.std)),
    ];
    match fields.into_iter().find(|(_, meant, read)| meant != read) {
        None => Ok(()),
        Some((field, meant, read)) => Err(target.cannot_say(format!(
            "of the preparation of images, {field} is {meant}, and it would take {read}"
        ))),
    }
}

/// The transform without what has no effect.
fn essence(transform: &Transform) -> Transform {
    let mut essence = transform.clone();
    if let Some(Resize::Squash(size)) = essence.resize {
        essence.center_crop = essence.center_crop.filter(|crop: &Size| *crop != size);
    }
    if !matches!(essence.resize, Some(Resize::LongestEdge(_))) {
        essence.fill = 0;
    }
    essence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_would_do_otherwise_is_named() {
        let openai = ClipImageProcessor::openai(32);
        let hugging_face = ClipImageProcessor { transform: Transform::hugging_face(32) };
        understood(Target::OpenAi, &hugging_face, &openai).expect("the same but for a pixel");
        let mut other = openai.clone();
        other.transform.mean = [0.5; 3];
        let message = understood(Target::OpenAi, &other, &openai).expect_err("another mean").to_string();
        assert!(message.contains("image_mean is [0.5, 0.5, 0.5]"), "{message}");
        other = openai.clone();
        other.transform.resize = Some(Resize::ShortestEdge(36));
        let message = understood(Target::OpenAi, &other, &openai).expect_err("a smaller middle").to_string();
        assert!(message.contains("resize is Some(ShortestEdge(36))"), "{message}");
        let squash = |center_crop| Transform {
            resize: Some(Resize::Squash(Size::square(32))),
            center_crop,
            fill: 3,
            ..Transform::openai(32)
        };
        assert_eq!(essence(&squash(Some(Size::square(32)))), essence(&squash(None)));
    }
}
