//! Interrupts that let work come to a good end.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

use crate::failure::Failure;

/// A flag that an interrupt raises; a second one ends the program at once.
///
/// # Errors
/// A system that does not let it listen.
pub fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    let handler = move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        // If stderr is gone, nobody can be told.
        let _ = writeln!(
            std::io::stderr(),
            "stopping as soon as nothing is lost; interrupt again to stop at once"
        );
    };
    ctrlc::set_handler(handler).context("cannot listen to interrupts")?;
    Ok(stop)
}
