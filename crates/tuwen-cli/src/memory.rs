//! How much memory this process may still take: what the system has, and what a control group (a container, a job of a
//! scheduler) leaves of it. Linux only; elsewhere it is not known.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that may still be taken; `None` where nothing says so.
pub fn available() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits =
        directories(&groups, Path::new("/sys/fs/cgroup")).into_iter().filter_map(|group| left(&group));
    system.into_iter().chain(limits).min()
}

/// `MemAvailable` of `/proc/meminfo`, which is in KiB.
fn mem_available(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The directories of the memory groups that this process is in, from `/proc/self/cgroup`: a limit of any of them counts.
/// In a container the innermost one may be the root of what is mounted.
fn directories(groups: &str, mounted: &Path) -> Vec<PathBuf> {
    let group = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let root = match controllers {
            "" => mounted.to_owned(),
            _ if controllers.split(',').any(|controller| controller == "memory") => mounted.join("memory"),
            _ => return None,
        };
        let innermost = root.join(path.trim_start_matches('/'));
        Some(innermost.ancestors().take_while(|group| group.starts_with(&root)).map(Path::to_owned).collect())
    };
    groups.lines().filter_map(group).collect::<Vec<Vec<PathBuf>>>().concat()
}

/// What a group's limit leaves; pages of files that the kernel would give up are no use of it. Both versions of cgroups.
fn left(group: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes")).unwrap_or(0);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let counter = |name: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    let reclaimable = counter("total_inactive_file").or_else(|| counter("inactive_file")).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_it_has() {
        let text = "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(mem_available(text), Some(2 << 20));
        assert_eq!(mem_available("MemTotal: 1 kB"), None);
        assert_eq!(mem_available("MemAvailable: much"), None);
    }

    #[test]
    fn groups_of_both_versions_are_found() {
        let paths = |text: &str| -> Vec<String> {
            let found = directories(text, Path::new("/cg"));
            found.iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(paths("0::/user/job\n"), ["/cg/user/job", "/cg/user", "/cg"]);
        assert_eq!(paths("0::/\n"), ["/cg/"]);
        assert_eq!(
            paths("5:cpu,cpuacct:/x\n3:memory:/docker/a\n"),
            ["/cg/memory/docker/a", "/cg/memory/docker", "/cg/memory"]
        );
        assert!(paths("nonsense").is_empty());
    }

    #[test]
    fn a_limit_leaves_what_is_not_used() {
        let group = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| fs::write(group.path().join(name), text).expect("written");
        assert_eq!(left(group.path()), None);
        write("memory.max", "max\n");
        assert_eq!(left(group.path()), None, "no limit");
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        assert_eq!(left(group.path()), Some(300));
        write("memory.stat", "anon 400\ninactive_file 200\n");
        assert_eq!(left(group.path()), Some(500));
        write("memory.current", "5000\n");
        assert_eq!(left(group.path()), Some(0));
    }
}
