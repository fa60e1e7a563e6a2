//! Stdin and other streams: an image, or a tar file of images.

use std::io::{self, Read};
use std::ops::ControlFlow;

use tuwen_data::image::sniff;

use super::{Content, MAX_BYTES, Visitor, archive, check_size, visit_failure};

/// Visits what a stream holds; its first bytes say whether it is a tar file or an image.
pub fn visit(name: &str, mut stream: impl Read, each: &mut Visitor<'_>) -> ControlFlow<()> {
    let mut head = Vec::new();
    if let Err(error) = stream.by_ref().take(archive::BLOCK).read_to_end(&mut head) {
        return visit_failure(name, error.into(), each);
    }
    if archive::begins(&head) {
        return archive::visit_stream(name, io::Cursor::new(head).chain(stream), each);
    }
    each(name.to_owned(), &mut || {
        let mut bytes = std::mem::take(&mut head);
        // What is no image is not read to its end: it may have none.
        sniff(&bytes)?;
        stream.by_ref().take(MAX_BYTES).read_to_end(&mut bytes)?;
        check_size(bytes.len() as u64)?;
        Ok(Content::Bytes(bytes))
    })
}
