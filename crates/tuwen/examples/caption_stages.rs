//! How long captions take, stage by stage: `caption_stages MODEL [precision]`, for batches of 1 and 8 and beams of 1 and 3.
//!
//! Each figure is the least of several rounds, in milliseconds for the whole batch: `look` is the image encoder and the keys and
//! values of the decoder, `first` the first token after the prompt, `token` each later one.

#![allow(clippy::print_stdout)] // an example says what it found

use std::time::Instant;

use tuwen::generate::GenerationConfig;
use tuwen::{Captioner, Error, Options, Picture, SeenImages, WritingOptions};

const ROUNDS: usize = 5;
const TOKENS: usize = 17;

fn least(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64() * 1e3
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// Milliseconds to write `tokens` tokens, none of which is the end.
fn write(captioner: &Captioner<'_>, seen: &SeenImages, num_beams: usize, tokens: usize) -> f64 {
    let own = captioner.options();
    let generation = GenerationConfig {
        num_beams,
        max_length: None,
        max_new_tokens: Some(tokens),
        min_length: 0,
        min_new_tokens: tokens,
        ..own.generation
    };
    let options = WritingOptions { generation, ..own };
    least(|| drop(captioner.write(seen, &options)))
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().map_or("builtin", String::as_str);
    let precision = arguments.get(1).and_then(|name| name.parse().ok()).unwrap_or(tuwen::auto_precision());
    let model = tuwen::load(path, &Options { precision, ..Options::default() })?;
    let captioner = model.captioner()?;
    // A BMP of two by two pixels, made as large as the network takes it.
    let mut picture = b"BM".to_vec();
    for field in [70u32, 0, 54, 40, 2, 2, 1 | 24 << 16, 0, 16, 0, 0, 0, 0, 0xff_00_80, 0x20, 0x80_80_80, 0x77]
    {
        picture.extend(field.to_le_bytes());
    }
    let pixels = captioner.eye().prepare(&Picture::decode(&picture)?);
    println!("precision {precision}");
    for batch in [1, 8] {
        let images = vec![pixels.clone(); batch];
        let seen = captioner.look(&images);
        println!("batch {batch}: look {:.1} ms", least(|| drop(captioner.look(&images))));
        for beams in [1, 3] {
            let (first, all) = (write(&captioner, &seen, beams, 1), write(&captioner, &seen, beams, TOKENS));
            let token = (all - first) / (TOKENS - 1) as f64;
            println!("batch {batch}, beams {beams}: first {first:.1} ms, token {token:.2} ms");
        }
    }
    Ok(())
}
