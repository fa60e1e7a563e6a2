//! The path into a network's parameters, and the one place that decides whether they are loaded or drawn.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tuwen_tensor::checkpoint::{StoredTensor, TensorSource};
use tuwen_tensor::{Param, Precision, Tensor};

use crate::lora::{FACTORS, LowRank};
use crate::parameters::{Entry, Kind, Parameters};
use crate::{Init, LoraConfig};

/// A path into a network's parameters. Constructors of layers ask it for their tensors by name; whether those are
/// loaded, drawn at random or only counted is decided once, by the root.
#[derive(Clone)]
pub struct Scope {
    root: Arc<Root>,
    path: String,
    /// By how many precisions weights are more exact than the root says.
    finer: usize,
}

struct Root {
    origin: Origin,
    /// Adapters and where they come from.
    lora: OnceLock<(LoraConfig, Origin)>,
    precision: OnceLock<Precision>,
    /// By which the deviations of normal draws are multiplied.
    spread: OnceLock<f32>,
    trainable: bool,
    found: Mutex<Found>,
}

enum Origin {
    Load(Arc<dyn TensorSource>),
    Compare(Arc<dyn TensorSource>),
    Init {
        seed: u64,
    },
    /// Loads what is there in the right shape, draws the rest.
    Start {
        source: Arc<dyn TensorSource>,
        seed: u64,
    },
    Count,
}

#[derive(Default)]
struct Found {
    parameters: Parameters,
    report: LoadReport,
}

/// A tensor whose shape is not what the configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its name.
    pub name: String,
    /// The shape that the configuration asks for.
    pub expected: Vec<usize>,
    /// The shape in the checkpoint.
    pub got: Vec<usize>,
}

/// Everything that does not fit between a configuration and a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names that the network needs and the checkpoint lacks, each with the nearest unused name.
    pub missing: Vec<(String, Option<String>)>,
    /// Names in the checkpoint that the network does not use.
    pub unused: Vec<String>,
    /// Names with another shape.
    pub mismatched: Vec<Mismatch>,
    /// Tensors that could not be read, with the reason.
    pub unreadable: Vec<(String, String)>,
}

impl LoadReport {
    fn is_clean(&self) -> bool {
        self == &Self::default()
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A checkpoint of another model differs in every name; a screenful of them is enough.
        const SHOWN: usize = 8;
        fn list<T>(
            f: &mut fmt::Formatter<'_>,
            what: &str,
            items: &[T],
            line: impl Fn(&T) -> String,
        ) -> fmt::Result {
            if items.is_empty() {
                return Ok(());
            }
            write!(f, "\n  {} {what}:", items.len())?;
            for item in items.iter().take(SHOWN) {
                write!(f, "\n    {}", line(item))?;
            }
            if items.len() > SHOWN { write!(f, "\n    and {} more", items.len() - SHOWN) } else { Ok(()) }
        }
        write!(f, "the checkpoint does not fit the configuration:")?;
        list(f, "missing", &self.missing, |(name, near)| match near {
            Some(near) => format!("{name} (did you mean {near}?)"),
            None => name.clone(),
        })?;
        list(f, "unused", &self.unused, String::clone)?;
        list(f, "of another shape", &self.mismatched, |m| {
            format!("{}: expected {:?}, got {:?}", m.name, m.expected, m.got)
        })?;
        list(f, "unreadable", &self.unreadable, |(name, reason)| format!("{name}: {reason}"))
    }
}

impl std::error::Error for LoadReport {}

impl Scope {
    /// Loads every parameter from a checkpoint in Hugging Face's names.
    pub fn load(source: Arc<dyn TensorSource>) -> Self {
        Self::root(Origin::Load(source), false)
    }

    /// Loads as [`Scope::load`] does, for further training.
    pub fn load_trainable(source: Arc<dyn TensorSource>) -> Self {
        Self::root(Origin::Load(source), true)
    }

    /// Reports as [`Scope::load`] does what does not fit, from names and shapes alone: the network takes no memory and
    /// cannot run.
    pub fn compare(source: Arc<dyn TensorSource>) -> Self {
        Self::root(Origin::Compare(source), false)
    }

    /// Draws every parameter; the seed and the names decide the values.
    pub fn init(seed: u64) -> Self {
        Self::root(Origin::Init { seed }, true)
    }

    /// Loads for further training what a checkpoint has by name and shape, and draws the rest as [`Scope::init`] does. What
    /// the checkpoint has besides is left.
    pub fn start_from(source: Arc<dyn TensorSource>, seed: u64) -> Self {
        Self::root(Origin::Start { source, seed }, true)
    }

    /// Notes names and shapes only: the network takes no memory, and computes nothing when it runs
    /// ([`tuwen_tensor::meter`]).
    pub fn count() -> Self {
        Self::root(Origin::Count, false)
    }

    fn root(origin: Origin, trainable: bool) -> Self {
        let root = Root {
            origin,
            lora: OnceLock::new(),
            precision: OnceLock::new(),
            spread: OnceLock::new(),
            trainable,
            found: Mutex::default(),
        };
        Self { root: Arc::new(root), path: String::new(), finer: 0 }
    }

    /// Gives linear layers adapters, drawn from a seed. Nothing else learns but what the settings name.
    pub fn with_lora(self, config: LoraConfig, seed: u64) -> Self {
        self.adapted(config, Origin::Init { seed })
    }

    /// Gives linear layers the adapters of a checkpoint that has their factors by the names of this network.
    pub fn with_loaded_lora(self, config: LoraConfig, factors: Arc<dyn TensorSource>) -> Self {
        self.adapted(config, Origin::Load(factors))
    }

    /// What the weights of linear layers and convolutions are multiplied in; single precision unless set. Parameters stay
    /// in single precision.
    pub fn with_precision(self, precision: Precision) -> Self {
        // A second call comes too late for what was made already; the first one holds.
        let _ = self.root.precision.set(precision);
        self
    }

    /// Multiplies the standard deviation of every normal draw: what suits wide layers is too little for narrow ones.
    pub fn with_spread(self, factor: f32) -> Self {
        // A second call comes too late for what was drawn already; the first one holds.
        let _ = self.root.spread.set(factor);
        self
    }

    fn adapted(self, config: LoraConfig, origin: Origin) -> Self {
        self.found().parameters.lora = Some(config.clone());
        // A second call would have nothing left to adapt; the first one holds.
        let _ = self.root.lora.set((config, origin));
        self
    }

    /// The scope of a part.
    pub fn enter(&self, part: impl fmt::Display) -> Self {
        Self { root: self.root.clone(), path: self.name(&part), finer: self.finer }
    }

    /// The same scope for a layer that takes little of the time and from which much of the error of reduced precision
    /// would come: its weights are multiplied in the precision that is next more exact.
    #[must_use]
    pub fn finer(&self) -> Self {
        Self { finer: self.finer + 1, ..self.clone() }
    }

    /// A learnable parameter of this scope.
    pub fn param(&self, name: &str, shape: &[usize], init: Init) -> Param {
        self.entry(name, shape, init, Kind::Parameter, &self.root.origin)
    }

    /// A learnable matrix or kernel that inputs are multiplied with.
    pub fn weight(&self, name: &str, shape: &[usize], init: Init) -> Param {
        let weight = self.param(name, shape, init);
        if let Some(&precision) = self.root.precision.get() {
            weight.set_precision((0..self.finer).fold(precision, |precision, _| precision.finer()));
        }
        weight
    }

    /// A tensor that the forward pass keeps (running statistics).
    pub fn buffer(&self, name: &str, shape: &[usize], init: Init) -> Param {
        self.entry(name, shape, init, Kind::Buffer, &self.root.origin)
    }

    /// The adapter of the linear layer at this path, if it shall have one. A begins uniform and B at zero, as in peft.
    pub(crate) fn lora(&self, inner: usize, out: usize) -> Option<LowRank> {
        self.found().parameters.linears.push(self.path.clone());
        let (config, origin) = self.root.lora.get().filter(|(config, _)| config.adapts(&self.path))?;
        let factor = |name, shape, init| self.entry(name, shape, init, Kind::Adapter, origin);
        Some(LowRank {
            a: factor(FACTORS[0], &[config.r, inner], Init::fan_in(inner)),
            b: factor(FACTORS[1], &[out, config.r], Init::ZEROS),
            scaling: config.scaling(config.r),
        })
    }

    /// The parameters of the finished network, or everything that did not fit.
    pub fn finish(self) -> Result<Parameters, LoadReport> {
        let mut found = self.found();
        let Found { parameters, mut report } = std::mem::take(&mut *found);
        let used: BTreeSet<&str> = parameters.iter().map(|entry| entry.name.as_str()).collect();
        for origin in [Some(&self.root.origin), self.root.lora.get().map(|(_, origin)| origin)] {
            let Some(Origin::Load(source) | Origin::Compare(source)) = origin else { continue };
            let unused = source.names().into_iter().filter(|name| !used.contains(name.as_str()));
            report.unused.extend(unused);
        }
        for (name, near) in &mut report.missing {
            *near = nearest(name, &report.unused);
        }
        if report.is_clean() { Ok(parameters) } else { Err(report) }
    }

    fn name(&self, part: &impl fmt::Display) -> String {
        if self.path.is_empty() { part.to_string() } else { format!("{}.{part}", self.path) }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.root.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn entry(&self, name: &str, shape: &[usize], init: Init, kind: Kind, origin: &Origin) -> Param {
        let name = self.name(&name);
        let value = match origin {
            Origin::Start { source, .. } if source.info(&name).is_some_and(|info| info.shape == shape) => {
                self.read(source, &name, shape)
            }
            Origin::Init { seed } | Origin::Start { seed, .. } => {
                let init = init.spread(self.root.spread.get().copied().unwrap_or(1.0));
                Tensor::new(&init.draw(shape.iter().product(), *seed, &name), shape)
            }
            Origin::Count => Tensor::shape_only_parameter(&name, shape),
            Origin::Load(source) | Origin::Compare(source) => self.read(source, &name, shape),
        };
        let param = Param::new(value, self.learns(&name, kind));
        self.found().parameters.entries.push(Entry { name, param: param.clone(), kind });
        param
    }

    fn learns(&self, name: &str, kind: Kind) -> bool {
        self.root.trainable
            && match kind {
                Kind::Buffer => false,
                Kind::Adapter => true,
                Kind::Parameter => self.root.lora.get().is_none_or(|(config, _)| config.saves(name)),
            }
    }

    /// Reads a tensor, or notes why not; a tensor that was not read is never used, as `finish` then fails. What does not
    /// learn stays in the checkpoint until it is needed.
    fn read(&self, source: &Arc<dyn TensorSource>, name: &str, shape: &[usize]) -> Tensor {
        let Some(info) = source.info(name) else {
            self.found().report.missing.push((name.to_owned(), None));
            return Tensor::shape_only(shape);
        };
        if info.shape != shape {
            let mismatch = Mismatch { name: name.to_owned(), expected: shape.to_vec(), got: info.shape };
            self.found().report.mismatched.push(mismatch);
            return Tensor::shape_only(shape);
        }
        if let Origin::Compare(_) = self.root.origin {
            return Tensor::shape_only(shape);
        }
        let tensor = if self.root.trainable {
            source.read(name).map(|tensor| Tensor::new(&tensor.to_f32(), shape))
        } else {
            StoredTensor::new(source.clone(), name).map(|tensor| Tensor::deferred(shape, tensor))
        };
        match tensor {
            Ok(tensor) => tensor,
            Err(error) => {
                self.found().report.unreadable.push((name.to_owned(), error.to_string()));
                Tensor::shape_only(shape)
            }
        }
    }
}

/// The candidate within a third of the name's length in edits, if any.
fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    /// A checkpoint of another model has thousands of unused names; none of them is a misspelling.
    const MAX_CANDIDATES: usize = 64;
    let by_distance = |candidate: &&String| edit_distance(name, candidate);
    let best = candidates.iter().take(MAX_CANDIDATES).min_by_key(by_distance)?;
    (edit_distance(name, best) <= name.len() / 3).then(|| best.clone())
}

/// Levenshtein's distance over bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tuwen_tensor::checkpoint::RawTensor;

    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }

    #[test]
    fn weights_have_the_precision_of_the_root_but_for_finer_layers() {
        let scope = Scope::init(1).with_precision(Precision::Int8);
        let precision = |scope: &Scope| scope.weight("weight", &[2, 2], Init::ZEROS).value().precision();
        assert_eq!(precision(&scope.enter("a")), Precision::Int8);
        assert_eq!(precision(&scope.finer().enter("b")), Precision::Bf16);
        assert_eq!(precision(&scope.finer().finer().finer().enter("c")), Precision::F32);
    }

    #[test]
    fn a_start_loads_what_fits_and_draws_the_rest_as_ever() {
        let draw = |scope: Scope| {
            let [a, b] = ["a", "b"].map(|name| scope.param(name, &[2], Init::Normal(1.0)).value().to_vec());
            (a, b, scope.finish())
        };
        let (fresh_a, fresh_b, _) = draw(Scope::init(3));
        let tensor = |shape: &[usize], values: &[f32]| RawTensor::from_f32(shape, values);
        let source = BTreeMap::from([
            ("a".to_owned(), tensor(&[2], &[5.0, 6.0])),
            ("b".to_owned(), tensor(&[1], &[7.0])),
            ("c".to_owned(), tensor(&[1], &[8.0])),
        ]);
        let (a, b, parameters) = draw(Scope::start_from(Arc::new(source), 3));
        assert_eq!((a.as_slice(), &b), (&[5.0, 6.0][..], &fresh_b));
        assert_ne!(a, fresh_a);
        assert_eq!(parameters.expect("nothing is missing").trainable().count(), 2);
    }

    #[test]
    fn counting_takes_no_memory_and_keeps_names() {
        let scope = Scope::count();
        scope.enter("a").enter(3).param("weight", &[1_000_000, 1_000_000], Init::ZEROS);
        scope.enter("a").buffer("running_mean", &[5], Init::ZEROS);
        let parameters = scope.finish().expect("nothing to miss");
        assert_eq!(parameters.total(), 1_000_000_000_000);
        assert!(parameters.get("a.3.weight").is_some());
    }
}
