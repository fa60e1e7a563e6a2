//! Exchange between processes that train one model together: a trait, the case of one process, and ranks that are
//! threads of one process.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use tuwen_tensor::{Tensor, ops};

/// A group of processes. All of them make the same calls in the same order, with tensors of the same shapes.
pub trait Collective: Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// The tensors of all processes along the first axis, in the order of ranks: `[n, ...]` to `[size · n, ...]`.
    fn all_gather(&self, x: &Tensor) -> Tensor;

    /// The sum of the tensors of all processes.
    fn all_reduce_sum(&self, x: &Tensor) -> Tensor;
}

/// The only process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl Collective for Single {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_gather(&self, x: &Tensor) -> Tensor {
        x.detach()
    }

    fn all_reduce_sum(&self, x: &Tensor) -> Tensor {
        x.detach()
    }
}

/// A rank that is a thread of this process.
pub struct ThreadRank {
    rank: usize,
    group: Arc<ThreadGroup>,
}

struct ThreadGroup {
    barrier: Barrier,
    slots: Mutex<Vec<Option<Tensor>>>,
}

impl ThreadRank {
    /// A group of `size` ranks, each for a thread of its own.
    pub fn group(size: usize) -> Vec<Self> {
        let slots = Mutex::new(vec![None; size]);
        let group = Arc::new(ThreadGroup { barrier: Barrier::new(size), slots });
        (0..size).map(|rank| Self { rank, group: group.clone() }).collect()
    }

    /// What all ranks give, in their order.
    fn exchange(&self, x: &Tensor) -> Vec<Tensor> {
        let slots = || self.group.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots()[self.rank] = Some(x.detach());
        self.group.barrier.wait();
        let all = slots().iter().flatten().cloned().collect();
        // Nobody may put the next tensor before everybody has read this one.
        self.group.barrier.wait();
        all
    }
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.group.slots.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn all_gather(&self, x: &Tensor) -> Tensor {
        let all = self.exchange(x);
        ops::concat(&all.iter().collect::<Vec<_>>(), 0)
    }

    fn all_reduce_sum(&self, x: &Tensor) -> Tensor {
        self.exchange(x).into_iter().reduce(|a, b| ops::add(&a, &b)).unwrap_or_else(|| x.detach())
    }
}

/// [`Collective::all_gather`] through which gradients flow back: each process gets the sum of what all found out about
/// its rows.
pub(crate) fn gather(x: &Tensor, collective: &Arc<dyn Collective>) -> Tensor {
    let (count, owner) = (x.shape()[0], collective.clone());
    let first = collective.rank() * count;
    ops::custom(
        x,
        |x| collective.all_gather(x),
        move |dy| ops::narrow(&owner.all_reduce_sum(&dy), 0, first, count),
    )
}

/// [`Collective::all_gather`] without gradients, except, where `live`, those of the own rows.
pub(crate) fn gather_others(x: &Tensor, live: bool, collective: &Arc<dyn Collective>) -> Tensor {
    let all = collective.all_gather(x);
    if !live {
        return all;
    }
    let (count, total) = (x.shape()[0], all.shape()[0]);
    let (first, end) = (collective.rank() * count, (collective.rank() + 1) * count);
    let (before, after) = (ops::narrow(&all, 0, 0, first), ops::narrow(&all, 0, end, total - end));
    ops::concat(&[&before, x, &after], 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_see_the_same_in_the_same_order() {
        let ranks = ThreadRank::group(3);
        let results: Vec<(Vec<f32>, f32)> = std::thread::scope(|scope| {
            let run = |rank: ThreadRank| {
                scope.spawn(move || {
                    let mut last = (Vec::new(), 0.0);
                    for round in 0..50 {
                        let x = Tensor::full((rank.rank() * 100 + round) as f32, &[1]);
                        last = (rank.all_gather(&x).to_vec(), rank.all_reduce_sum(&x).item());
                    }
                    last
                })
            };
            let threads: Vec<_> = ranks.into_iter().map(run).collect();
            threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
        });
        assert!(results.iter().all(|result| *result == (vec![49.0, 149.0, 249.0], 447.0)), "{results:?}");
    }
}
