//! What code may not say: `unsafe` without reason or out of place, network, and what a library leaves to its caller.

use super::source::{Line, Source};
use super::tree::Tree;
use super::{Breach, dependencies, has_word};

/// Where memory is mapped, the one place outside the kernels.
const MAPPING: &str = "crates/tuwen-tensor/src/checkpoint/file.rs";

/// Where a network may be used: the server, the download of models on request, and the store and the hub that tests talk
/// to on this machine.
const NETWORK: [&str; 5] = [
    "crates/tuwen-server/",
    "crates/tuwen/src/hub.rs",
    "crates/tuwen/src/hub/",
    "crates/tuwen-data/tests/store/",
    "crates/tuwen-cli/tests/pull.rs",
];

/// Crates that are no libraries: they may print, and read the environment.
const PROGRAMS: [&str; 1] = ["tuwen-cli"];

const PRINTING: [&str; 5] = ["print!", "println!", "eprint!", "eprintln!", "dbg!"];

pub fn check(tree: &Tree) -> Vec<Breach> {
    tree.sources
        .iter()
        .flat_map(|source| [unsafe_code(source), network(source), library(source)])
        .flatten()
        .collect()
}

fn unsafe_code(source: &Source) -> Vec<Breach> {
    let allowed = source.path.starts_with("crates/tuwen-kernels/") || source.path == MAPPING;
    let mut breaches = Vec::new();
    for (number, line) in source.numbered().filter(|(_, line)| has_word(&line.code, "unsafe", false)) {
        if !allowed {
            let what = format!("`unsafe` outside tuwen-kernels and {MAPPING}");
            breaches.push(Breach::new(&source.path, number, what));
        } else if needs_reason(&line.code) && !has_reason(&source.lines[..number]) {
            breaches.push(Breach::new(
                &source.path,
                number,
                "`unsafe` without a `// SAFETY:` reason above it",
            ));
        }
    }
    breaches
}

/// Blocks and implementations; the contract of a function stands in its documentation.
fn needs_reason(code: &str) -> bool {
    code.split("unsafe").skip(1).any(|rest| rest.trim_start().starts_with(['{', 'i']))
}

/// Whether the last line, or the comment above the statement it is part of, gives a reason.
fn has_reason(lines: &[Line]) -> bool {
    let given = |line: &Line| line.comment.contains("SAFETY:");
    let Some((last, above)) = lines.split_last() else { return false };
    let mut above = above.iter().rev().peekable();
    while above
        .next_if(|line| !line.code.trim().is_empty() && !line.code.trim_end().ends_with([';', '{', '}']))
        .is_some()
    {}
    given(last) || above.take_while(|line| line.code.trim().is_empty() && !line.comment.is_empty()).any(given)
}

fn network(source: &Source) -> Vec<Breach> {
    if NETWORK.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    let words = ["std::net", "TcpStream", "TcpListener", "UdpSocket"].into_iter().map(str::to_owned);
    let crates = dependencies::NETWORK
        .iter()
        .filter(|name| dependencies::may_use(source.crate_name(), name).is_none());
    let words: Vec<String> =
        words.chain(crates.map(|name| format!("{}::", name.replace('-', "_")))).collect();
    let used = |line: &Line| words.iter().find(|word| has_prefix(&line.code, word)).cloned();
    let said =
        |word: String| format!("`{word}`: the network is for tuwen-server and the hub module of tuwen");
    let breach = |(number, line)| Some(Breach::new(&source.path, number, said(used(line)?)));
    source.numbered().filter_map(breach).collect()
}

/// `word` where no longer name ends in it.
fn has_prefix(code: &str, word: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(start, _)| !code[..start].chars().next_back().is_some_and(of_name))
}

fn library(source: &Source) -> Vec<Breach> {
    let is_library = source.crate_name().is_some_and(|name| !PROGRAMS.contains(&name));
    if !is_library || source.is_apart() {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for (number, line) in source.numbered().filter(|(_, line)| !line.in_test) {
        let mut breach = |what: String| breaches.push(Breach::new(&source.path, number, what));
        if line.code.contains(".unwrap()") {
            breach(
                "`.unwrap()` in a library: return an error, or say in `.expect()` why it cannot be"
                    .to_owned(),
            );
        }
        if let Some(name) = PRINTING.iter().find(|name| has_prefix(&line.code, name)) {
            breach(format!("`{name}` in a library: what to say is the program's matter"));
        }
        if has_prefix(&line.code, "env::var") {
            breach("an environment variable read in a library: let the caller pass it".to_owned());
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::breaches_of;
    use super::*;

    fn of(path: &str, text: &str) -> Vec<String> {
        breaches_of(check, &[(path, text)])
    }

    #[test]
    fn unsafe_is_for_kernels_and_the_mapping() {
        let block = "//! x\n// SAFETY: fine\nlet a = unsafe { b };\n";
        let said = [
            "crates/tuwen-nn/src/a.rs:3: `unsafe` outside tuwen-kernels and crates/tuwen-tensor/src/checkpoint/file.rs",
        ];
        assert_eq!(of("crates/tuwen-nn/src/a.rs", block), said);
        assert_eq!(of("crates/tuwen-nn/tests/a.rs", block).len(), 1);
        for path in ["crates/tuwen-kernels/src/a.rs", MAPPING] {
            assert_eq!(of(path, block), [""; 0]);
        }
        assert_eq!(
            of("crates/tuwen-nn/src/a.rs", "// unsafe\n#![deny(unsafe_code)]\nlet a = \"unsafe {\";"),
            [""; 0]
        );
    }

    #[test]
    fn every_unsafe_block_has_its_reason() {
        let kernel = |text: &str| of("crates/tuwen-kernels/src/a.rs", text).len();
        assert_eq!(kernel("f();\nunsafe { g() };"), 1);
        assert_eq!(kernel("// SAFETY: fine\nf();\nunsafe { g() };"), 1);
        assert_eq!(kernel("// fine\nunsafe { g() };"), 1);
        assert_eq!(kernel("unsafe impl Send for A {}"), 1);
        assert_eq!(kernel("// SAFETY: fine,\n// in two lines\nunsafe impl Send for A {}"), 0);
        assert_eq!(kernel("// SAFETY: fine\n#[allow(x)]\nlet a =\n    unsafe { g() };"), 0);
        assert_eq!(kernel("let a = unsafe { g() }; // SAFETY: fine"), 0);
        assert_eq!(kernel("unsafe fn f() {}\nunsafe extern \"C\" {}"), 0);
    }

    #[test]
    fn the_network_has_its_places() {
        let text = "//! x\nuse std::net::TcpStream;\nlet a = ureq::get(b);\n// std::net\n";
        let said = of("crates/tuwen-data/src/a.rs", text);
        assert!(
            said.len() == 2 && said[0].starts_with("crates/tuwen-data/src/a.rs:2: `std::net`"),
            "{said:?}"
        );
        assert!(said[1].starts_with("crates/tuwen-data/src/a.rs:3: `ureq::`"), "{said:?}");
        assert_eq!(of("crates/tuwen-server/src/a.rs", text), [""; 0]);
        assert_eq!(of("crates/tuwen/src/hub.rs", text), [""; 0]);
        assert_eq!(
            of("crates/tuwen/src/source.rs", text).len(),
            1,
            "the crate may use it, this file says std::net"
        );
    }

    #[test]
    fn libraries_leave_these_to_their_caller() {
        let text = "a.unwrap();\nprintln!();\nstd::env::var(b);\na.unwrap_or(c);\neprint!();\n#[cfg(test)]\nmod tests {\n    a.unwrap();\n}\n";
        let said = of("crates/tuwen-nn/src/a.rs", text);
        let lines: Vec<_> = said.iter().filter_map(|breach| breach.split(':').nth(1)).collect();
        assert_eq!(lines, ["1", "2", "3", "5"]);
        for path in [
            "crates/tuwen-nn/tests/a.rs",
            "crates/tuwen-nn/examples/a.rs",
            "crates/tuwen-nn/build.rs",
            "crates/tuwen-cli/src/a.rs",
            "xtask/src/a.rs",
        ] {
            assert_eq!(of(path, text), [""; 0], "{path}");
        }
        let files =
            [("crates/tuwen-nn/src/a.rs", "#[cfg(test)]\nmod b;"), ("crates/tuwen-nn/src/a/b.rs", text)];
        assert_eq!(breaches_of(check, &files), [""; 0]);
    }
}
