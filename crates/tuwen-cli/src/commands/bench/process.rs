//! Memory of processes at its height, as Linux tells it; elsewhere it is not known.

use std::fs;

/// Bytes of memory that this process had at most since [`forget_peak_memory`].
pub fn peak_memory() -> Option<u64> {
    peak_memory_of("self")
}

/// The same of another process, while it runs.
pub fn peak_memory_of(process: &str) -> Option<u64> {
    high_water_mark(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
}

/// `VmHWM` of `/proc/PID/status`, which is in KiB.
fn high_water_mark(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Lets the height of this process begin anew at what it has now (`man 5 proc`, `clear_refs`).
pub fn forget_peak_memory() {
    // Where that is not possible the height includes what came before.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_height_is_read_from_the_status() {
        assert_eq!(high_water_mark("Name:\ttuwen\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(high_water_mark("VmRSS:\t 1 kB\n"), None);
        assert_eq!(high_water_mark("VmHWM:\t much\n"), None);
    }
}
