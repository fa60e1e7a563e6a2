//! A checkpoint file of any kind: safetensors, torch.save of both ages, TorchScript, an index of shards.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuwen_fuzz::{read_all, write};
use tuwen_tensor::checkpoint::open;

/// What an index may name.
const SHARDS: [(&str, &[u8]); 2] = [
    ("one.safetensors", include_bytes!("../seeds/checkpoint/tiny.safetensors")),
    ("two.bin", include_bytes!("../seeds/checkpoint/tiny.pt")),
];

fuzz_target!(
    init: SHARDS.iter().for_each(|(name, bytes)| drop(write(name, bytes))),
    |data: &[u8]| read_all(open(&write("model", data)))
);
