//! The CPU device: host memory from the pool, kernels of `tuwen-kernels`.

use tuwen_kernels as kernels;
use tuwen_kernels::{
    Activation, AdamW, AttentionShape, ConvShape, Dropout, MatRef, PackedB, PackedConv, Precision,
    SelfAttentionInputs,
};

use crate::Targets;
use crate::device::{
    Buffer, Device, Epilogue, MlpGradients, MlpWeights, Normed, Packed, SelfAttended, StepBuffers, Weight,
};
use crate::halves::Halves;
use crate::maps::Maps;
use crate::pool::HostMemory;

/// The CPU.
#[derive(Debug, Clone, Copy)]
pub struct Cpu;

fn host(buffer: &Buffer) -> &[f32] {
    buffer.storage::<HostMemory>().as_slice()
}

fn host_mut(buffer: &mut Buffer) -> &mut [f32] {
    buffer.storage_mut::<HostMemory>().as_mut_slice()
}

fn values<'a>(weight: Weight<'a>) -> &'a [f32] {
    match weight {
        Weight::Buffer(buffer) => host(buffer),
        Weight::Host(values) => values,
    }
}

/// A recycled buffer that `fill` writes in full.
fn filled(len: usize, fill: impl FnOnce(&mut [f32])) -> Buffer {
    let mut memory = HostMemory::take(len);
    fill(memory.as_mut_slice());
    Buffer::new(memory, len)
}

/// A recycled buffer; its contents are to be overwritten.
fn scratch(len: usize) -> Buffer {
    filled(len, |_| ())
}

fn kernel_epilogue<'a>(epilogue: &Epilogue<'a>) -> kernels::Epilogue<'a> {
    kernels::Epilogue {
        bias: epilogue.bias.map(host),
        activation: epilogue.activation.unwrap_or(Activation::Identity),
        residual: epilogue.residual.map(host),
        residual_first: epilogue.residual_first,
        accumulate: false,
    }
}

/// Whether queries, keys and values lose nothing that their products would see if they are kept in bf16.
fn keeps_less(shape: &AttentionShape) -> bool {
    shape.precision == Precision::Bf16
}

fn input_len(shape: &ConvShape) -> usize {
    shape.batch * shape.height * shape.width * shape.in_channels
}

fn output_len(shape: &ConvShape) -> usize {
    shape.batch * shape.out_height() * shape.out_width() * shape.out_channels
}

fn of_kernels(targets: Targets<'_>) -> kernels::Targets<'_> {
    match targets {
        Targets::Classes(ids) => kernels::Targets::Classes(ids),
        Targets::Smoothed(ids, shared) => kernels::Targets::Smoothed(ids, shared),
        Targets::Soft(values) => kernels::Targets::Soft(values),
    }
}

/// A loss of each row of `cols` logits, and its gradient.
fn loss_of_rows(
    logits: &Buffer,
    cols: usize,
    compute: impl FnOnce(&[f32], &mut [f32], &mut [f32]),
) -> (Buffer, Buffer) {
    let mut losses = scratch(logits.len() / cols.max(1));
    let gradient = filled(logits.len(), |gradient| compute(host(logits), host_mut(&mut losses), gradient));
    (losses, gradient)
}

impl Device for Cpu {
    fn name(&self) -> String {
        format!("cpu ({:?}, {} threads)", kernels::isa(), kernels::threads()).to_lowercase()
    }

    fn upload(&self, values: &[f32]) -> Buffer {
        filled(values.len(), |out| out.copy_from_slice(values))
    }

    fn full(&self, len: usize, value: f32) -> Buffer {
        filled(len, |out| out.fill(value))
    }

    fn scratch(&self, len: usize) -> Buffer {
        scratch(len)
    }

    fn read(&self, buffer: &Buffer) -> Vec<f32> {
        host(buffer).to_vec()
    }

    fn pack_linear(&self, weight: Weight, out: usize, inner: usize, precision: Precision) -> Packed {
        Packed::new(PackedB::pack_as(MatRef::new(values(weight), out, inner).t(), precision))
    }

    fn pack_linear_backward(
        &self,
        weight: &Buffer,
        out: usize,
        inner: usize,
        precision: Precision,
    ) -> Packed {
        Packed::new(PackedB::pack_as(MatRef::new(host(weight), out, inner), precision))
    }

    fn linear(&self, x: &Buffer, weight: &Packed, rows: usize, epilogue: Epilogue) -> Buffer {
        let weight = weight.get::<PackedB>();
        let a = MatRef::new(host(x), rows, weight.k());
        filled(rows * weight.n(), |y| kernels::gemm(a, weight, y, &kernel_epilogue(&epilogue)))
    }

    fn matmul(
        &self,
        [(a, ta), (b, tb)]: [(&Buffer, bool); 2],
        [m, k, n]: [usize; 3],
        precision: Precision,
    ) -> Buffer {
        let oriented = |data, transposed, rows, cols| {
            if transposed { MatRef::new(data, cols, rows).t() } else { MatRef::new(data, rows, cols) }
        };
        let (a, b) = (oriented(host(a), ta, m, k), oriented(host(b), tb, k, n));
        filled(m * n, |y| kernels::matmul_as(precision, a, b, y, &kernels::Epilogue::default()))
    }

    fn mlp(
        &self,
        x: &Buffer,
        weights: MlpWeights,
        rows: usize,
        residual: Option<&Buffer>,
    ) -> (Buffer, Buffer) {
        let MlpWeights { fc1, bias1, activation, fc2, bias2 } = weights;
        let (fc1, fc2) = (fc1.get::<PackedB>(), fc2.get::<PackedB>());
        let mlp = kernels::Mlp { fc1, bias1: bias1.map(host), activation, fc2, bias2: bias2.map(host) };
        let mut kept = scratch(kernels::mlp_kept_len(fc1.precision(), rows * fc1.n()));
        let y = filled(rows * fc2.n(), |y| {
            kernels::mlp(host(x), rows, &mlp, residual.map(host), host_mut(&mut kept), y);
        });
        (y, kept)
    }

    fn mlp_backward(&self, dy: &Buffer, kept: Buffer, weights: MlpWeights, rows: usize) -> MlpGradients {
        let (fc1, fc2) = (weights.fc1.get::<PackedB>(), weights.fc2.get::<PackedB>());
        let mlp = kernels::MlpBackward { fc2, activation: weights.activation, fc1 };
        let inner = rows * fc2.n();
        // What is kept as f32 turns into the output of the activation in place.
        let (kept, mut activated) = match fc1.precision() {
            Precision::F32 => (None, kept),
            Precision::Bf16 | Precision::Int8 => (Some(kept), scratch(inner)),
        };
        let [mut dz, mut dbias1] = [inner, fc1.k()].map(scratch);
        let dx = filled(rows * fc1.n(), |dx| {
            let kept = kept.as_ref().map(host);
            let [activated, dz, dbias1] = [&mut activated, &mut dz, &mut dbias1].map(host_mut);
            kernels::mlp_backward(host(dy), rows, &mlp, kept, activated, dz, dbias1, dx);
        });
        MlpGradients { dx, activated, dz, dbias1 }
    }

    fn pack_conv(&self, weight: Weight, shape: &ConvShape, precision: Precision) -> Packed {
        Packed::new(PackedConv::pack(values(weight), shape, precision))
    }

    fn conv2d_to_maps(
        &self,
        x: &Buffer,
        parts: [&[f32]; 2],
        shape: &ConvShape,
        relu: bool,
        exact: bool,
    ) -> Option<Buffer> {
        Maps::of_images(host(x), parts, shape, relu, exact)
    }

    fn halves(&self, x: &Buffer) -> Option<Buffer> {
        let rounds = kernels::has_fast(Precision::Bf16) && Halves::of(x).is_none();
        rounds.then(|| Halves::round(host(x)))
    }

    fn numbers(&self, x: &Buffer) -> Option<Buffer> {
        let halves = || Halves::of(x).map(|halves| filled(x.len(), |x| halves.write(x)));
        Maps::of(x).map(|maps| filled(x.len(), |x| maps.write(x))).or_else(halves)
    }

    fn conv2d(&self, x: &Buffer, weight: &Packed, shape: &ConvShape, epilogue: Epilogue) -> Buffer {
        if let Some(maps) = Maps::of(x) {
            return maps.convolve(weight, shape, epilogue, epilogue.bias.map(host));
        }
        filled(output_len(shape), |y| {
            kernels::conv2d(host(x), weight.get::<PackedConv>(), shape, y, &kernel_epilogue(&epilogue));
        })
    }

    fn conv2d_backward_input(&self, dy: &Buffer, weight: &Buffer, shape: &ConvShape) -> Buffer {
        filled(input_len(shape), |dx| kernels::conv2d_backward_input(host(dy), host(weight), shape, dx))
    }

    fn conv2d_backward_weight(&self, x: &Buffer, dy: &Buffer, shape: &ConvShape) -> Buffer {
        let len = shape.out_channels * shape.in_channels * shape.kernel * shape.kernel;
        filled(len, |dw| kernels::conv2d_backward_weight(host(x), host(dy), shape, dw))
    }

    fn attention(
        &self,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> (Buffer, Buffer) {
        let mut lse = scratch(shape.batch * shape.heads * shape.query_len);
        let out = filled(q.len(), |out| {
            let (q, lse) = (host(q), host_mut(&mut lse));
            match (Halves::of(k), Halves::of(v)) {
                (Some(k), Some(v)) => k.attend(q, v, key_mask, shape, out, lse),
                _ => kernels::attention(q, host(k), host(v), key_mask, shape, out, Some(lse)),
            }
        });
        (out, lse)
    }

    fn attention_to_steps(&self, q: &Buffer, steps: &[StepBuffers<'_>], shape: &AttentionShape) -> Buffer {
        let of_step = |&StepBuffers { keys_values: [keys, values], tokens, rows }| kernels::Step {
            keys: host(keys),
            values: host(values),
            tokens,
            rows,
        };
        let steps: Vec<_> = steps.iter().map(of_step).collect();
        filled(q.len(), |out| kernels::attention_to_steps(host(q), &steps, shape, out))
    }

    fn attention_backward(
        &self,
        [q, k, v]: [&Buffer; 3],
        out: &Buffer,
        lse: &Buffer,
        dout: &Buffer,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> [Buffer; 3] {
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|input| scratch(input.len()));
        kernels::attention_backward(
            host(q),
            host(k),
            host(v),
            host(out),
            host(lse),
            host(dout),
            key_mask,
            shape,
            host_mut(&mut dq),
            host_mut(&mut dk),
            host_mut(&mut dv),
        );
        [dq, dk, dv]
    }

    fn self_attention(&self, qkv: Buffer, key_mask: Option<&[bool]>, shape: &AttentionShape) -> SelfAttended {
        let mut lse = scratch(shape.batch * shape.heads * shape.query_len);
        let mut kept = keeps_less(shape).then(|| scratch(kernels::self_attention_kept_len(shape)));
        let out = filled(qkv.len() / 3, |out| {
            let (lse, kept) = (Some(host_mut(&mut lse)), kept.as_mut().map(host_mut));
            kernels::self_attention(host(&qkv), key_mask, shape, out, lse, kept);
        });
        SelfAttended { out, lse, kept: kept.unwrap_or(qkv) }
    }

    fn self_attention_backward(
        &self,
        kept: Buffer,
        out: &Buffer,
        lse: &Buffer,
        dout: &Buffer,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> Buffer {
        let inputs = match keeps_less(shape) {
            true => SelfAttentionInputs::Kept(host(&kept)),
            false => SelfAttentionInputs::Whole(host(&kept)),
        };
        filled(3 * out.len(), |dqkv| {
            let (out, lse, dout) = (host(out), host(lse), host(dout));
            kernels::self_attention_backward(inputs, out, lse, dout, key_mask, shape, dqkv);
        })
    }

    fn attention_weights(
        &self,
        q: &Buffer,
        k: &Buffer,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> Buffer {
        filled(shape.batch * shape.heads * shape.query_len * shape.key_len, |weights| {
            kernels::attention_weights(host(q), host(k), key_mask, shape, weights);
        })
    }

    fn layer_norm(&self, x: &Buffer, gamma: &Buffer, beta: &Buffer, eps: f32) -> Normed {
        let rows = x.len() / gamma.len().max(1);
        let (mut mean, mut spread) = (scratch(rows), scratch(rows));
        let y = filled(x.len(), |y| {
            let statistics = (Some(host_mut(&mut mean)), Some(host_mut(&mut spread)));
            let cols = gamma.len();
            kernels::layer_norm(host(x), host(gamma), host(beta), eps, cols, y, statistics.0, statistics.1);
        });
        Normed { y, mean, spread }
    }

    fn layer_norm_backward(
        &self,
        dy: &Buffer,
        x: &Buffer,
        gamma: &Buffer,
        [mean, rstd]: [&Buffer; 2],
        dx: Option<Buffer>,
    ) -> [Buffer; 3] {
        let (mut dgamma, mut dbeta) = (scratch(gamma.len()), scratch(gamma.len()));
        let onto = dx.is_some();
        let mut dx = dx.unwrap_or_else(|| scratch(x.len()));
        kernels::layer_norm_backward(
            host(dy),
            host(x),
            host(gamma),
            host(mean),
            host(rstd),
            gamma.len(),
            onto,
            host_mut(&mut dx),
            host_mut(&mut dgamma),
            host_mut(&mut dbeta),
        );
        [dx, dgamma, dbeta]
    }

    fn batch_norm(
        &self,
        x: &Buffer,
        gamma: &Buffer,
        beta: &Buffer,
        residual: Option<&Buffer>,
        relu: bool,
        eps: f32,
    ) -> Normed {
        let (mut mean, mut spread) = (scratch(gamma.len()), scratch(gamma.len()));
        let y = filled(x.len(), |y| {
            kernels::batch_norm_train(
                host(x),
                host(gamma),
                host(beta),
                eps,
                residual.map(host),
                relu,
                y,
                host_mut(&mut mean),
                host_mut(&mut spread),
            );
        });
        Normed { y, mean, spread }
    }

    fn batch_norm_backward(
        &self,
        dy: &Buffer,
        x: &Buffer,
        y: &Buffer,
        gamma: &Buffer,
        [mean, variance]: [&Buffer; 2],
        residual: bool,
        relu: bool,
        eps: f32,
    ) -> ([Buffer; 3], Option<Buffer>) {
        let (mut dgamma, mut dbeta) = (scratch(gamma.len()), scratch(gamma.len()));
        let mut dresidual = residual.then(|| scratch(x.len()));
        let dx = filled(x.len(), |dx| {
            kernels::batch_norm_backward(
                host(dy),
                host(x),
                host(y),
                host(gamma),
                host(mean),
                host(variance),
                eps,
                relu,
                dx,
                dresidual.as_mut().map(host_mut),
                host_mut(&mut dgamma),
                host_mut(&mut dbeta),
            );
        });
        ([dx, dgamma, dbeta], dresidual)
    }

    fn l2_normalize(&self, x: &Buffer, cols: usize, eps: f32) -> (Buffer, Buffer) {
        let mut norm = scratch(x.len() / cols.max(1));
        let y = filled(x.len(), |y| kernels::l2_normalize(host(x), cols, eps, y, host_mut(&mut norm)));
        (y, norm)
    }

    fn l2_normalize_backward(&self, dy: &Buffer, y: &Buffer, norm: &Buffer, cols: usize, eps: f32) -> Buffer {
        filled(y.len(), |dx| {
            kernels::l2_normalize_backward(host(dy), host(y), host(norm), cols, eps, dx);
        })
    }

    fn activate(&self, activation: Activation, x: &Buffer) -> Buffer {
        filled(x.len(), |y| kernels::activate(activation, host(x), y))
    }

    fn activate_backward(&self, activation: Activation, x: &Buffer, dy: &Buffer) -> Buffer {
        filled(x.len(), |dx| kernels::activate_backward(activation, host(x), host(dy), dx))
    }

    fn softmax(&self, x: &Buffer, cols: usize) -> Buffer {
        filled(x.len(), |y| kernels::softmax(host(x), cols, y))
    }

    fn cross_entropy(&self, logits: &Buffer, targets: Targets<'_>, cols: usize) -> (Buffer, Buffer) {
        loss_of_rows(logits, cols, |logits, losses, gradient| {
            kernels::cross_entropy(logits, of_kernels(targets), cols, losses, Some(gradient));
        })
    }

    fn binary_cross_entropy(&self, logits: &Buffer, targets: Targets<'_>, cols: usize) -> (Buffer, Buffer) {
        loss_of_rows(logits, cols, |logits, losses, gradient| {
            kernels::binary_cross_entropy(logits, of_kernels(targets), cols, losses, Some(gradient));
        })
    }

    fn gather_rows(&self, table: &Buffer, cols: usize, ids: &[u32]) -> Buffer {
        filled(ids.len() * cols, |out| kernels::gather_rows(host(table), cols, ids, out))
    }

    fn scatter_add_rows(&self, dout: &Buffer, cols: usize, ids: &[u32], rows: usize) -> Buffer {
        filled(rows * cols, |dtable| {
            dtable.fill(0.0);
            kernels::scatter_add_rows(host(dout), cols, ids, dtable);
        })
    }

    fn avg_pool2d(&self, x: &Buffer, [batch, height, width, channels]: [usize; 4], k: usize) -> Buffer {
        if let Some(maps) = Maps::of(x).filter(|_| k == 2) {
            return maps.pool();
        }
        filled(batch * (height / k) * (width / k) * channels, |y| {
            kernels::avg_pool2d(host(x), batch, height, width, channels, k, y);
        })
    }

    fn avg_pool2d_backward(
        &self,
        dy: &Buffer,
        [batch, height, width, channels]: [usize; 4],
        k: usize,
    ) -> Buffer {
        filled(batch * height * width * channels, |dx| {
            kernels::avg_pool2d_backward(host(dy), batch, height, width, channels, k, dx);
        })
    }

    fn permute(&self, x: &Buffer, shape: &[usize], axes: &[usize]) -> Buffer {
        filled(x.len(), |y| kernels::permute(host(x), shape, axes, y))
    }

    fn join(&self, parts: &[&Buffer]) -> Buffer {
        filled(parts.iter().map(|part| part.len()).sum(), |out| {
            let mut rest = out;
            for part in parts {
                let (head, tail) = rest.split_at_mut(part.len());
                head.copy_from_slice(host(part));
                rest = tail;
            }
        })
    }

    fn copy_blocks(
        &self,
        src: &Buffer,
        (src_start, src_stride): (usize, usize),
        dst: &mut Buffer,
        (dst_start, dst_stride): (usize, usize),
        blocks: usize,
        len: usize,
    ) {
        let (src, dst) = (host(src), host_mut(dst));
        for block in 0..blocks {
            let (from, to) = (block * src_stride + src_start, block * dst_stride + dst_start);
            dst[to..to + len].copy_from_slice(&src[from..from + len]);
        }
    }

    fn add(&self, a: &Buffer, b: &Buffer) -> Buffer {
        filled(a.len(), |y| kernels::add_broadcast(host(a), host(b), y))
    }

    fn add_assign(&self, y: &mut Buffer, x: &Buffer) {
        kernels::axpy(1.0, host(x), host_mut(y));
    }

    fn lerp(&self, y: &mut Buffer, x: &Buffer, weight: f32) {
        kernels::lerp(weight, host(x), host_mut(y));
    }

    fn mul(&self, a: &Buffer, b: &Buffer) -> Buffer {
        match host(b) {
            &[factor] => self.scale(a, factor),
            b => filled(a.len(), |y| kernels::mul(host(a), b, y)),
        }
    }

    fn scale(&self, x: &Buffer, factor: f32) -> Buffer {
        filled(x.len(), |y| kernels::scale(host(x), factor, y))
    }

    fn dropout(&self, x: &Buffer, dropout: Dropout) -> Buffer {
        filled(x.len(), |y| kernels::dropout(host(x), dropout, y))
    }

    fn exp(&self, x: &Buffer) -> Buffer {
        filled(x.len(), |y| y.iter_mut().zip(host(x)).for_each(|(y, x)| *y = x.exp()))
    }

    fn sum(&self, x: &Buffer) -> Buffer {
        self.full(1, kernels::sum(host(x)) as f32)
    }

    fn column_sums(&self, x: &Buffer, cols: usize) -> Buffer {
        filled(cols, |out| kernels::column_sums(host(x), cols, out))
    }

    fn mean_axis(&self, x: &Buffer, outer: usize, len: usize, inner: usize) -> Buffer {
        filled(outer * inner, |out| kernels::mean_axis(host(x), outer, len, inner, out))
    }

    fn repeat_axis(&self, x: &Buffer, outer: usize, len: usize, inner: usize, factor: f32) -> Buffer {
        let x = host(x);
        filled(outer * len * inner, |out| {
            if inner == 0 {
                return;
            }
            for (i, row) in out.chunks_exact_mut(inner).enumerate() {
                let from = i / len * inner;
                row.iter_mut().zip(&x[from..from + inner]).for_each(|(y, x)| *y = x * factor);
            }
        })
    }

    fn sum_squares(&self, x: &Buffer) -> f64 {
        kernels::sum_squares(host(x))
    }

    fn adamw(&self, param: &mut Buffer, grad: &Buffer, m: &mut Buffer, v: &mut Buffer, step: &AdamW) {
        kernels::adamw(host_mut(param), host(grad), host_mut(m), host_mut(v), step);
    }
}
