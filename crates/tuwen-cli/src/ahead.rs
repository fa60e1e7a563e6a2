//! Work done on other threads ahead of its consumer, in order.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

/// Results of `work` on each item, in the order of the items. Each thread is at most `depth` results ahead.
pub fn ahead<'scope, T, R, W>(
    scope: &'scope Scope<'scope, '_>,
    items: &'scope [T],
    threads: usize,
    depth: usize,
    work: W,
) -> impl Iterator<Item = R> + use<'scope, T, R, W>
where
    T: Sync,
    R: Send + 'scope,
    W: Fn(&T) -> R + Copy + Send + 'scope,
{
    let threads = threads.clamp(1, items.len().max(1));
    // Thread i takes the items i, i + threads, ...: asking the threads in turn gives the order back.
    let start = |first: usize| -> Receiver<R> {
        let (sender, receiver) = sync_channel(depth);
        scope.spawn(move || {
            let mut results = items.iter().skip(first).step_by(threads).map(work);
            // The consumer may stop early; then there is nobody to send to.
            let _ = results.try_for_each(|result| sender.send(result));
        });
        receiver
    };
    let receivers: Vec<_> = (0..threads).map(start).collect();
    (0..items.len()).map_while(move |i| receivers[i % threads].recv().ok())
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_order_is_kept_whatever_takes_longest() {
        let items: Vec<u64> = (0..50).collect();
        for threads in [0, 1, 3, 200] {
            let work = |&item: &u64| {
                thread::sleep(Duration::from_millis(item % 4));
                item * 2
            };
            let results: Vec<_> = thread::scope(|scope| ahead(scope, &items, threads, 2, work).collect());
            assert_eq!(results, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
        assert_eq!(thread::scope(|scope| ahead(scope, &[] as &[u8], 2, 2, |_| 0).count()), 0);
    }

    #[test]
    fn a_consumer_may_stop() {
        let items = [1; 1000];
        let first: Vec<_> = thread::scope(|scope| ahead(scope, &items, 2, 1, |&i| i).take(3).collect());
        assert_eq!(first, [1; 3]);
    }
}
