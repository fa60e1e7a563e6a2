//! Prints the speed of products, convolutions and their gradients in GFLOP/s, the best of a few runs. Arguments
//! choose lines that contain one of them.

#![allow(clippy::print_stdout)] // its purpose

use std::hint::black_box;
use std::time::{Duration, Instant};

use tuwen_kernels::{
    Activation, AttentionShape, ConvShape, Dropout, Epilogue, MatRef, PackedB, PackedConv, Precision,
    activate, activate_backward, attention, attention_backward, batch_norm_backward, batch_norm_train,
    conv2d, conv2d_backward_input, conv2d_backward_weight, gemm, isa, layer_norm, layer_norm_backward,
    matmul, matmul_as, permute, set_threads, softmax, threads,
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
    if std::env::args().len() > 1 && !std::env::args().skip(1).any(|part| name.contains(&part)) {
        return;
    }
    let (start, mut best) = (Instant::now(), Duration::MAX);
    run();
    while start.elapsed() < Duration::from_millis(400) {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed());
    }
    let seconds = best.as_secs_f64();
    println!("{name:50} {:8.3} ms {:6.0} GFLOP/s", seconds * 1e3, flops as f64 / seconds * 1e-9);
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
        let (bias, residual) = (noise(n), noise(m * n));
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: Activation::QuickGelu,
            residual: Some(&residual),
            ..Epilogue::default()
        };
        for precision in Precision::ALL {
            let packed = PackedB::pack_as(MatRef::new(&b, n, k).t(), precision);
            let mut product = |name: &str, epilogue: &Epilogue| {
                report(&format!("gemm {precision} {m}x{k}x{n}{name}"), 2 * m * k * n, || {
                    gemm(black_box(MatRef::new(&a, m, k)), &packed, &mut c, epilogue);
                });
            };
            product("", &Epilogue::default());
            product(", bias, residual", &Epilogue { activation: Activation::Identity, ..epilogue });
            product(", bias, quick_gelu", &Epilogue { residual: None, ..epilogue });
        }
    }
    for (m, k, n) in [
        (768, 800, 768),
        (3072, 800, 768),
        (256, 8320, 256),
        (1024, 8320, 256),
        (256, 8320, 1024),
        (768, 8320, 256),
        (768, 12_800, 768),
        (64, 262_144, 64),
        (16, 262_144, 16),
    ] {
        let (dy, x, mut dw) = (noise(k * m), noise(k * n), vec![0.0; m * n]);
        report(&format!("dW {m}x{k}x{n}"), 2 * m * k * n, || {
            matmul(
                black_box(MatRef::new(&dy, k, m).t()),
                MatRef::new(&x, k, n),
                &mut dw,
                &Epilogue::default(),
            );
        });
        report(&format!("dW bf16 {m}x{k}x{n}"), 2 * m * k * n, || {
            let dy = black_box(MatRef::new(&dy, k, m).t());
            matmul_as(Precision::Bf16, dy, MatRef::new(&x, k, n), &mut dw, &Epilogue::default());
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
        let packed = PackedConv::pack(&weight, &shape, Precision::F32);
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

fn attentions() {
    for (batch, heads, len, head_dim, causal) in
        [(16, 12, 50, 64, false), (4, 16, 577, 64, false), (64, 8, 77, 64, true)]
    {
        let size = batch * len * heads * head_dim;
        let [q, k, v, dout] = [0; 4].map(|_| noise(size));
        let (mut out, mut lse) = (vec![0.0; size], vec![0.0; batch * heads * len]);
        let [mut dq, mut dk, mut dv] = [0; 3].map(|_| vec![0.0; size]);
        let flops = 4 * batch * heads * len * len * head_dim;
        let name = format!("{batch}x{heads} heads, {len} tokens of {head_dim}");
        for precision in [Precision::F32, Precision::Bf16] {
            let (query_len, key_len, scale) = (len, len, 1.0 / (head_dim as f32).sqrt());
            let dropout = Dropout::default();
            let shape = AttentionShape {
                batch,
                heads,
                head_dim,
                query_len,
                key_len,
                scale,
                causal,
                precision,
                dropout,
            };
            report(&format!("attention {precision} {name}"), flops, || {
                attention(black_box(&q), &k, &v, None, &shape, &mut out, Some(&mut lse));
            });
            report(&format!("attention backward {precision} {name}"), flops * 5 / 2, || {
                let dout = black_box(&dout);
                attention_backward(&q, &k, &v, &out, &lse, dout, None, &shape, &mut dq, &mut dk, &mut dv);
            });
        }
    }
}

fn rows() {
    let (rows, cols) = (12_800, 768);
    let len = rows * cols;
    let (x, dy, gamma) = (noise(len), noise(len), noise(cols));
    let (mut y, mut mean, mut rstd) = (vec![0.0; len], vec![0.0; rows], vec![0.0; rows]);
    let (mut dgamma, mut dbeta) = (vec![0.0; cols], vec![0.0; cols]);
    report("layer_norm", len, || {
        layer_norm(black_box(&x), &gamma, &gamma, 1e-5, cols, &mut y, Some(&mut mean), Some(&mut rstd));
    });
    report("layer_norm_backward", len, || {
        layer_norm_backward(
            black_box(&dy),
            &x,
            &gamma,
            &mean,
            &rstd,
            cols,
            false,
            &mut y,
            &mut dgamma,
            &mut dbeta,
        );
    });
    report("quick_gelu", len, || activate(Activation::QuickGelu, black_box(&x), &mut y));
    report("gelu", len, || activate(Activation::Gelu, black_box(&x), &mut y));
    report("gelu backward", len, || activate_backward(Activation::Gelu, black_box(&x), &dy, &mut y));
    report("softmax", len, || softmax(black_box(&x), cols, &mut y));
    for (rows, cols) in [(262_144, 16), (16_384, 256)] {
        let len = rows * cols;
        let (x, dy, mut y, mut dx, gamma) = (&x[..len], &dy[..len], noise(len), vec![0.0; len], noise(cols));
        let [mut mean, mut var, mut dgamma, mut dbeta] = [0; 4].map(|_| vec![0.0; cols]);
        report(&format!("batch_norm {rows}x{cols}"), len, || {
            batch_norm_train(black_box(x), &gamma, &gamma, 1e-5, None, true, &mut y, &mut mean, &mut var);
        });
        report(&format!("batch_norm_backward {rows}x{cols}"), len, || {
            batch_norm_backward(
                black_box(dy),
                x,
                &y,
                &gamma,
                &mean,
                &var,
                1e-5,
                true,
                &mut dx,
                None,
                &mut dgamma,
                &mut dbeta,
            );
        });
    }
    report("permute [256, 50, 768] to [50, 256, 768]", 256 * 50 * 768, || {
        permute(black_box(&x), &[256, 50, 768], &[1, 0, 2], &mut y);
    });
    report("transpose [12800, 768]", len, || permute(black_box(&x), &[12_800, 768], &[1, 0], &mut y));
}

fn main() {
    if let Some(threads) = std::env::var("THREADS").ok().and_then(|threads| threads.parse().ok()) {
        set_threads(threads);
    }
    println!("{:?}, {} threads", isa(), threads());
    products();
    convolutions();
    attentions();
    rows();
}
