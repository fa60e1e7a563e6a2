//! Batches in order from background threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Batch;
use super::prepare::{Shared, lock};
use crate::dataset::DataError;

/// Batches in order, prepared ahead. Dropping it ends its threads.
pub struct Batches {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    /// Numbers of batches run through all epochs.
    next: u64,
    end: u64,
}

/// Where threads hand over finished batches.
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    ready: BTreeMap<u64, Result<Batch, DataError>>,
    /// The next batch that a thread takes up.
    next: u64,
    /// No batch from here on is begun yet.
    limit: u64,
    stopped: bool,
}

impl Batches {
    pub(super) fn new(shared: Arc<Shared>, epoch: u64, first: u64, end: u64) -> Self {
        let threads = shared.options.threads;
        let ahead = shared.options.prefetch.max(threads) as u64;
        let next = epoch.saturating_mul(shared.batches_per_epoch()).saturating_add(first).min(end);
        let limit = next.saturating_add(ahead).min(end);
        let state = QueueState { ready: BTreeMap::new(), next, limit, stopped: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() });
        let worker = |_| {
            let (shared, queue) = (shared.clone(), queue.clone());
            std::thread::Builder::new().name("loader".into()).spawn(move || queue.work(&shared)).ok()
        };
        // Where no thread can be had, batches are made when asked for.
        let workers = (0..threads).filter_map(worker).collect();
        Self { shared, queue, workers, next, end }
    }
}

impl Queue {
    /// Prepares batches until told to stop.
    fn work(&self, shared: &Shared) {
        let mut state = lock(&self.state);
        while !state.stopped {
            if state.next == state.limit {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let number = state.next;
            state.next += 1;
            drop(state);
            let (epoch, index) = (number / shared.batches_per_epoch(), number % shared.batches_per_epoch());
            let batch = catch_unwind(AssertUnwindSafe(|| shared.batch(epoch, index)))
                .unwrap_or(Err(DataError::Panicked { epoch, index }));
            state = lock(&self.state);
            state.ready.insert(number, batch);
            self.changed.notify_all();
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        let number = self.next;
        self.next += 1;
        if self.workers.is_empty() {
            let count = self.shared.batches_per_epoch();
            return Some(self.shared.batch(number / count, number % count));
        }
        let mut state = lock(&self.queue.state);
        loop {
            if let Some(batch) = state.ready.remove(&number) {
                state.limit = state.limit.saturating_add(1).min(self.end);
                self.queue.changed.notify_all();
                return Some(batch);
            }
            state = self.queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        lock(&self.queue.state).stopped = true;
        self.queue.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A panic in it has been reported where its batch was asked for.
            let _ = worker.join();
        }
    }
}
