//! Work done on other threads ahead of its consumer, in order.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// What an item is handed to; it breaks once nobody wants more.
pub type Hand<'h, T> = dyn FnMut(T) -> ControlFlow<()> + 'h;

/// Results of `work` on each item that `produce` hands over, in the order of the items. Both run on other threads; for
/// each of the `threads` that work, at most `depth` items wait before it and `depth` results behind it.
pub fn ahead<'scope, T, R, P, W>(
    scope: &'scope Scope<'scope, '_>,
    threads: usize,
    depth: usize,
    produce: P,
    work: W,
) -> impl Iterator<Item = R> + use<'scope, T, R, P, W>
where
    T: Send + 'scope,
    R: Send + 'scope,
    P: FnOnce(&mut Hand<'_, T>) + Send + 'scope,
    W: Fn(T) -> R + Copy + Send + 'scope,
{
    let start = |_| -> (SyncSender<T>, Receiver<R>) {
        let (item_sender, items) = sync_channel::<T>(depth);
        let (result_sender, results) = sync_channel(depth);
        scope.spawn(move || {
            // The consumer may stop early; then there is nobody to send to.
            let _ = items.iter().map(work).try_for_each(|result| result_sender.send(result));
        });
        (item_sender, results)
    };
    // Items go to the threads in turn, so that asking the threads in turn gives the order back.
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads.max(1)).map(start).unzip();
    scope.spawn(move || {
        let mut turn = senders.iter().cycle();
        produce(&mut |item| match turn.next().map(|sender| sender.send(item)) {
            Some(Ok(())) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
    });
    let mut turn = 0;
    std::iter::from_fn(move || {
        let result = receivers[turn].recv().ok();
        turn = (turn + 1) % receivers.len();
        result
    })
    .fuse()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn hand_all(items: impl Iterator<Item = u64> + Send) -> impl FnOnce(&mut Hand<'_, u64>) + Send {
        |hand| {
            let mut items = items;
            let _ = items.try_for_each(hand);
        }
    }

    #[test]
    fn the_order_is_kept_whatever_takes_longest() {
        for threads in [0, 1, 3, 200] {
            let work = |item: u64| {
                thread::sleep(Duration::from_millis(item % 4));
                item * 2
            };
            let results: Vec<_> =
                thread::scope(|scope| ahead(scope, threads, 2, hand_all(0..50), work).collect());
            assert_eq!(results, (0..50).map(|item| item * 2).collect::<Vec<_>>());
        }
        assert_eq!(thread::scope(|scope| ahead(scope, 2, 2, hand_all(0..0), |_| 0).count()), 0);
    }

    #[test]
    fn a_consumer_may_stop_and_little_was_done_in_vain() {
        let handed = AtomicU64::new(0);
        let items = (0..).inspect(|_| {
            handed.fetch_add(1, Ordering::Relaxed);
        });
        let first: Vec<_> =
            thread::scope(|scope| ahead(scope, 2, 1, hand_all(items), |item| item).take(3).collect());
        assert_eq!(first, [0, 1, 2]);
        // Two threads with one item before, in and behind each, the item that is being handed, and what was taken.
        assert!(handed.load(Ordering::Relaxed) <= 3 + 2 * 3 + 2, "{handed:?}");
    }
}
