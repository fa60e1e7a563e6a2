//! Inputs found ahead of their consumer on another thread, and worked on together by all threads.
//!
//! Working on many at once and then leaving the threads to the consumer keeps each core busy with one thing at a time:
//! threads that work beside the consumer's would take turns with those, which wait for each other.

use std::cmp::Reverse;
use std::mem::take;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use tuwen_kernels::parallel_chunks_mut;

/// What an item is handed to; it breaks once nobody wants more.
pub type Hand<'h, T> = dyn FnMut(T) -> ControlFlow<()> + 'h;

/// How much waits, beside as much that is worked on: items, or what they weigh, whichever comes first.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // the names say it
pub struct Limit {
    pub items: usize,
    pub weight: usize,
}

/// Results of `work` on each item that `produce` hands over on another thread, in the order of the items.
pub fn ahead<'scope, T, R, P, W>(
    scope: &'scope Scope<'scope, '_>,
    limit: Limit,
    produce: P,
    weigh: fn(&T) -> usize,
    work: W,
) -> impl Iterator<Item = R> + use<'scope, T, R, P, W>
where
    T: Send + 'scope,
    R: Send + 'scope,
    P: FnOnce(&mut Hand<'_, T>) + Send + 'scope,
    W: Fn(T) -> R + Sync + 'scope,
{
    let queue = Arc::new(Queue { limit, waiting: Mutex::default(), changed: Condvar::new() });
    let (filled, emptied) = (Closing(queue.clone()), Closing(queue));
    scope.spawn(move || produce(&mut |item| filled.0.put(weigh(&item), item)));
    let mut results = Vec::new().into_iter();
    std::iter::from_fn(move || {
        if results.len() == 0 {
            results = together(emptied.0.take(), &work).into_iter();
        }
        results.next()
    })
}

/// Results of `work` on items, by all threads; the heaviest come first, so that no thread is left with one at the end.
fn together<T: Send, R: Send>(items: Vec<(usize, T)>, work: &(impl Fn(T) -> R + Sync)) -> Vec<R> {
    let mut slots: Vec<_> = items
        .into_iter()
        .enumerate()
        .map(|(number, (weight, item))| (number, weight, Some(item), None))
        .collect();
    slots.sort_by_key(|(_, weight, ..)| Reverse(*weight));
    parallel_chunks_mut(&mut slots, 1, |_, slot| {
        for (_, _, item, result) in slot {
            *result = item.take().map(work);
        }
    });
    slots.sort_by_key(|(number, ..)| *number);
    slots.into_iter().filter_map(|(.., result)| result).collect()
}

/// Items that wait, with their weights.
struct Queue<T> {
    limit: Limit,
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
}

struct Waiting<T> {
    items: Vec<(usize, T)>,
    weight: usize,
    /// Whether one of the two sides is gone.
    closed: bool,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { items: Vec::new(), weight: 0, closed: false }
    }
}

impl<T> Queue<T> {
    /// Adds an item once there is room; breaks where nobody will take it.
    fn put(&self, weight: usize, item: T) -> ControlFlow<()> {
        let mut waiting = self.wait_until(|waiting| waiting.closed || !self.is_full(waiting));
        if waiting.closed {
            return ControlFlow::Break(());
        }
        waiting.items.push((weight, item));
        waiting.weight = waiting.weight.saturating_add(weight);
        self.changed.notify_all();
        ControlFlow::Continue(())
    }

    /// All items, once there are as many as may be or there will be no more.
    fn take(&self) -> Vec<(usize, T)> {
        let mut waiting = self.wait_until(|waiting| waiting.closed || self.is_full(waiting));
        waiting.weight = 0;
        self.changed.notify_all();
        take(&mut waiting.items)
    }

    fn is_full(&self, waiting: &Waiting<T>) -> bool {
        let full = waiting.items.len() >= self.limit.items || waiting.weight >= self.limit.weight;
        full && !waiting.items.is_empty()
    }

    fn wait_until(&self, ready: impl Fn(&Waiting<T>) -> bool) -> MutexGuard<'_, Waiting<T>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.wait_while(waiting, |waiting| !ready(waiting)).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue when one of its sides is done, in whatever way.
struct Closing<T>(Arc<Queue<T>>);

impl<T> Drop for Closing<T> {
    fn drop(&mut self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const LIGHT: fn(&u64) -> usize = |_| 0;

    fn hand_all(items: impl Iterator<Item = u64> + Send) -> impl FnOnce(&mut Hand<'_, u64>) + Send {
        |hand| {
            let mut items = items;
            let _ = items.try_for_each(hand);
        }
    }

    #[test]
    fn the_order_is_kept_whatever_takes_longest() {
        for items in [0, 1, 3, 200] {
            let work = |item: u64| {
                thread::sleep(Duration::from_millis(item % 4));
                item * 2
            };
            let limit = Limit { items, weight: 20 };
            let weigh = |item: &u64| (item % 5) as usize;
            let results: Vec<_> =
                thread::scope(|scope| ahead(scope, limit, hand_all(0..50), weigh, work).collect());
            assert_eq!(results, (0..50).map(|item| item * 2).collect::<Vec<_>>());
        }
        let limit = Limit { items: 2, weight: 1 };
        assert_eq!(thread::scope(|scope| ahead(scope, limit, hand_all(0..0), LIGHT, |_| 0).count()), 0);
    }

    /// What was handed over when three results were taken.
    fn handed(limit: Limit, weigh: fn(&u64) -> usize) -> u64 {
        let handed = AtomicU64::new(0);
        let items = (0..).inspect(|_| {
            handed.fetch_add(1, Ordering::Relaxed);
        });
        let first: Vec<_> =
            thread::scope(|scope| ahead(scope, limit, hand_all(items), weigh, |item| item).take(3).collect());
        assert_eq!(first, [0, 1, 2]);
        handed.into_inner()
    }

    #[test]
    fn a_consumer_may_stop_and_little_was_done_in_vain() {
        // Four that were worked on, four that wait, and the one that is being handed.
        let few = handed(Limit { items: 4, weight: usize::MAX }, LIGHT);
        assert!(few <= 4 + 4 + 1, "{few}");
        // Three turns of one, because one is heavy enough, one that waits, and the one that is being handed.
        let heavy = handed(Limit { items: 100, weight: 10 }, |_| 10);
        assert!(heavy <= 3 + 1 + 1, "{heavy}");
    }
}
