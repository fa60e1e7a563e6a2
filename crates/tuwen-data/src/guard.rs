//! A fence around code of others that panics where it should fail.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Runs `f`; a panic in it is an error that says what the panic said.
///
/// # Errors
/// `f` panicked.
pub(crate) fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _leave = Leave;
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| message(panic.as_ref()))
}

/// Whether a panic on this thread would be caught and reported as an error: a panic hook need not speak of it.
pub fn is_guarded() -> bool {
    DEPTH.get() > 0
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_text() {
        let seen = |f: fn() -> usize| guarded(|| (is_guarded(), f()));
        assert_eq!(seen(|| 5), Ok((true, 5)));
        let empty: Vec<usize> = Vec::new();
        assert!(guarded(|| empty[3]).expect_err("a panic").contains("index is 3"));
        assert!(!is_guarded());
    }
}
