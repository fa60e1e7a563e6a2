//! Who may depend on whom: the direction of the house, and the crates that reach for a network.

use toml::{Table, Value};

use super::Breach;
use super::tree::Tree;

/// Each crate of the house with the crates it may use. `tuwen-data` and `tuwen-index` know no tensor.
const HOUSE: [(&str, &[&str]); 13] = [
    ("tuwen-kernels", &[]),
    ("tuwen-tensor", &["tuwen-kernels"]),
    ("tuwen-nn", &["tuwen-tensor", "tuwen-kernels"]),
    ("tuwen-data", &["tuwen-kernels"]),
    ("tuwen-models", &["tuwen-data", "tuwen-nn", "tuwen-tensor", "tuwen-kernels"]),
    ("tuwen", LIBRARY),
    ("tuwen-eval", USERS),
    ("tuwen-train", TRAINING),
    ("tuwen-index", &[]),
    ("tuwen-jobs", USERS),
    ("tuwen-server", SERVER),
    ("tuwen-cli", PROGRAM),
    ("xtask", &[]),
];
const LIBRARY: &[&str] = &["tuwen-models", "tuwen-data", "tuwen-nn", "tuwen-tensor", "tuwen-kernels"];
const USERS: &[&str] = &["tuwen", "tuwen-models", "tuwen-data", "tuwen-nn", "tuwen-tensor", "tuwen-kernels"];
const TRAINING: &[&str] =
    &["tuwen-eval", "tuwen", "tuwen-models", "tuwen-data", "tuwen-nn", "tuwen-tensor", "tuwen-kernels"];
const SERVER: &[&str] = &[
    "tuwen-jobs",
    "tuwen-index",
    "tuwen",
    "tuwen-models",
    "tuwen-data",
    "tuwen-nn",
    "tuwen-tensor",
    "tuwen-kernels",
];
const PROGRAM: &[&str] = &[
    "tuwen-server",
    "tuwen-jobs",
    "tuwen-index",
    "tuwen-train",
    "tuwen-eval",
    "tuwen",
    "tuwen-models",
    "tuwen-data",
    "tuwen-nn",
    "tuwen-tensor",
    "tuwen-kernels",
];

/// Crates that open connections.
pub const NETWORK: [&str; 14] = [
    "attohttpc",
    "axum",
    "curl",
    "hf-hub",
    "hyper",
    "isahc",
    "minreq",
    "object_store",
    "reqwest",
    "rustls",
    "tiny_http",
    "tokio",
    "tungstenite",
    "ureq",
];

/// Why a crate may use a network crate, if it may: the server, downloads on request, data in a store the user names.
pub fn may_use(user: Option<&str>, network_crate: &str) -> Option<&'static str> {
    match (user?, network_crate) {
        ("tuwen-server", _) => Some("it serves"),
        ("tuwen", _) => Some("its hub module downloads models"),
        ("tuwen-data", "object_store" | "tokio") => Some("it reads data where the user says"),
        _ => None,
    }
}

pub fn check(tree: &Tree) -> Vec<Breach> {
    let is_member = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        matches!(parts[..], ["crates", _, "Cargo.toml"] | ["xtask", "Cargo.toml"])
    };
    tree.files.iter().filter(|path| is_member(path)).flat_map(|path| manifest(tree, path)).collect()
}

fn manifest(tree: &Tree, path: &str) -> Vec<Breach> {
    let text = tree.text(path).unwrap_or_default();
    let breach = |line, what: String| Breach::new(path, line, what);
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![breach(1, format!("not TOML: {error}").replace('\n', " "))],
    };
    let name =
        table.get("package").and_then(|package| package.get("name")).and_then(Value::as_str).unwrap_or("");
    let folder = path.rsplit('/').nth(1).unwrap_or("");
    if name != folder {
        return vec![breach(1, format!("the crate is named `{name}`, its folder `{folder}`"))];
    }
    let Some((_, below)) = HOUSE.iter().find(|(member, _)| *member == name) else {
        return vec![breach(
            1,
            format!("`{name}` has no place in the house (xtask/src/tidy/dependencies.rs)"),
        )];
    };
    let mut breaches = Vec::new();
    for (key, dependency) in dependencies(&table) {
        let line = line_of(&text, &key);
        if HOUSE.iter().any(|(member, _)| *member == dependency) && !below.contains(&&dependency[..]) {
            breaches.push(breach(
                line,
                format!("`{name}` may not depend on `{dependency}`: dependencies point down"),
            ));
        }
        if NETWORK.contains(&&dependency[..]) && may_use(Some(name), &dependency).is_none() {
            breaches.push(breach(line, format!("`{dependency}`: `{name}` may not use the network")));
        }
    }
    breaches
}

/// All dependencies of a manifest, of every kind and target: the key they stand under, and the crate it means.
fn dependencies(table: &Table) -> Vec<(String, String)> {
    let targets =
        table.get("target").and_then(Value::as_table).into_iter().flat_map(|targets| targets.values());
    let sections = targets.filter_map(Value::as_table).chain([table]);
    sections
        .flat_map(|section| {
            ["dependencies", "dev-dependencies", "build-dependencies"].map(|kind| section.get(kind))
        })
        .flatten()
        .filter_map(Value::as_table)
        .flatten()
        .map(|(key, value)| {
            let renamed = value.get("package").and_then(Value::as_str);
            (key.clone(), renamed.unwrap_or(key).to_owned())
        })
        .collect()
}

/// Where a dependency is named; the first line where it cannot be found.
fn line_of(text: &str, key: &str) -> usize {
    let names = |line: &str| {
        let rest = line.trim_start().trim_start_matches('"').strip_prefix(key);
        rest.is_some_and(|rest| rest.starts_with([' ', '=', '.', '"', ']']))
    };
    let place = text.lines().position(|line| names(line) || line.contains(&format!("dependencies.{key}]")));
    place.map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::super::breaches_of;
    use super::*;

    fn of(name: &str, rest: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        breaches_of(check, &[(&format!("crates/{name}/Cargo.toml"), &text)])
    }

    #[test]
    fn dependencies_point_down() {
        assert_eq!(of("tuwen-nn", "[dependencies]\ntuwen-tensor.workspace = true\nserde = \"1\"\n"), [""; 0]);
        let said = of("tuwen-nn", "[dependencies]\nserde = \"1\"\ntuwen-models.workspace = true\n");
        assert_eq!(
            said,
            [
                "crates/tuwen-nn/Cargo.toml:5: `tuwen-nn` may not depend on `tuwen-models`: dependencies point down"
            ]
        );
        for section in ["dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            assert_eq!(
                of("tuwen", &format!("[{section}]\ntuwen-train = {{ path = \"x\" }}\n")).len(),
                1,
                "{section}"
            );
        }
        assert_eq!(of("tuwen", "[dependencies]\nx = { package = \"tuwen-cli\", path = \"y\" }\n").len(), 1);
        assert_eq!(
            of("tuwen", "[dependencies.tuwen-cli]\npath = \"y\"\n"),
            ["crates/tuwen/Cargo.toml:3: `tuwen` may not depend on `tuwen-cli`: dependencies point down"]
        );
        for beside in ["tuwen-train", "tuwen-eval"] {
            assert_eq!(of("tuwen-jobs", &format!("[dependencies]\n{beside}.workspace = true\n")).len(), 1);
        }
        assert!(of("tuwen-new", "").first().is_some_and(|said| said.contains("no place in the house")));
        assert!(of("tuwen", "[").first().is_some_and(|said| said.contains("not TOML")));
    }

    #[test]
    fn data_and_index_know_no_tensor() {
        for name in ["tuwen-data", "tuwen-index"] {
            for tensor in ["tuwen-tensor", "tuwen-nn"] {
                assert_eq!(of(name, &format!("[dev-dependencies]\n{tensor}.workspace = true\n")).len(), 1);
            }
        }
    }

    #[test]
    fn the_network_is_for_few() {
        let needs = |name| of(name, "[dependencies]\nureq = \"3\"\n");
        assert_eq!(
            needs("tuwen-train"),
            ["crates/tuwen-train/Cargo.toml:4: `ureq`: `tuwen-train` may not use the network"]
        );
        assert_eq!(needs("tuwen-data").len(), 1);
        assert_eq!((needs("tuwen-server"), needs("tuwen")), (vec![], vec![]));
        assert_eq!(of("tuwen-data", "[dependencies]\nobject_store = \"1\"\n"), [""; 0]);
    }

    /// What a crate may use never leads back to it, so that there is a direction at all.
    #[test]
    fn the_house_stands() {
        for (name, below) in HOUSE {
            for used in below {
                let (_, its) = HOUSE.iter().find(|(member, _)| member == used).expect("in the house");
                assert!(!its.contains(&name), "{name} and {used}");
                assert!(
                    its.iter().all(|its| below.contains(its)),
                    "{name} uses {used}, but not all that it uses"
                );
            }
        }
    }
}
