//! Beginning a network from one that was made for another task: which of its parameters are taken, and from where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tuwen_nn::{Mismatch, Parameters};
use tuwen_tensor::checkpoint::{CheckpointError, RawTensor, TensorInfo, TensorSource, fits};

/// Names in lists of tensors that a message shows.
const SHOWN: usize = 3;

/// How the parameters of one kind of network are found in another.
pub(crate) struct Rules<'r> {
    /// Names under which a parameter may be found beside its own, the first that is there.
    pub origins: &'r dyn Fn(&str) -> Vec<String>,
    /// Patterns of what a task adds: drawn where the other network has nothing that one of them fits.
    pub new: &'r [&'r str],
    /// Patterns of what looks at states of another width in another task: drawn where the shapes differ.
    pub resized: &'r [&'r str],
}

/// What a network begins with: tensors of another one by the names that they have in the new one.
pub struct Beginning {
    source: Arc<dyn TensorSource>,
    /// By new names the old ones.
    taken: BTreeMap<String, String>,
    drawn: Vec<String>,
    left: Vec<String>,
}

/// Why a network cannot begin with another one. The message is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.line())]
pub struct Misfit {
    /// What the other network would need to have.
    pub missing: Vec<String>,
    /// What it has in another shape.
    pub mismatched: Vec<Mismatch>,
}

impl Misfit {
    fn line(&self) -> String {
        let missing = (!self.missing.is_empty()).then(|| format!("it lacks {}", some_of(&self.missing)));
        let shapes = self.mismatched.first().map(|first| {
            let Mismatch { name, expected, got } = first;
            let more = self.mismatched.len() - 1;
            let others = if more > 0 { format!(", and {more} more do not fit") } else { String::new() };
            format!("its {name} is {got:?} where {expected:?} is needed{others}")
        });
        missing.into_iter().chain(shapes).collect::<Vec<_>>().join("; ")
    }
}

impl Beginning {
    /// Finds the parameters of `network`, of which names and shapes are looked at, in another one.
    pub(crate) fn new(
        network: &Parameters,
        source: Arc<dyn TensorSource>,
        rules: &Rules<'_>,
    ) -> Result<Self, Misfit> {
        let names = source.names();
        let (mut taken, mut drawn) = (BTreeMap::new(), Vec::new());
        let mut misfit = Misfit { missing: Vec::new(), mismatched: Vec::new() };
        for entry in network.iter() {
            let (name, expected) = (&entry.name, entry.param.shape());
            let own = [name.clone()].into_iter();
            let found =
                own.chain((rules.origins)(name)).find_map(|old| Some((source.info(&old)?.shape, old)));
            let is_of = |pattern: &&&str| fits(pattern, name);
            match found {
                Some((got, old)) if got == expected => drop(taken.insert(name.clone(), old)),
                Some(_) if rules.resized.iter().any(|pattern| is_of(&pattern)) => drawn.push(name.clone()),
                Some((got, old)) => misfit.mismatched.push(Mismatch { name: old, expected, got }),
                None => match rules.new.iter().find(is_of) {
                    Some(part) if !names.iter().any(|name| fits(part, name)) => drawn.push(name.clone()),
                    _ => misfit.missing.push(name.clone()),
                },
            }
        }
        if !misfit.missing.is_empty() || !misfit.mismatched.is_empty() {
            return Err(misfit);
        }
        let used: BTreeSet<&String> = taken.values().collect();
        let left = names.into_iter().filter(|name| !used.contains(name)).collect();
        Ok(Self { source, taken, drawn, left })
    }

    /// What is taken, drawn and left, in words: one line each, and none where there is nothing.
    pub fn in_words(&self) -> Vec<String> {
        let by_part = |names: &mut dyn Iterator<Item = String>| {
            let mut counts = BTreeMap::<String, usize>::new();
            names.for_each(|name| *counts.entry(name).or_default() += 1);
            counts.iter().map(|(part, count)| format!("{part} ({count})")).collect::<Vec<_>>().join(", ")
        };
        let taken = self.taken.iter().map(|(new, old)| match (part(new), part(old)) {
            (new, old) if new == old => new.to_owned(),
            (new, old) => format!("{new} from {old}"),
        });
        let lines = [
            ("taken", by_part(&mut taken.into_iter())),
            ("drawn anew", by_part(&mut self.drawn.iter().map(|name| kind(name)))),
            ("left", by_part(&mut self.left.iter().map(|name| part(name).to_owned()))),
        ];
        let lines = lines.into_iter().filter(|(_, parts)| !parts.is_empty());
        lines.map(|(what, parts)| format!("{what}: {parts}")).collect()
    }
}

impl TensorSource for Beginning {
    fn names(&self) -> Vec<String> {
        self.taken.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.source.info(self.taken.get(name)?)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        self.source.read(self.taken.get(name).map_or(name, String::as_str))
    }
}

/// The first names of a list, and how many more there are.
fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What a parameter belongs to.
fn part(name: &str) -> &str {
    const PARTS: [&str; 2] = ["text_decoder.bert", "text_decoder.cls"];
    let known = PARTS.into_iter().find(|part| name.starts_with(&format!("{part}.")));
    known.unwrap_or_else(|| name.split('.').next().unwrap_or(name))
}

/// A parameter by its layer, whatever its number, without `weight` or `bias`.
fn kind(name: &str) -> String {
    let layer = name.strip_suffix(".weight").or(name.strip_suffix(".bias")).unwrap_or(name);
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    layer.split('.').map(|part| if number(part) { "*" } else { part }).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use tuwen_nn::{Init, Scope};

    use super::*;

    fn source(names: &[(&str, usize)]) -> Arc<dyn TensorSource> {
        let tensor = |&(name, len): &(&str, usize)| {
            (name.to_owned(), RawTensor::from_f32(&[len], &vec![len as f32; len]))
        };
        Arc::new(names.iter().map(tensor).collect::<BTreeMap<_, _>>())
    }

    fn begin(has: &[(&str, usize)]) -> Result<Beginning, Misfit> {
        let scope = Scope::count();
        for (name, len) in [("body.0.weight", 2), ("head.weight", 3), ("look.1.bias", 4)] {
            scope.param(name, &[len], Init::ZEROS);
        }
        let origins = |name: &str| vec![name.replace("body", "trunk")];
        let rules = Rules { origins: &origins, new: &["head.*"], resized: &["look.*"] };
        Beginning::new(&scope.finish().expect("nothing is loaded"), source(has), &rules)
    }

    #[test]
    fn what_is_there_is_taken_under_another_name_too() {
        let beginning = begin(&[("trunk.0.weight", 2), ("look.1.bias", 9), ("rest", 1)])
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(beginning.names(), ["body.0.weight"]);
        assert_eq!(beginning.read("body.0.weight").expect("there").to_f32().to_vec(), [2.0, 2.0]);
        assert_eq!(
            beginning.in_words(),
            ["taken: body from trunk (1)", "drawn anew: head (1), look.* (1)", "left: look (1), rest (1)"]
        );
    }

    #[test]
    fn what_does_not_fit_is_said_in_a_line() {
        let message = |has: &[(&str, usize)]| begin(has).err().expect("a misfit").to_string();
        assert_eq!(message(&[("look.1.bias", 4)]), "it lacks body.0.weight");
        assert_eq!(
            message(&[("body.0.weight", 5), ("look.1.bias", 4)]),
            "its body.0.weight is [5] where [2] is needed"
        );
        // A part of what is new is there: the rest has to be as well.
        assert_eq!(
            message(&[("body.0.weight", 2), ("look.1.bias", 4), ("head.bias", 1)]),
            "it lacks head.weight"
        );
    }
}
