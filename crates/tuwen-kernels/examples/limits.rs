//! Prints what this machine can do at most: `cargo run --release -p tuwen-kernels --example limits`.

#![allow(clippy::print_stdout)] // its purpose

use tuwen_kernels::limits::{peak, read_bandwidth};
use tuwen_kernels::{Precision, threads};

fn main() {
    println!("{} threads", threads());
    for precision in Precision::ALL {
        let peak = peak(precision);
        println!("{precision}: {:.0} GFLOP/s ({})", peak.flops / 1e9, peak.unit);
    }
    for shift in [20, 22, 24, 26, 28] {
        println!("reading {} MiB: {:.1} GB/s", (1_u64 << shift) >> 20, read_bandwidth(1 << shift) / 1e9);
    }
}
