//! Documents: those that have to be there, and what they have to name.

use super::tree::Tree;
use super::{Breach, has_word};

const REQUIRED: [&str; 8] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "rust-toolchain.toml",
];

const COMMANDS: &str = "crates/tuwen-cli/src/commands/";

pub fn check(tree: &Tree) -> Vec<Breach> {
    let missing = REQUIRED.iter().filter(|path| tree.files.binary_search(&(**path).to_owned()).is_err());
    let mut breaches: Vec<_> = missing.map(|path| Breach::new(path, 1, "missing")).collect();
    if let Some(text) = tree.text("ARCHITECTURE.md") {
        let unnamed = crates(tree).into_iter().filter(|name| !has_word(&text, name, true));
        breaches
            .extend(unnamed.map(|name| Breach::new("ARCHITECTURE.md", 1, format!("does not name `{name}`"))));
    }
    if let Some(text) = tree.text("README.md") {
        let named = |verb: &str| {
            has_word(&text, &format!("tuwen {verb}"), true) || text.contains(&format!("`{verb}`"))
        };
        let unnamed = verbs(tree).into_iter().filter(|verb| !named(verb));
        breaches
            .extend(unnamed.map(|verb| Breach::new("README.md", 1, format!("does not name `tuwen {verb}`"))));
    }
    breaches
}

fn crates(tree: &Tree) -> Vec<&str> {
    let manifest = |path: &'_ String| path.ends_with("/Cargo.toml");
    tree.files.iter().filter(|path| manifest(path)).filter_map(|path| path.rsplit('/').nth(1)).collect()
}

/// The verbs of the command line, a file or folder each.
fn verbs(tree: &Tree) -> Vec<String> {
    let entries = tree.files.iter().filter_map(|path| path.strip_prefix(COMMANDS)?.split('/').next());
    let mut verbs: Vec<_> = entries.map(|entry| entry.trim_end_matches(".rs").replace('_', "-")).collect();
    verbs.retain(|verb| verb != "mod");
    verbs.dedup();
    verbs
}

#[cfg(test)]
mod tests {
    use super::super::breaches_of;
    use super::*;

    #[test]
    fn documents_are_there() {
        let all = REQUIRED.map(|path| (path, ""));
        assert_eq!(breaches_of(check, &all), [""; 0]);
        assert_eq!(breaches_of(check, &all[1..]), ["ARCHITECTURE.md:1: missing"]);
        assert_eq!(breaches_of(check, &[]).len(), REQUIRED.len());
    }

    #[test]
    fn crates_and_verbs_are_named() {
        let of = |architecture, readme| {
            let mut files = REQUIRED.map(|path| (path, "")).to_vec();
            files.extend([("crates/tuwen/Cargo.toml", ""), ("crates/tuwen-nn/Cargo.toml", "")]);
            let commands = ["mod.rs", "embed.rs", "index/mod.rs", "index/files.rs", "dry_run.rs"];
            let paths = commands.map(|file| format!("{COMMANDS}{file}"));
            files.extend(paths.iter().map(|path| (&path[..], "")));
            files.retain(|(path, _)| !["ARCHITECTURE.md", "README.md"].contains(path));
            files.extend([("ARCHITECTURE.md", architecture), ("README.md", readme)]);
            breaches_of(check, &files)
        };
        let (architecture, readme) =
            ("`tuwen`, then tuwen-nn.", "Use `tuwen embed a.jpg`, `index`, tuwen dry-run.");
        assert_eq!(of(architecture, readme), [""; 0]);
        assert_eq!(of("only tuwen-nn", readme), ["ARCHITECTURE.md:1: does not name `tuwen`"]);
        let without = of(architecture, "Use `tuwen embedded`, embed, tuwen dry-runs.");
        let said =
            ["dry-run", "embed", "index"].map(|verb| format!("README.md:1: does not name `tuwen {verb}`"));
        assert_eq!(without, said);
    }
}
