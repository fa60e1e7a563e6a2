//! `cargo xtask fuzz`: libFuzzer over the targets of `fuzz/`, on the toolchain of the project.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Coverage for libFuzzer, which `cargo fuzz` would ask a nightly compiler for.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Named, so that build scripts and procedural macros are not built with those flags.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// A target and what libFuzzer shall know of it.
struct Target {
    name: &'static str,
    /// Longest input in bytes.
    max_len: usize,
    /// Folders below `../shared` with inputs to begin with, and how their names end.
    shared: &'static [(&'static str, &'static [&'static str])],
}

const TARGETS: [Target; 9] = [
    Target {
        name: "checkpoint",
        max_len: 1 << 16,
        shared: &[("fixtures", &[".safetensors", ".pt", ".pth", ".bin", ".index.json"])],
    },
    Target { name: "pickle", max_len: 1 << 14, shared: &[] },
    Target { name: "configuration", max_len: 1 << 13, shared: &[("fixtures", &["config.json"])] },
    Target { name: "dataset", max_len: 1 << 14, shared: &[] },
    Target { name: "model", max_len: 1 << 12, shared: &[] },
    Target {
        name: "image",
        max_len: 1 << 16,
        shared: &[("fixtures/clip-preprocess/images", &[""]), ("data/photos", &[".jpg"])],
    },
    Target { name: "text", max_len: 1 << 10, shared: &[] },
    Target { name: "tokenizer", max_len: 1 << 15, shared: &[] },
    Target { name: "recipe", max_len: 1 << 12, shared: &[] },
];

/// Fuzzes one target, or each in turn, for so many seconds; everything else on the command line is libFuzzer's.
///
/// # Errors
/// Fuzzing does not build, or something was found: libFuzzer says what, and where the input lies.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let place = root.join("fuzz");
    build(&place)?;
    for target in &options.targets {
        fuzz(&place, root, target, options.seconds)?;
    }
    Ok(())
}

struct Options {
    targets: Vec<&'static Target>,
    seconds: u64,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { targets: Vec::new(), seconds: 60 };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--seconds" {
                let number = arguments.next().and_then(|text| text.parse().ok());
                options.seconds = number.ok_or("--seconds takes a number")?;
                continue;
            }
            let known = || TARGETS.map(|target| target.name).join(", ");
            let target = TARGETS.iter().find(|target| target.name == argument);
            options
                .targets
                .push(target.ok_or_else(|| format!("no target {argument:?} (there are {})", known()))?);
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.iter().collect();
        }
        Ok(options)
    }
}

fn build(place: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--target", TRIPLE]).current_dir(place);
    succeed(command.env("RUSTFLAGS", RUSTFLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS"), "cargo build")
}

fn fuzz(place: &Path, root: &Path, target: &Target, seconds: u64) -> Result<(), String> {
    let folder = |kind: &str| {
        let folder = place.join(kind).join(target.name);
        std::fs::create_dir_all(&folder).map(|()| folder).map_err(|error| format!("{kind}: {error}"))
    };
    let (corpus, findings) = (folder("corpus")?, folder("findings")?);
    let mut prefix: OsString = findings.into();
    prefix.push("/");
    let mut artifacts = OsString::from("-artifact_prefix=");
    artifacts.push(prefix);
    let mut command = Command::new(place.join("target").join(TRIPLE).join("release").join(target.name));
    command.arg(artifacts).args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={}", target.max_len),
        "-timeout=10".to_owned(),
        "-rss_limit_mb=2048".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]);
    // New inputs go to the first folder; the others are only read.
    command.arg(corpus).arg(place.join("seeds").join(target.name));
    command.args(shared_seeds(root, target, place)?);
    eprintln!("== {}", target.name);
    succeed(&mut command, target.name)
}

/// A folder of links to the inputs in `../shared` that are not too long.
fn shared_seeds(root: &Path, target: &Target, place: &Path) -> Result<Option<PathBuf>, String> {
    let links = place.join("target/seeds").join(target.name);
    let mut found = Vec::new();
    for (folder, ends) in target.shared {
        find(&root.join("../shared").join(folder), ends, target.max_len, &mut found);
    }
    if found.is_empty() {
        return Ok(None);
    }
    let _ = std::fs::remove_dir_all(&links);
    let copied = std::fs::create_dir_all(&links).and_then(|()| {
        found
            .iter()
            .enumerate()
            .try_for_each(|(i, path)| std::fs::copy(path, links.join(i.to_string())).map(drop))
    });
    copied.map(|()| Some(links)).map_err(|error| format!("seeds of {}: {error}", target.name))
}

fn find(folder: &Path, ends: &[&str], max_len: usize, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let fits = || path.metadata().is_ok_and(|metadata| metadata.len() <= max_len as u64);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            find(&path, ends, max_len, found);
        } else if ends.iter().any(|end| name.ends_with(end)) && fits() {
            found.push(path);
        }
    }
}

fn succeed(command: &mut Command, what: &str) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what}: {status}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_seconds_are_read() {
        let parse = |words: &str| Options::parse(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let options = parse("image --seconds 5").expect("valid");
        assert_eq!((options.targets.len(), options.targets[0].name, options.seconds), (1, "image", 5));
        assert_eq!(parse("--seconds 5").expect("valid").targets.len(), TARGETS.len());
        assert!(parse("imago").is_err_and(|message| message.contains("checkpoint, pickle")));
        assert!(parse("--seconds many").is_err());
    }
}
