//! The machine that figures belong to, as Linux describes it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// Flags of a CPU that decide how fast products are, on x86-64 and on ARM.
const FLAGS: [&str; 15] = [
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
];

/// What decides speed.
pub struct Machine {
    /// Day of the run, as in 2026-11-26.
    pub date: String,
    /// Name of the CPU.
    pub cpu: String,
    flags: Vec<&'static str>,
    cores: usize,
    threads: usize,
    memory: Option<u64>,
    /// What else ran in the minute before, in cores.
    load: Option<String>,
}

impl Machine {
    /// Looks at this one.
    pub fn look(threads: usize) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (cpu, flags) = cpu(&read("/proc/cpuinfo"));
        Self {
            date: date(),
            cpu,
            flags,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads,
            memory: kilobytes(&read("/proc/meminfo"), "MemTotal"),
            load: read("/proc/loadavg").split(' ').next().filter(|load| !load.is_empty()).map(str::to_owned),
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        let Self { cpu, cores, threads, flags, .. } = self;
        let memory = self.memory.map(|bytes| format!(", {:.0} GB of memory", bytes as f64 / 1e9));
        let load = self.load.as_ref().map(|load| format!(", load before the run {load}"));
        format!(
            "{cpu}, {cores} cores ({}){}, {threads} threads{}",
            flags.join(" "),
            memory.unwrap_or_default(),
            load.unwrap_or_default()
        )
    }

    /// For the file of lines.
    pub fn json(&self) -> Value {
        let Self { date, cpu, flags, cores, threads, memory, load } = self;
        json!({"date": date, "cpu": cpu, "flags": flags, "cores": cores, "threads": threads, "memory": memory, "load": load})
    }
}

/// The name and the flags that matter.
fn cpu(cpuinfo: &str) -> (String, Vec<&'static str>) {
    let field = |names: &[&str]| {
        let of_line = |line: &str| {
            let (name, value) = line.split_once(':')?;
            names.contains(&name.trim()).then(|| value.trim().to_owned())
        };
        cpuinfo.lines().find_map(of_line)
    };
    let name = field(&["model name"]).unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let all = field(&["flags", "Features"]).unwrap_or_default();
    let flags = FLAGS.into_iter().filter(|flag| all.split(' ').any(|word| word == *flag)).collect();
    (name, flags)
}

/// A value of `/proc/meminfo`, in bytes.
fn kilobytes(meminfo: &str, name: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Today, by the clock of the world; `undated` where no program tells.
fn date() -> String {
    let told = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    let date =
        told.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if date.is_empty() { "undated".to_owned() } else { date }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_files() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx512f amx_tile_x\n";
        assert_eq!(cpu(text), ("Some CPU @ 2 GHz".to_owned(), vec!["avx2", "avx512f"]));
        assert_eq!(cpu("").0, std::env::consts::ARCH);
        assert_eq!(kilobytes("MemTotal:       2048 kB\nMemFree: 1 kB\n", "MemTotal"), Some(2 << 20));
        assert_eq!(kilobytes("", "MemTotal"), None);
    }
}
