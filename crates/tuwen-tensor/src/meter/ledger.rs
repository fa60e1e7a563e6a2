//! What the buffers and operations of this thread take.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Precision;
use crate::pool::{Idle, size_class};

const FLOAT: u64 = size_of::<f32>() as u64;

/// What one module takes; memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations.
    pub flops: u64,
    /// Memory that all modules together held when this one held the most, above what was there at the beginning.
    pub peak: u64,
    /// Memory still held at the end by what this module made: what a backward pass needs.
    pub held: u64,
    /// Keys and values that its attention saw.
    pub keys_values: u64,
}

/// What a computation takes; memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measurement {
    /// Operations.
    pub flops: u64,
    /// Memory of buffers at its height, above what was held at the beginning.
    pub peak: u64,
    /// Memory of buffers that is held at the end, above what was at the beginning.
    pub held: u64,
    /// Memory of packed weights at its height.
    pub packed: u64,
    /// Memory of the process at its height: buffers and packed weights, and what the pool of idle buffers keeps.
    pub footprint: u64,
    /// Modules by path; what belongs to none is under the empty path.
    pub modules: BTreeMap<Arc<str>, Tally>,
}

/// Runs a computation on shapes and tells what it takes. What it returns counts as held at the end.
///
/// Not to be nested: the inner one would begin the outer one anew.
pub fn measure<T>(run: impl FnOnce() -> T) -> (T, Measurement) {
    with(Ledger::begin);
    let result = run();
    let measurement = with(|ledger| ledger.measurement());
    (result, measurement.unwrap_or_default())
}

/// The accounts of a thread, in floats.
pub(super) struct Ledger {
    /// In buffers, and how much of it is older than the measurement.
    live: u64,
    before: u64,
    peak: u64,
    packed: u64,
    packed_peak: u64,
    /// In blocks of the pool that buffers hold, and in those that are idle.
    blocks: u64,
    idle: Idle<()>,
    footprint: u64,
    flops: u64,
    modules: BTreeMap<Arc<str>, Account>,
}

#[derive(Default)]
struct Account {
    flops: u64,
    peak: u64,
    /// Buffers from before the measurement may go in it.
    held: i64,
    keys_values: u64,
}

thread_local! {
    static LEDGER: RefCell<Ledger> = const { RefCell::new(Ledger::new()) };
}

/// Nothing if the thread is ending: its last buffers go unaccounted.
fn with<T>(f: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
    LEDGER.try_with(|ledger| f(&mut ledger.borrow_mut())).ok()
}

impl Ledger {
    const fn new() -> Self {
        Self {
            live: 0,
            before: 0,
            peak: 0,
            packed: 0,
            packed_peak: 0,
            blocks: 0,
            idle: Idle::new(),
            footprint: 0,
            flops: 0,
            modules: BTreeMap::new(),
        }
    }

    fn begin(&mut self) {
        (self.before, self.peak, self.flops) = (self.live, self.live, 0);
        (self.packed_peak, self.idle) = (self.packed, Idle::new());
        self.modules.clear();
        self.footprint = 0;
        self.note_footprint();
    }

    fn note_footprint(&mut self) {
        self.footprint = self.footprint.max(self.blocks + self.idle.floats() as u64 + self.packed);
    }

    fn account(&mut self, module: &Arc<str>) -> &mut Account {
        if !self.modules.contains_key(module) {
            self.modules.insert(module.clone(), Account::default());
        }
        self.modules.get_mut(module).expect("just made")
    }

    fn measurement(&self) -> Measurement {
        let before = self.before;
        let tally = |account: &Account| Tally {
            flops: account.flops,
            peak: account.peak.saturating_sub(before) * FLOAT,
            held: account.held.max(0) as u64 * FLOAT,
            keys_values: account.keys_values * FLOAT,
        };
        Measurement {
            flops: self.flops,
            peak: (self.peak - before) * FLOAT,
            held: self.live.saturating_sub(before) * FLOAT,
            packed: self.packed_peak * FLOAT,
            footprint: self.footprint * FLOAT,
            modules: self.modules.iter().map(|(path, account)| (path.clone(), tally(account))).collect(),
        }
    }
}

/// Notes operations of a module, and the keys and values that they attend to.
pub(super) fn compute(module: &Arc<str>, flops: u64, keys_values: usize) {
    with(|ledger| {
        ledger.flops += flops;
        let account = ledger.account(module);
        account.flops += flops;
        account.keys_values += keys_values as u64;
    });
}

/// A buffer without memory; the ledger knows of it while it lives.
pub(super) struct Held {
    pub(super) module: Arc<str>,
    len: usize,
    /// Length of its block.
    block: usize,
}

impl Held {
    pub(super) fn new(module: Arc<str>, len: usize) -> Self {
        let class = size_class(len);
        let block = with(|ledger| {
            let block = ledger.idle.take(class).map_or(class, |(block, ())| block);
            ledger.blocks += block as u64;
            ledger.note_footprint();
            ledger.live += len as u64;
            ledger.peak = ledger.peak.max(ledger.live);
            let live = ledger.live;
            let account = ledger.account(&module);
            account.peak = account.peak.max(live);
            account.held += len as i64;
            block
        });
        Self { module, len, block: block.unwrap_or(class) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        with(|ledger| {
            ledger.live -= self.len as u64;
            ledger.blocks -= self.block as u64;
            ledger.idle.give(self.block, ());
            ledger.account(&self.module).held -= self.len as i64;
        });
    }
}

/// A packed weight without memory.
pub(super) struct HeldPacked {
    pub(super) module: Arc<str>,
    /// Floats.
    len: u64,
    /// Rows and columns of the right operand.
    pub(super) depth: usize,
    pub(super) columns: usize,
    pub(super) precision: Precision,
}

impl HeldPacked {
    pub(super) fn new(module: Arc<str>, [depth, columns]: [usize; 2], precision: Precision) -> Self {
        /// Columns are stored in panels that are filled up to this.
        const NARROW: usize = 16;
        let bytes = depth * columns.next_multiple_of(NARROW) * precision.weight_bytes();
        let len = bytes as u64 / FLOAT;
        with(|ledger| {
            ledger.packed += len;
            ledger.packed_peak = ledger.packed_peak.max(ledger.packed);
            ledger.note_footprint();
        });
        Self { module, len, depth, columns, precision }
    }
}

impl Drop for HeldPacked {
    fn drop(&mut self) {
        with(|ledger| ledger.packed -= self.len);
    }
}
