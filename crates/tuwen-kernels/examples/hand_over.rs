//! Prints what it costs to hand work to another thread, and what two threads make of small products: the best of many
//! runs, in microseconds.

#![allow(clippy::print_stdout)] // its purpose

use std::hint::black_box;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tuwen_kernels::{Epilogue, MatRef, PackedB, gemm, parallel_for, set_threads, threads};

fn best(runs: usize, pause: Duration, mut run: impl FnMut()) -> f64 {
    run();
    let once = |_| {
        if !pause.is_zero() {
            sleep(pause);
        }
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..runs).map(once).fold(f64::INFINITY, f64::min)
}

/// Two tasks that take a while, so that the second is worth taking; the time above that of one of them is the price.
fn hand_over(pause: Duration, runs: usize) -> f64 {
    let task = |_| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
    };
    best(runs, pause, || parallel_for(2, task)) - 20.0
}

fn product(m: usize, k: usize, n: usize) -> f64 {
    let (a, b, mut c) = (vec![0.5; m * k], vec![0.5; k * n], vec![0.0; m * n]);
    let b = PackedB::pack(MatRef::new(&b, k, n));
    best(20_000, Duration::ZERO, || {
        gemm(black_box(MatRef::new(&a, m, k)), &b, &mut c, &Epilogue::default());
    })
}

fn main() {
    println!("{} threads", threads());
    println!("hand-over to a worker that spins {:6.2}", hand_over(Duration::ZERO, 20_000));
    println!("hand-over to a worker that sleeps {:6.2}", hand_over(Duration::from_millis(2), 500));
    for (m, k, n) in [(1, 64, 64), (1, 512, 64), (1, 512, 512), (8, 128, 128), (16, 256, 256), (50, 256, 256)]
    {
        let [alone, shared] = [1, 0].map(|count| {
            set_threads(count);
            product(m, k, n)
        });
        println!("{:9} multiply-adds {m}x{k}x{n}: {alone:7.2} alone, {shared:7.2} shared", m * k * n);
    }
}
