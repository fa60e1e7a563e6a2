//! The tape: what an operation leaves behind so that gradients can flow back through it.
//!
//! It is define-by-run. A node keeps only what its backward pass needs; running that pass consumes it, so buffers
//! return to the pool while the tape unwinds. Where nothing needs a gradient, no node is made.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::{Tensor, ops};

/// From the gradient of the output, and what the gradient of the first input amounts to so far, to one gradient an input,
/// or `None` for an input that needs none; that of the first input then includes what it amounted to. What an operation
/// knows of leaves that are no inputs of it, it adds to the gradients.
type Backward = Box<dyn FnOnce(Tensor, Option<Tensor>, &mut Gradients) -> Vec<Option<Tensor>> + Send>;

/// One recorded operation, or a leaf.
pub(crate) struct Node {
    /// Grows with creation, so an input's id is always smaller than its consumer's.
    id: u64,
    inputs: Vec<Option<Arc<Node>>>,
    /// Gone once it has run; a leaf never has one.
    backward: Mutex<Option<Backward>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
    /// Whether an operation had an input on the tape, recorded or not.
    static MET_TAPE: Cell<bool> = const { Cell::new(false) };
}

impl Node {
    pub(crate) fn leaf() -> Arc<Self> {
        Self::new(Vec::new(), None)
    }

    fn new(inputs: Vec<Option<Arc<Node>>>, backward: Option<Backward>) -> Arc<Self> {
        Arc::new(Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), inputs, backward: Mutex::new(backward) })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// Runs `f` without recording: no tape, no memory kept for a backward pass.
pub fn no_grad<T>(f: impl FnOnce() -> T) -> T {
    with_recording(false, f)
}

fn with_recording<T>(recording: bool, f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(recording));
    f()
}

/// Whether a result computed from `inputs` has to be recorded.
pub(crate) fn needs_tape(inputs: &[&Tensor]) -> bool {
    let on_tape = inputs.iter().any(|tensor| tensor.node().is_some());
    if on_tape {
        MET_TAPE.set(true);
    }
    on_tape && RECORDING.get()
}

/// Records how gradients flow from `output` back to `inputs`; `backward` returns one gradient an input, or `None`
/// for an input that needs none.
pub(crate) fn record(
    output: Tensor,
    inputs: &[&Tensor],
    backward: impl FnOnce(Tensor) -> Vec<Option<Tensor>> + Send + 'static,
) -> Tensor {
    record_onto(output, inputs, move |gradient, sum| {
        let mut gradients = backward(gradient);
        if let Some(sum) = sum {
            let first = gradients.first_mut().expect("an operation with a gradient so far has an input");
            *first = Some(match first.take() {
                Some(contribution) => sum.accumulate(contribution),
                None => sum,
            });
        }
        gradients
    })
}

/// As [`record`], for an operation that adds to the gradient of its first input as it computes its own: `backward` gets
/// what that amounts to so far, if anything, and returns the sum.
pub(crate) fn record_onto(
    output: Tensor,
    inputs: &[&Tensor],
    backward: impl FnOnce(Tensor, Option<Tensor>) -> Vec<Option<Tensor>> + Send + 'static,
) -> Tensor {
    record_with_leaves(output, inputs, move |gradient, sum, _| backward(gradient, sum))
}

fn record_with_leaves(
    output: Tensor,
    inputs: &[&Tensor],
    backward: impl FnOnce(Tensor, Option<Tensor>, &mut Gradients) -> Vec<Option<Tensor>> + Send + 'static,
) -> Tensor {
    let inputs = inputs.iter().map(|tensor| tensor.node().cloned()).collect();
    output.with_node(Node::new(inputs, Some(Box::new(backward))))
}

/// `f(x)` that keeps x alone for its backward pass, which runs `f` once more (Chen et al. 2016, arXiv 1604.06174).
///
/// `f` computes the same each time, whatever it does besides; parameters that it uses get their gradients.
pub fn checkpoint(x: &Tensor, mut f: impl FnMut(&Tensor) -> Tensor + Send + 'static) -> Tensor {
    checkpoint_of(&[x], move |inputs| f(&inputs[0]))
}

/// As [`checkpoint`] for a function of several tensors.
pub fn checkpoint_of(inputs: &[&Tensor], mut f: impl FnMut(&[Tensor]) -> Tensor + Send + 'static) -> Tensor {
    let given: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
    if !RECORDING.get() {
        return f(&given);
    }
    let wanted: Vec<bool> = given.iter().map(Tensor::requires_grad).collect();
    let met = MET_TAPE.replace(wanted.contains(&true));
    let y = no_grad(|| f(&given));
    let on_tape = MET_TAPE.get();
    MET_TAPE.set(met || on_tape);
    if !on_tape {
        return y;
    }
    let saved: Vec<Tensor> = given.iter().map(Tensor::detach).collect();
    drop(given);
    record_with_leaves(y, inputs, move |dy, sum, gradients| {
        let as_given = |(saved, wanted): (Tensor, bool)| if wanted { saved.leaf() } else { saved };
        let inputs: Vec<Tensor> = saved.into_iter().zip(wanted).map(as_given).collect();
        let mut inner = with_recording(true, || f(&inputs)).backward_from(dy);
        let mut of_inputs: Vec<Option<Tensor>> = inputs.iter().map(|input| inner.take(input)).collect();
        gradients.accumulate(inner);
        if let Some(first) = of_inputs.first_mut() {
            *first = match (sum, first.take()) {
                (Some(sum), Some(dx)) => Some(sum.accumulate(dx)),
                (sum, dx) => sum.or(dx),
            };
        }
        of_inputs
    })
}

/// Gradients of a scalar with respect to the leaves that it depends on.
#[derive(Default)]
pub struct Gradients {
    by_leaf: HashMap<u64, Tensor>,
}

impl Gradients {
    /// Takes the gradient of a leaf tensor, if the scalar depends on it.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Tensor> {
        self.by_leaf.remove(&leaf.node()?.id())
    }

    /// Adds the gradients of another scalar of the same leaves.
    pub fn accumulate(&mut self, other: Self) {
        other.by_leaf.into_iter().for_each(|(id, gradient)| self.add(id, gradient));
    }

    /// Multiplies all gradients.
    pub fn scale(&mut self, factor: f32) {
        for gradient in self.by_leaf.values_mut() {
            *gradient = ops::scale(&gradient.detach(), factor);
        }
    }

    fn add(&mut self, leaf: u64, gradient: Tensor) {
        let sum = match self.by_leaf.remove(&leaf) {
            Some(sum) => sum.accumulate(gradient),
            None => gradient,
        };
        self.by_leaf.insert(leaf, sum);
    }

    /// The gradient of a leaf tensor, if the scalar depends on it.
    pub fn get(&self, leaf: &Tensor) -> Option<&Tensor> {
        self.by_leaf.get(&leaf.node()?.id())
    }
}

/// Number of recorded operations that a node depends on, itself included; leaves are none.
pub(crate) fn len(node: &Arc<Node>) -> usize {
    let mut seen = HashSet::new();
    let mut pending = vec![node];
    let mut operations = 0;
    while let Some(node) = pending.pop() {
        if seen.insert(node.id) {
            operations += usize::from(!node.inputs.is_empty());
            pending.extend(node.inputs.iter().flatten());
        }
    }
    operations
}

/// Runs the tape backwards from `root`, whose gradient is `seed`.
pub(crate) fn backward(root: Tensor, seed: Tensor) -> Gradients {
    let mut gradients = Gradients::default();
    let mut pending: BTreeMap<u64, (Arc<Node>, Tensor)> = BTreeMap::new();
    if let Some(node) = root.node() {
        pending.insert(node.id, (node.clone(), seed));
    }
    drop(root);
    // The greatest id first: every consumer of a node has run before the node itself.
    while let Some((id, (node, gradient))) = pending.pop_last() {
        let run = node.backward.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(run) = run else {
            assert!(node.inputs.is_empty(), "the tape was already run backwards through this tensor");
            gradients.add(id, gradient);
            continue;
        };
        let so_far = |input: &Arc<Node>| pending.remove(&input.id).map(|(_, sum)| sum);
        let first = node.inputs.first().and_then(Option::as_ref).and_then(so_far);
        for (input, contribution) in node.inputs.iter().zip(run(gradient, first, &mut gradients)) {
            let (Some(input), Some(contribution)) = (input, contribution) else { continue };
            let sum = match pending.remove(&input.id) {
                Some((_, sum)) => sum.accumulate(contribution),
                None => contribution,
            };
            pending.insert(input.id, (input.clone(), sum));
        }
    }
    gradients
}
