//! The tensor: shape, buffer, device, and its place on the tape.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::deferred::{Deferred, Values};
use crate::device::{Buffer, Device, Packed, Weight};
use crate::meter::Meter;
use crate::pool::HostMemory;
use crate::tape::{self, Gradients, Node};
use crate::{Cpu, Precision, ops};

/// An immutable f32 tensor, contiguous and row-major. Cloning shares the buffer.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    shape: Vec<usize>,
    values: Arc<Values>,
    device: &'static dyn Device,
    node: Option<Arc<Node>>,
    /// What it is multiplied in where it is a weight.
    precision: Precision,
    /// The form in which a weight is multiplied, made at its first use.
    packed: OnceLock<Packed>,
}

impl Tensor {
    /// A tensor on the CPU.
    ///
    /// # Panics
    /// If the shape does not hold as many elements as `values`.
    pub fn new(values: &[f32], shape: &[usize]) -> Self {
        Self::on(&Cpu, values, shape)
    }

    /// A tensor on a device.
    pub fn on(device: &'static dyn Device, values: &[f32], shape: &[usize]) -> Self {
        Self::from_buffer(device, device.upload(values), shape)
    }

    /// A tensor of equal values on the CPU.
    pub fn full(value: f32, shape: &[usize]) -> Self {
        Self::from_buffer(&Cpu, Cpu.full(shape.iter().product(), value), shape)
    }

    /// A tensor of equal values, shaped as this one and on its device.
    pub fn full_like(&self, value: f32) -> Self {
        Self::from_buffer(self.device(), self.device().full(self.elements(), value), self.shape())
    }

    /// A tensor of a shape alone, without memory. Operations on it compute nothing: [`crate::meter`] notes what they
    /// would take.
    pub fn shape_only(shape: &[usize]) -> Self {
        Self::from_buffer(&Meter, Meter.unnamed(shape.iter().product()), shape)
    }

    /// A parameter of a shape alone; what is computed with it is noted under its name.
    pub fn shape_only_parameter(name: &str, shape: &[usize]) -> Self {
        Self::from_buffer(&Meter, Meter.parameter(name, shape.iter().product()), shape)
    }

    pub(crate) fn from_buffer(device: &'static dyn Device, buffer: Buffer, shape: &[usize]) -> Self {
        Self::share(device, Arc::new(Values::held(buffer)), shape)
    }

    /// A tensor on the CPU whose values stay at their source until they are needed.
    pub fn deferred(shape: &[usize], source: impl Deferred + 'static) -> Self {
        Self::share(&Cpu, Arc::new(Values::deferred(shape.iter().product(), source)), shape)
    }

    /// Whether the values are still at their source.
    pub fn is_deferred(&self) -> bool {
        self.source().is_some()
    }

    /// Whether the values are on the CPU, or come to it when they are needed.
    pub fn is_on_cpu(&self) -> bool {
        self.is_deferred() || self.buffer().try_storage::<HostMemory>().is_some()
    }

    fn share(device: &'static dyn Device, values: Arc<Values>, shape: &[usize]) -> Self {
        let elements: usize = shape.iter().product();
        assert_eq!(elements, values.len(), "shape {shape:?} does not hold {} elements", values.len());
        Self(Arc::new(Inner {
            shape: shape.to_vec(),
            values,
            device,
            node: None,
            precision: Precision::F32,
            packed: OnceLock::new(),
        }))
    }

    /// Lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// The shape as an array.
    ///
    /// # Panics
    /// If the tensor does not have `N` axes.
    pub fn dims<const N: usize>(&self) -> [usize; N] {
        let Ok(dims) = self.shape().try_into() else { panic!("expected {N} axes, got {:?}", self.shape()) };
        dims
    }

    /// Length of the last axis (1 for a scalar).
    pub fn last_dim(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.0.values.len()
    }

    /// Where the tensor lives.
    pub fn device(&self) -> &'static dyn Device {
        self.0.device
    }

    /// Copies the values to the host.
    pub fn to_vec(&self) -> Vec<f32> {
        let Some(source) = self.source() else { return self.device().read(self.buffer()) };
        let mut copy = Vec::with_capacity(self.elements());
        source.with_values(&mut |values| copy.extend_from_slice(values));
        copy
    }

    /// Calls `read` with the values on the host, which are not copied where they are there; those of a deferred tensor stay at
    /// their source.
    pub fn with_values(&self, mut read: impl FnMut(&[f32])) {
        if let Some(source) = self.source() {
            return source.with_values(&mut read);
        }
        match self.buffer().try_storage::<HostMemory>() {
            Some(memory) => read(memory.as_slice()),
            None => read(&self.device().read(self.buffer())),
        }
    }

    /// The value of a tensor of one element.
    ///
    /// # Panics
    /// If it has another number of elements.
    pub fn item(&self) -> f32 {
        assert_eq!(self.elements(), 1, "item() of a tensor of shape {:?}", self.shape());
        self.to_vec()[0]
    }

    /// The same values under another shape; no copy.
    pub fn reshape(&self, shape: &[usize]) -> Self {
        ops::reshape(self, shape)
    }

    /// The same values off the tape; no copy.
    pub fn detach(&self) -> Self {
        self.remade(None, self.0.precision)
    }

    /// The same values, to be multiplied in this precision where they are a weight.
    pub fn with_precision(&self, precision: Precision) -> Self {
        self.remade(self.0.node.clone(), precision)
    }

    /// What it is multiplied in where it is a weight; single precision unless set.
    pub fn precision(&self) -> Precision {
        self.0.precision
    }

    /// The same values, off the tape, under another shape.
    pub(crate) fn view(&self, shape: &[usize]) -> Self {
        Self::share(self.0.device, self.0.values.clone(), shape)
    }

    /// The same values as a leaf: [`Tensor::backward`] gives a gradient for it.
    pub fn leaf(&self) -> Self {
        self.with_node(Node::leaf())
    }

    /// Whether operations on this tensor are recorded.
    pub fn requires_grad(&self) -> bool {
        self.0.node.is_some()
    }

    /// Number of operations that the tape keeps for this tensor; where nothing learns, none.
    pub fn tape_len(&self) -> usize {
        self.node().map_or(0, tape::len)
    }

    /// Gradients of this scalar with respect to every leaf it depends on. Consumes the tape.
    ///
    /// # Panics
    /// If the tensor has more than one element.
    pub fn backward(self) -> Gradients {
        assert_eq!(self.elements(), 1, "backward() starts at a scalar; this is {:?}", self.shape());
        let seed = Self::from_buffer(self.device(), self.device().full(1, 1.0), self.shape());
        tape::backward(self, seed)
    }

    /// Gradients of `sum(self * seed)`; consumes the tape. Gradient caching starts here with cached feature gradients.
    pub fn backward_from(self, seed: Tensor) -> Gradients {
        assert_eq!(self.shape(), seed.shape(), "the seed is shaped as the tensor");
        tape::backward(self, seed)
    }

    pub(crate) fn buffer(&self) -> &Buffer {
        self.0.values.buffer(self.0.device)
    }

    /// Where the values are, as long as they are not held.
    pub(crate) fn source(&self) -> Option<&dyn Deferred> {
        self.0.values.source()
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.0.node.as_ref()
    }

    pub(crate) fn with_node(&self, node: Arc<Node>) -> Self {
        self.remade(Some(node), self.0.precision)
    }

    fn remade(&self, node: Option<Arc<Node>>, precision: Precision) -> Self {
        Self(Arc::new(Inner {
            shape: self.0.shape.clone(),
            values: self.0.values.clone(),
            device: self.0.device,
            node,
            precision,
            packed: OnceLock::new(),
        }))
    }

    /// The form in which this weight is multiplied.
    pub(crate) fn packed(&self, pack: impl FnOnce(Weight) -> Packed) -> &Packed {
        self.0.packed.get_or_init(|| self.0.values.with_weight(self.0.device, pack))
    }

    /// `self + other`, reusing this buffer when nobody else holds it.
    pub(crate) fn accumulate(self, other: Tensor) -> Tensor {
        let device = self.device();
        let shape = self.0.shape.clone();
        let mut buffer = self.into_buffer();
        device.add_assign(&mut buffer, other.buffer());
        Self::from_buffer(device, buffer, &shape)
    }

    /// The buffer for writing: this one when nobody else holds it, else a copy.
    pub(crate) fn into_buffer(self) -> Buffer {
        let device = self.device();
        let shared = match Arc::try_unwrap(self.0) {
            Ok(inner) => inner.values,
            Err(shared) => shared.values.clone(),
        };
        match Arc::try_unwrap(shared) {
            Ok(values) => values.into_buffer(device),
            Err(shared) => device.scale(shared.buffer(device), 1.0),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?} on {}", self.shape(), self.device().name())
    }
}
