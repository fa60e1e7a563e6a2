//! A persistent pool of threads that share a counter of tasks.
//!
//! Workers spin for a moment between jobs, because kernels follow each other within microseconds, and then park. A
//! worker that is late does not hold a job up: the caller closes the job when no task is left and waits only for
//! workers that joined.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};

/// How often a worker looks for a job before it parks: about a tenth of a millisecond.
const SPINS_BEFORE_PARKING: u32 = 8000;
/// How often the caller looks whether the workers are done before it yields its core.
const SPINS_BEFORE_YIELDING: u32 = 2000;

/// Chunks of element-wise work are this many elements: large enough to pay for the hand-over, small enough for a cache.
pub(crate) const CHUNK: usize = 16 << 10;

/// Multiply-adds that are worth a hand-over, which takes half a microsecond to a worker that spins and some more to one
/// that sleeps (`examples/hand_over.rs`). A core does this many in 2 µs, or in 5 where each needs a number from memory.
pub(crate) const WORTH_SHARING: usize = 128 << 10;

#[derive(Clone, Copy)]
struct Job {
    tasks: usize,
    run: *const (dyn Fn(usize) + Sync),
}

/// State shared by the caller and the workers.
struct Pool {
    /// Number of the job, whether it is open for joining, and how many workers have joined: see [`OPEN`].
    gate: AtomicU64,
    /// Written only by the owner of `callers` while the gate is closed and nobody has joined.
    job: UnsafeCell<Option<Job>>,
    next_task: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Held for the length of a job; the workers started so far.
    callers: Mutex<Vec<Worker>>,
}

struct Worker {
    thread: Thread,
    parked: &'static AtomicBool,
}

/// Bit of the gate that is set while workers may join; the bits below count them, those above number the job.
const OPEN: u64 = 1 << 16;
const JOB_NUMBER: u64 = OPEN << 1;
const JOINED: u64 = OPEN - 1;

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written under the `callers` lock while no worker
// has joined, and read only by workers that joined through the gate, whose atomics order the accesses.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool {
    gate: AtomicU64::new(0),
    job: UnsafeCell::new(None),
    next_task: AtomicUsize::new(0),
    panic: Mutex::new(None),
    callers: Mutex::new(Vec::new()),
};

/// Zero until set or first asked for.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Number of threads that a kernel may use, the caller included. As many as there are cores unless set; one within a
/// task.
pub fn threads() -> usize {
    if IN_TASK.get() {
        return 1;
    }
    static CORES: OnceLock<usize> = OnceLock::new();
    match THREADS.load(Ordering::Relaxed) {
        0 => *CORES.get_or_init(|| thread::available_parallelism().map_or(1, |n| n.get())),
        n => n,
    }
}

/// Sets the number of threads for later calls; 0 goes back to the number of cores. Results may differ in the last
/// bits between different numbers.
pub fn set_threads(count: usize) {
    THREADS.store(count.min(JOINED as usize), Ordering::Relaxed);
}

/// Runs `f(0)` to `f(tasks - 1)`, each once, on the pool and the calling thread, in any order.
///
/// A call from within a task, or while another thread uses the pool, runs all tasks on the caller. A panic in a
/// task reaches the caller once every task that had begun has ended.
pub fn parallel_for(tasks: usize, f: impl Fn(usize) + Sync) {
    let workers = threads().min(tasks).saturating_sub(1);
    if workers == 0 {
        return (0..tasks).for_each(f);
    }
    match POOL.callers.try_lock() {
        Ok(started) => POOL.run(started, workers, tasks, &f),
        Err(std::sync::TryLockError::Poisoned(started)) => POOL.run(started.into_inner(), workers, tasks, &f),
        Err(std::sync::TryLockError::WouldBlock) => (0..tasks).for_each(f),
    }
}

/// [`parallel_for`] for kernels whose number of tasks says little of how much there is to do: on the calling thread
/// alone if all tasks together are fewer than `enough` units of `work`.
pub(crate) fn parallel_for_work(tasks: usize, work: usize, enough: usize, f: impl Fn(usize) + Sync) {
    if work < enough { (0..tasks).for_each(f) } else { parallel_for(tasks, f) }
}

/// Cuts `data` into pieces of `chunk` elements (the last may be shorter) and runs `f(index, piece)` on each in
/// parallel.
pub fn parallel_chunks_mut<T: Send>(data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    assert!(chunk > 0, "parallel_chunks_mut: chunks of no elements");
    let len = data.len();
    let start = SendPtr(data.as_mut_ptr());
    parallel_for(len.div_ceil(chunk), |i| {
        let (from, to) = (i * chunk, len.min((i + 1) * chunk));
        // SAFETY: the pieces of different tasks do not overlap and lie within `data`, which is borrowed until the end.
        f(i, unsafe { std::slice::from_raw_parts_mut(start.get().add(from), to - from) });
    });
}

/// A pointer that tasks on several threads may hold; they must use it for disjoint elements.
#[derive(Clone, Copy)]
pub(crate) struct SendPtr<T>(pub(crate) *mut T);

// SAFETY: this only lets the pointer travel; each use has to justify itself.
unsafe impl<T> Send for SendPtr<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for SendPtr<T> {}

impl<T> SendPtr<T> {
    /// The pointer. A method, so that closures capture the wrapper and not the field.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }

    /// `len` elements from `start`.
    ///
    /// # Safety
    /// They lie in the allocation and no other task touches them while the slice lives.
    #[allow(clippy::mut_from_ref)] // the caller promises that slices do not overlap
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

impl Pool {
    fn run(
        &'static self,
        mut started: MutexGuard<'static, Vec<Worker>>,
        workers: usize,
        tasks: usize,
        f: &(dyn Fn(usize) + Sync),
    ) {
        while started.len() < workers {
            let index = started.len();
            match self.start_worker(index) {
                Some(worker) => started.push(worker),
                None => break, // no more threads to be had: those that there are do the work
            }
        }
        let run: *const (dyn Fn(usize) + Sync + '_) = f;
        // SAFETY: only the lifetime changes. Nobody uses the pointer after this function: a worker uses it between
        // joining and leaving, joining ends with `close`, and `close` waits until all have left.
        let run: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(run) };
        // SAFETY: the previous job is closed and left, so no worker reads.
        unsafe { *self.job.get() = Some(Job { tasks, run }) };
        self.next_task.store(0, Ordering::Relaxed);
        self.gate.fetch_add(JOB_NUMBER + OPEN, Ordering::SeqCst);
        for worker in started.iter().take(workers) {
            if worker.parked.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        self.work(tasks, f);
        self.close();
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(started);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Takes tasks until none is left. A panic is kept for the caller, and ends the job early.
    fn work(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        IN_TASK.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next_task.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                f(task);
            }
        }));
        IN_TASK.set(false);
        if let Err(payload) = result {
            self.next_task.store(tasks, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        }
    }

    /// Lets no more workers join and waits for those that did.
    fn close(&self) {
        let mut spins = 0;
        let mut gate = self.gate.fetch_and(!OPEN, Ordering::SeqCst);
        while gate & JOINED != 0 {
            spins += 1;
            if spins > SPINS_BEFORE_YIELDING {
                thread::yield_now()
            } else {
                spin_loop()
            }
            gate = self.gate.load(Ordering::Acquire);
        }
    }

    fn start_worker(&'static self, index: usize) -> Option<Worker> {
        let parked: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let name = format!("tuwen-kernels-{}", index + 1);
        let handle = thread::Builder::new().name(name).spawn(move || self.serve(index, parked)).ok()?;
        Some(Worker { thread: handle.thread().clone(), parked })
    }

    /// The life of a worker.
    fn serve(&self, index: usize, parked: &AtomicBool) {
        let mut last_job = 0;
        let mut spins = 0;
        loop {
            let gate = self.gate.load(Ordering::Acquire);
            let fresh =
                |gate: u64| gate & OPEN != 0 && gate / JOB_NUMBER != last_job && index + 1 < threads();
            if !fresh(gate) {
                spins += 1;
                if spins < SPINS_BEFORE_PARKING {
                    spin_loop();
                } else {
                    parked.store(true, Ordering::SeqCst);
                    if !fresh(self.gate.load(Ordering::SeqCst)) {
                        thread::park();
                    }
                    parked.store(false, Ordering::SeqCst);
                    spins = 0;
                }
                continue;
            }
            if self.gate.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            // SAFETY: this worker has joined, so the caller neither writes the job nor returns before it leaves.
            unsafe {
                if let Some(job) = *self.job.get() {
                    self.work(job.tasks, &*job.run);
                }
            }
            last_job = gate / JOB_NUMBER;
            self.gate.fetch_sub(1, Ordering::Release);
            spins = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_from_several_callers_at_once() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for tasks in [0, 1, 2, 3, 63, 257, 1000] {
                        let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                        for _ in 0..50 {
                            parallel_for(tasks, |i| {
                                counts[i].fetch_add(1, Ordering::Relaxed);
                            });
                        }
                        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 50));
                    }
                });
            }
        });
    }

    #[test]
    fn nested_calls_run_on_the_caller() {
        let total = AtomicUsize::new(0);
        parallel_for(8, |_| {
            let here = thread::current().id();
            parallel_for(8, |_| {
                assert_eq!(thread::current().id(), here);
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 64);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        for bad in [0, 5, 99] {
            let caught = catch_unwind(|| parallel_for(100, |i| assert!(i != bad, "task {i} fails")));
            let message = caught.expect_err("the panic was lost");
            assert_eq!(message.downcast_ref::<String>(), Some(&format!("task {bad} fails")));
        }
        let sum = AtomicUsize::new(0);
        parallel_for(100, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4950);
    }

    #[test]
    fn small_work_stays_on_the_caller() {
        let here = thread::current().id();
        for tasks in [0, 1, 2, 1000] {
            let done = AtomicUsize::new(0);
            parallel_for_work(tasks, WORTH_SHARING - 1, WORTH_SHARING, |_| {
                assert_eq!(thread::current().id(), here);
                done.fetch_add(1, Ordering::Relaxed);
            });
            parallel_for_work(tasks, WORTH_SHARING, WORTH_SHARING, |_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 2 * tasks);
        }
    }

    #[test]
    fn chunks_cover_the_slice() {
        for len in [0, 1, 63, 64, 65, 257] {
            let mut data = vec![0usize; len];
            parallel_chunks_mut(&mut data, 64, |i, piece| {
                piece.iter_mut().enumerate().for_each(|(j, v)| *v = i * 64 + j + 1);
            });
            assert!(data.iter().enumerate().all(|(i, &v)| v == i + 1));
        }
    }
}
