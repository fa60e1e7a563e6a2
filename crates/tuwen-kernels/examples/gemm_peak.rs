//! Prints the speed of products, convolutions and their gradients in GFLOP/s, the best of a few runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tuwen_kernels::{
    ConvShape, Epilogue, MatRef, PackedB, PackedConv, conv2d, conv2d_backward_input, conv2d_backward_weight,
    gemm, isa, matmul, threads,
};

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

fn report(name: &str, flops: usize, mut run: impl FnMut()) {
    let (start, mut best) = (Instant::now(), Duration::MAX);
    run();
    while start.elapsed() < Duration::from_millis(400) {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed());
    }
    let seconds = best.as_secs_f64();
    println!("{name:44} {:8.3} ms {:6.0} GFLOP/s", seconds * 1e3, flops as f64 / seconds * 1e-9);
}

fn products() {
    for (m, k, n) in [
        (800, 768, 3072),
        (800, 3072, 768),
        (800, 768, 768),
        (50, 768, 768),
        (1, 768, 768),
        (1024, 1024, 1024),
    ] {
        let (a, b, mut c) = (noise(m * k), noise(k * n), vec![0.0; m * n]);
        let packed = PackedB::pack(MatRef::new(&b, n, k).t());
        report(&format!("gemm {m}x{k}x{n}"), 2 * m * k * n, || {
            gemm(black_box(MatRef::new(&a, m, k)), &packed, &mut c, &Epilogue::default());
        });
    }
    for (m, k, n) in
        [(768, 800, 768), (3072, 800, 768), (768, 12_800, 768), (64, 262_144, 64), (16, 262_144, 16)]
    {
        let (dy, x, mut dw) = (noise(k * m), noise(k * n), vec![0.0; m * n]);
        report(&format!("dW {m}x{k}x{n}"), 2 * m * k * n, || {
            matmul(
                black_box(MatRef::new(&dy, k, m).t()),
                MatRef::new(&x, k, n),
                &mut dw,
                &Epilogue::default(),
            );
        });
    }
}

fn convolutions() {
    let square = |size, in_channels, out_channels, kernel, stride| ConvShape {
        batch: 256,
        height: size,
        width: size,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding: kernel / 2,
    };
    for shape in [
        square(64, 3, 16, 3, 2),
        square(32, 16, 16, 3, 1),
        square(32, 16, 32, 3, 1),
        square(16, 32, 32, 3, 1),
        square(16, 128, 32, 1, 1),
        square(16, 64, 64, 3, 1),
        square(8, 64, 64, 3, 1),
        square(4, 128, 128, 3, 1),
        square(4, 512, 256, 1, 1),
        square(2, 256, 256, 3, 1),
    ] {
        let pixels = shape.batch * shape.out_height() * shape.out_width();
        let (i, o, window) = (shape.in_channels, shape.out_channels, shape.kernel * shape.kernel);
        let x = noise(shape.batch * shape.height * shape.width * i);
        let weight = noise(o * i * window);
        let (mut y, mut dx, mut dw) = (noise(pixels * o), x.clone(), weight.clone());
        let flops = 2 * pixels * o * i * window;
        let name = format!("{0}x{0} {i}->{o} k{1} s{2}", shape.height, shape.kernel, shape.stride);
        let packed = PackedConv::pack(&weight, &shape);
        report(&format!("conv {name}"), flops, || {
            conv2d(black_box(&x), &packed, &shape, &mut y, &Epilogue::default());
        });
        report(&format!("conv dX {name}"), flops, || {
            conv2d_backward_input(black_box(&y), &weight, &shape, &mut dx)
        });
        report(&format!("conv dW {name}"), flops, || {
            conv2d_backward_weight(black_box(&x), &y, &shape, &mut dw)
        });
    }
}

fn main() {
    println!("{:?}, {} threads", isa(), threads());
    products();
    convolutions();
}
