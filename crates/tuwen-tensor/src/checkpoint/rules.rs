//! Foreign parameter names: a table of rename, transpose and split rules, read in either direction.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{CheckpointError, RawTensor, TensorInfo, TensorSource};

/// How the tensors of one foreign name and of ours correspond. In a pattern `*` stands for any characters; both
/// sides have the same number of stars.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    foreign: &'static str,
    ours: &'static [&'static str],
    transform: Transform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transform {
    Keep,
    Transpose,
    /// The foreign tensor is ours, one after the other along the first axis.
    Split,
    /// Not a weight: left out.
    Ignore,
    /// The foreign tensor is ours once more: left out, and written beside it.
    Alias,
}

impl Rule {
    /// Another name for the same tensor.
    pub const fn rename(foreign: &'static str, ours: &'static [&'static str; 1]) -> Self {
        Self { foreign, ours, transform: Transform::Keep }
    }

    /// Another name for the transposed matrix.
    pub const fn transpose(foreign: &'static str, ours: &'static [&'static str; 1]) -> Self {
        Self { foreign, ours, transform: Transform::Transpose }
    }

    /// One tensor there for several equal ones here, in this order along the first axis.
    pub const fn split(foreign: &'static str, ours: &'static [&'static str]) -> Self {
        Self { foreign, ours, transform: Transform::Split }
    }

    /// A second name there for a tensor that is there under another name too (tied weights).
    pub const fn alias(foreign: &'static str, ours: &'static [&'static str; 1]) -> Self {
        Self { foreign, ours, transform: Transform::Alias }
    }

    /// Something that is no weight.
    pub const fn ignore(foreign: &'static str) -> Self {
        Self { foreign, ours: &[], transform: Transform::Ignore }
    }
}

/// A checkpoint seen under other names. A name for which there is no rule stays as it is, so that strict loading
/// reports it.
pub struct Mapped<S> {
    source: S,
    views: BTreeMap<String, View>,
    /// Left out on import, each with our name of the tensor that it ought to equal.
    aliases: Vec<(String, String)>,
}

/// How a tensor is made of those of the source.
enum View {
    Same(String),
    Transposed(String),
    /// Part `index` of `count` along the first axis.
    Part {
        name: String,
        index: usize,
        count: usize,
    },
    Joined(Vec<String>),
}

impl<S: TensorSource> Mapped<S> {
    /// Foreign tensors under our names; the first rule that fits a name decides.
    pub fn import(source: S, tables: &[&[Rule]]) -> Self {
        let (mut views, mut aliases) = (BTreeMap::new(), Vec::new());
        for name in source.names() {
            let found = rules(tables).find_map(|rule| Some((rule, captures(rule.foreign, &name)?)));
            let Some((rule, stars)) = found else {
                views.insert(name.clone(), View::Same(name));
                continue;
            };
            let count = rule.ours.len();
            for (index, ours) in rule.ours.iter().enumerate() {
                let name = name.clone();
                let view = match rule.transform {
                    Transform::Keep => View::Same(name),
                    Transform::Transpose => View::Transposed(name),
                    Transform::Split => View::Part { name, index, count },
                    Transform::Ignore => continue,
                    Transform::Alias => {
                        aliases.push((name, fill(ours, &stars)));
                        continue;
                    }
                };
                views.insert(fill(ours, &stars), view);
            }
        }
        Self { source, views, aliases }
    }

    /// Checks that tensors which were left out as aliases equal those that they stand for, where both are there.
    ///
    /// # Errors
    /// The first that differs, or that cannot be read.
    pub fn check_aliases(&self) -> Result<(), CheckpointError> {
        for (alias, ours) in &self.aliases {
            if !self.views.contains_key(ours) {
                continue;
            }
            let (second, first) = (self.source.read(alias)?, self.read(ours)?);
            // Tied tensors of one archive are often the same bytes of the file.
            let same =
                std::ptr::eq(second.data.as_ptr(), first.data.as_ptr()) && second.info() == first.info();
            if !same && second != first {
                let reason = format!("it differs from {ours}, to which it is tied");
                return Err(CheckpointError::Rule { name: alias.clone(), reason });
            }
        }
        Ok(())
    }

    /// Our tensors under foreign names.
    pub fn export(source: S, tables: &[&[Rule]]) -> Self {
        let mut views = BTreeMap::new();
        for name in source.names() {
            let fits = |rule: &Rule| {
                let renames = rule.transform != Transform::Alias;
                rule.ours.iter().filter(|_| renames).find_map(|ours| captures(ours, &name))
            };
            let found = rules(tables).find_map(|rule| Some((rule, fits(rule)?)));
            let Some((rule, stars)) = found else {
                views.insert(name.clone(), View::Same(name));
                continue;
            };
            let view = match rule.transform {
                Transform::Keep | Transform::Ignore | Transform::Alias => View::Same(name.clone()),
                Transform::Transpose => View::Transposed(name.clone()),
                Transform::Split => View::Joined(rule.ours.iter().map(|ours| fill(ours, &stars)).collect()),
            };
            views.insert(fill(rule.foreign, &stars), view);
        }
        for rule in rules(tables).filter(|rule| rule.transform == Transform::Alias) {
            for name in source.names() {
                let stars = rule.ours.iter().find_map(|ours| captures(ours, &name));
                let Some(stars) = stars else { continue };
                views.entry(fill(rule.foreign, &stars)).or_insert_with(|| View::Same(name.clone()));
            }
        }
        Self { source, views, aliases: Vec::new() }
    }
}

fn rules<'t>(tables: &'t [&'t [Rule]]) -> impl Iterator<Item = &'t Rule> {
    tables.iter().flat_map(|table| table.iter())
}

/// Whether a pattern, in which `*` stands for any characters, fits a whole name.
pub fn fits(pattern: &str, name: &str) -> bool {
    captures(pattern, name).is_some()
}

/// What the stars of a pattern stand for in a name; each takes as little as it can, the last one the rest.
fn captures<'n>(pattern: &str, name: &'n str) -> Option<Vec<&'n str>> {
    let mut parts = pattern.split('*');
    let mut rest = name.strip_prefix(parts.next()?)?;
    let mut found = Vec::new();
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_some() { rest.find(part)? } else { rest.strip_suffix(part)?.len() };
        found.push(&rest[..end]);
        rest = &rest[end + part.len()..];
    }
    rest.is_empty().then_some(found)
}

/// The pattern with its stars replaced.
fn fill(pattern: &str, stars: &[&str]) -> String {
    let mut stars = stars.iter();
    let mut parts = pattern.split('*');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        name.push_str(stars.next().unwrap_or(&"*"));
        name.push_str(part);
    }
    name
}

impl<S: TensorSource> TensorSource for Mapped<S> {
    fn names(&self) -> Vec<String> {
        self.views.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        match self.views.get(name)? {
            View::Same(name) => self.source.info(name),
            View::Transposed(name) => {
                let mut info = self.source.info(name)?;
                info.shape.reverse();
                Some(info)
            }
            View::Part { name, count, .. } => {
                let mut info = self.source.info(name)?;
                if let Some(rows) = info.shape.first_mut() {
                    *rows /= count;
                }
                Some(info)
            }
            View::Joined(names) => {
                let mut info = self.source.info(names.first()?)?;
                if let Some(rows) = info.shape.first_mut() {
                    *rows *= names.len();
                }
                Some(info)
            }
        }
    }

    fn check(&self, name: &str) -> Result<(), CheckpointError> {
        match self.views.get(name) {
            None => self.source.check(name),
            Some(View::Same(name)) => self.source.check(name),
            Some(_) => self.read(name).map(drop),
        }
    }

    fn release(&self, name: &str) {
        match self.views.get(name) {
            None => self.source.release(name),
            Some(View::Same(name) | View::Transposed(name) | View::Part { name, .. }) => {
                self.source.release(name)
            }
            Some(View::Joined(names)) => names.iter().for_each(|name| self.source.release(name)),
        }
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        let fault = |reason: String| CheckpointError::Rule { name: name.to_owned(), reason };
        match self.views.get(name) {
            None => self.source.read(name),
            Some(View::Same(name)) => self.source.read(name),
            Some(View::Transposed(name)) => {
                let tensor = self.source.read(name)?;
                transpose(&tensor)
                    .ok_or_else(|| fault(format!("a matrix is expected, got {:?}", tensor.shape)))
            }
            Some(View::Part { name, index, count }) => {
                let tensor = self.source.read(name)?;
                let shape = tensor.shape.clone();
                part(tensor, *index, *count).ok_or_else(|| {
                    fault(format!("{shape:?} does not split into {count} along its first axis"))
                })
            }
            Some(View::Joined(names)) => {
                let parts = names.iter().map(|name| self.source.read(name)).collect::<Result<Vec<_>, _>>()?;
                join(&parts)
                    .ok_or_else(|| fault(format!("{} are not of one shape and type", names.join(", "))))
            }
        }
    }
}

fn transpose(tensor: &RawTensor<'_>) -> Option<RawTensor<'static>> {
    let &[rows, columns] = tensor.shape.as_slice() else { return None };
    let size = tensor.dtype.size();
    let mut data = Vec::with_capacity(tensor.data.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * size;
            data.extend_from_slice(&tensor.data[at..at + size]);
        }
    }
    Some(RawTensor { dtype: tensor.dtype, shape: vec![columns, rows], data: data.into() })
}

fn part(tensor: RawTensor<'_>, index: usize, count: usize) -> Option<RawTensor<'_>> {
    let RawTensor { dtype, mut shape, data } = tensor;
    let rows = shape.first_mut().filter(|rows| rows.is_multiple_of(count))?;
    *rows /= count;
    let len = data.len() / count;
    let range = index * len..(index + 1) * len;
    let data = match data {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
        Cow::Owned(bytes) => Cow::Owned(bytes[range].to_vec()),
    };
    Some(RawTensor { dtype, shape, data })
}

fn join(parts: &[RawTensor<'_>]) -> Option<RawTensor<'static>> {
    let first = parts.first()?;
    let mut shape = first.shape.clone();
    *shape.first_mut()? *= parts.len();
    let same = parts.iter().all(|part| part.dtype == first.dtype && part.shape == first.shape);
    let data = parts.iter().flat_map(|part| part.data.iter().copied()).collect::<Vec<u8>>();
    same.then(|| RawTensor { dtype: first.dtype, shape, data: data.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table = BTreeMap<String, RawTensor<'static>>;

    const RULES: &[Rule] = &[
        Rule::ignore("*.num_batches_tracked"),
        Rule::split("blocks.*.in_proj_*", &["layers.*.q.*", "layers.*.k.*"]),
        Rule::transpose("proj", &["projection.weight"]),
        Rule::rename("blocks.*.ln_1.*", &["layers.*.norm1.*"]),
    ];

    fn foreign() -> Table {
        let tensor = |shape: &[usize]| {
            let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
            RawTensor::from_f32(shape, &values)
        };
        BTreeMap::from([
            ("blocks.0.in_proj_weight".to_owned(), tensor(&[4, 3])),
            ("blocks.0.ln_1.bias".to_owned(), tensor(&[2])),
            ("bn.num_batches_tracked".to_owned(), tensor(&[])),
            ("proj".to_owned(), tensor(&[2, 3])),
            ("stranger".to_owned(), tensor(&[1])),
        ])
    }

    #[test]
    fn there_and_back_again() {
        let ours = Mapped::import(foreign(), &[RULES]);
        let names = [
            "layers.0.k.weight",
            "layers.0.norm1.bias",
            "layers.0.q.weight",
            "projection.weight",
            "stranger",
        ];
        assert_eq!(ours.names(), names);
        assert_eq!(ours.read("layers.0.k.weight").expect("read").to_f32(), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(ours.read("projection.weight").expect("read").to_f32(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        for name in names {
            assert_eq!(ours.info(name), Some(ours.read(name).expect("read").info()), "{name}");
        }
        let back = Mapped::export(ours, &[RULES]);
        let mut expected = foreign();
        expected.remove("bn.num_batches_tracked");
        assert_eq!(back.names(), expected.names());
        for name in expected.names() {
            assert_eq!(back.read(&name).expect("read"), expected[&name], "{name}");
            assert_eq!(back.info(&name), expected.info(&name), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_names_it() {
        let odd = BTreeMap::from([
            ("blocks.0.in_proj_bias".to_owned(), RawTensor::from_f32(&[3], &[0.0; 3])),
            ("proj".to_owned(), RawTensor::from_f32(&[1, 1, 1], &[0.0])),
        ]);
        let ours = Mapped::import(odd, &[RULES]);
        for name in ["layers.0.q.bias", "projection.weight"] {
            let message = ours.read(name).expect_err("does not fit").to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn tied_tensors_are_read_once_written_twice_and_have_to_be_equal() {
        const TIED: &[Rule] = &[Rule::alias("head.*", &["table.*"]), Rule::rename("words.*", &["table.*"])];
        let tensors = |second: f32| -> Table {
            let tensor = |value| RawTensor::from_f32(&[2], &[1.0, value]);
            BTreeMap::from([("head.weight".into(), tensor(second)), ("words.weight".into(), tensor(2.0))])
        };
        let ours = Mapped::import(tensors(2.0), &[TIED]);
        assert_eq!(ours.names(), ["table.weight"]);
        ours.check_aliases().expect("equal");
        let back = Mapped::export(ours, &[TIED]);
        assert_eq!(back.names(), ["head.weight", "words.weight"]);
        assert_eq!(back.read("head.weight").expect("read").to_f32(), [1.0, 2.0]);
        let message = Mapped::import(tensors(3.0), &[TIED]).check_aliases().expect_err("differ").to_string();
        assert!(message.contains("head.weight") && message.contains("table.weight"), "{message}");
    }

    #[test]
    fn stars_take_whole_names_only() {
        assert_eq!(captures("a.*.b.*", "a.0.b.weight"), Some(vec!["0", "weight"]));
        assert_eq!(captures("a.*.b", "a.0.b.b"), Some(vec!["0.b"]));
        assert_eq!(captures("a", "ab"), None);
        assert_eq!(captures("*.bias", "bias"), None);
        assert_eq!(fill("x.*.y.*", &["1", "2"]), "x.1.y.2");
    }
}
