//! A pickle machine that builds tensor descriptions and plain containers, and can do nothing else.
//!
//! Values are small copies; containers live in one arena and refer to each other by index, so that neither depth nor
//! cycles cost stack, and every instruction adds at most one value: [`MAX_STEPS`] bounds time and memory alike.
//! Source of the instruction set: CPython's `Lib/pickletools.py`, protocols 0 to 5.

use std::collections::HashMap;

use super::globals::{Global, resolve};
use super::{DType, Problem};

/// Instructions of one pickle; a checkpoint of 1000 tensors with its optimizer state has about 100 000.
const MAX_STEPS: usize = 2_000_000;

/// Axes of one tensor.
const MAX_RANK: usize = 16;

/// A value on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Str(&'a str),
    /// Read past: floats, bytes, sets, long integers, results of inert names.
    Opaque,
    Global(Global),
    Node(usize),
}

/// A container or tensor in the arena.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Sequence(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A TorchScript module; its attributes are the dictionary it was built with.
    Module(Value<'a>),
    Storage(Box<Storage<'a>>),
    Tensor(Box<PickledTensor<'a>>),
}

/// A reference to a storage of the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// `None`: untyped, `len` counts bytes.
    pub dtype: Option<DType>,
    pub key: &'a str,
    pub len: usize,
    /// Where a view of another storage begins (old format only), in elements.
    pub view_offset: usize,
}

/// A tensor as the pickle describes it, nothing checked against its storage yet. Offset and strides count elements.
#[derive(Clone, Debug)]
pub(super) struct PickledTensor<'a> {
    pub dtype: DType,
    pub storage: Storage<'a>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A pickle that was read to its end.
pub(super) struct Pickle<'a> {
    pub root: Value<'a>,
    pub nodes: Vec<Node<'a>>,
    /// Bytes read, for files with several pickles in a row.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    pub fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(index) => self.nodes.get(index),
            _ => None,
        }
    }
}

/// Reads one pickle from the front of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, Problem> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
    };
    for _ in 0..MAX_STEPS {
        if let Some(root) = machine.step()? {
            return Ok(Pickle { root, nodes: machine.nodes, len: machine.at });
        }
    }
    Err(machine.fault(format!("more than {MAX_STEPS} instructions")))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    nodes: Vec<Node<'a>>,
}

type Step<T> = Result<T, Problem>;

impl<'a> Machine<'a> {
    fn fault(&self, reason: impl Into<String>) -> Problem {
        Problem::Pickle { at: self.at, reason: reason.into() }
    }

    /// Executes one instruction; the root value once STOP is reached.
    fn step(&mut self) -> Step<Option<Value<'a>>> {
        let opcode = self.take(1)?[0];
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => match self.take(1)?[0] {
                0..=5 => {}
                protocol => return Err(self.fault(format!("protocol {protocol}; known are 0 to 5"))),
            },
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' | b'I' | b'L' | b'F' | b'J' | b'K' | b'M' | b'G' | 0x88..=0x8b => self.number(opcode)?,
            b'X' | b'V' | b'S' | b'T' | b'U' | b'B' | b'C' | 0x8c..=0x8e | 0x96 => self.text(opcode)?,
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.remember(opcode)?,
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => {
                self.build_container(opcode)?
            }
            b'a' | b'e' | 0x90 | b's' | b'u' => self.fill_container(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                return Err(Problem::Refused { name: format!("{module}.{name}") });
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let result = self.reduce(callee, arguments)?;
                self.stack.push(result);
            }
            0x92 => {
                let (_keywords, arguments, callee) = (self.pop()?, self.pop()?, self.pop()?);
                let result = self.reduce(callee, arguments)?;
                self.stack.push(result);
            }
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push_node(Node::Storage(Box::new(storage)));
            }
            _ => return Err(self.fault(format!("instruction {opcode:#04x} has no place in a checkpoint"))),
        }
        Ok(None)
    }

    fn number(&mut self, opcode: u8) -> Step<()> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.take(1)?[0].into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'G' => {
                self.take(8)?;
                Value::Opaque
            }
            0x8a | 0x8b => {
                let len = if opcode == 0x8a { self.take(1)?[0].into() } else { self.length(4)? };
                long(self.take(len)?)
            }
            _ => match self.line()? {
                "00" if opcode == b'I' => Value::Bool(false),
                "01" if opcode == b'I' => Value::Bool(true),
                digits => digits.trim_end_matches('L').parse().map_or(Value::Opaque, Value::Int),
            },
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Step<()> {
        let bytes = match opcode {
            b'S' | b'V' => {
                let line = self.line()?;
                let quoted = line.len() >= 2 && opcode == b'S' && line.starts_with(['\'', '"']);
                let text = if quoted { &line[1..line.len() - 1] } else { line };
                self.stack.push(if text.contains('\\') { Value::Opaque } else { Value::Str(text) });
                return Ok(());
            }
            b'U' | b'C' | 0x8c => {
                let len = self.take(1)?[0];
                self.take(len.into())?
            }
            b'X' | b'T' | b'B' => {
                let len = self.length(4)?;
                self.take(len)?
            }
            _ => {
                let len = self.length(8)?;
                self.take(len)?
            }
        };
        let is_text = matches!(opcode, b'X' | b'T' | b'U' | 0x8c | 0x8d);
        let value = std::str::from_utf8(bytes).ok().filter(|_| is_text).map_or(Value::Opaque, Value::Str);
        self.stack.push(value);
        Ok(())
    }

    fn remember(&mut self, opcode: u8) -> Step<()> {
        let slot = match opcode {
            0x94 => self.memo.len(),
            b'q' | b'h' => self.take(1)?[0].into(),
            b'r' | b'j' => self.length(4)?,
            _ => {
                let line = self.line()?;
                line.parse().map_err(|_| self.fault(format!("memo slot `{line}`")))?
            }
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let value =
                *self.memo.get(&slot).ok_or_else(|| self.fault(format!("memo slot {slot} is empty")))?;
            self.stack.push(value);
        } else {
            let top = self.top()?;
            self.memo.insert(slot, top);
        }
        Ok(())
    }

    fn build_container(&mut self, opcode: u8) -> Step<()> {
        let node = match opcode {
            b')' | b']' => Node::Sequence(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b't' | b'l' => Node::Sequence(self.pop_to_mark()?),
            b'd' => Node::Dict(self.pop_pairs()?),
            0x85..=0x87 => {
                let mut items = (0x84..opcode).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
                items.reverse();
                Node::Sequence(items)
            }
            // A set: read past, filled (0x91) or to be filled (0x8f).
            _ => {
                if opcode == 0x91 {
                    self.pop_to_mark()?;
                }
                self.stack.push(Value::Opaque);
                return Ok(());
            }
        };
        self.push_node(node);
        Ok(())
    }

    fn fill_container(&mut self, opcode: u8) -> Step<()> {
        if matches!(opcode, b's' | b'u') {
            let mut pairs = if opcode == b's' {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![(key, value)]
            } else {
                self.pop_pairs()?
            };
            match self.top_node()? {
                Some(Node::Dict(entries)) => entries.append(&mut pairs),
                Some(_) => return Err(self.fault("entries for something that is no dictionary")),
                None => {}
            }
        } else {
            let mut items = if opcode == b'a' { vec![self.pop()?] } else { self.pop_to_mark()? };
            match self.top_node()? {
                Some(Node::Sequence(entries)) => entries.append(&mut items),
                Some(_) => return Err(self.fault("items for something that is no list")),
                None => {}
            }
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Step<()> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Str(name), Value::Str(module)) => (module, name),
                _ => return Err(self.fault("a global whose name is no text")),
            }
        };
        let global =
            resolve(module, name).ok_or_else(|| Problem::Refused { name: format!("{module}.{name}") })?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    /// What `callee(*arguments)` would give, for the few names whose result is known without calling anything.
    fn reduce(&mut self, callee: Value<'a>, arguments: Value<'a>) -> Step<Value<'a>> {
        let Value::Global(global) = callee else {
            return Err(self.fault("a call of something that is no name"));
        };
        match global {
            Global::Dict => Ok(self.add(Node::Dict(Vec::new()))),
            Global::Module => Ok(self.add(Node::Module(Value::None))),
            Global::Inert => Ok(Value::Opaque),
            Global::FirstArgument => self.argument(arguments, 0),
            Global::RebuildTensor => {
                let dtype = self.storage_argument(arguments)?.dtype;
                let dtype = dtype.ok_or_else(|| self.fault("a tensor without an element type"))?;
                self.tensor(arguments, dtype)
            }
            Global::RebuildTensorV3 => match self.argument(arguments, 6)? {
                Value::Global(Global::DType(dtype)) => self.tensor(arguments, dtype),
                _ => Err(self.fault("a tensor without an element type")),
            },
            Global::RebuildFromType => {
                let (function, inner) = (self.argument(arguments, 0)?, self.argument(arguments, 2)?);
                match function {
                    Value::Global(Global::RebuildTensor | Global::RebuildTensorV3) => {
                        self.reduce(function, inner)
                    }
                    _ => Err(self.fault("a tensor subclass that is not rebuilt from a plain tensor")),
                }
            }
            Global::Storage(_) | Global::DType(_) => Err(self.fault("a call of a type")),
        }
    }

    fn tensor(&mut self, arguments: Value<'a>, dtype: DType) -> Step<Value<'a>> {
        let storage = self.storage_argument(arguments)?;
        let offset = self.argument(arguments, 1)?;
        let shape = self.argument(arguments, 2)?;
        let strides = self.argument(arguments, 3)?;
        let tensor = PickledTensor {
            dtype,
            storage,
            offset: self.size(offset)?,
            shape: self.sizes(shape)?,
            strides: self.sizes(strides)?,
        };
        Ok(self.add(Node::Tensor(Box::new(tensor))))
    }

    /// The persistent id `('storage', class, key, location, length[, view])`.
    fn storage(&self, id: Value<'a>) -> Step<Storage<'a>> {
        let (Value::Str("storage"), Value::Global(Global::Storage(dtype)), Value::Str(key), len) =
            (self.argument(id, 0)?, self.argument(id, 1)?, self.argument(id, 2)?, self.argument(id, 4)?)
        else {
            return Err(self.fault("a persistent id that is no storage"));
        };
        let view_offset = match self.argument(id, 5) {
            Ok(view @ Value::Node(_)) => self.size(self.argument(view, 1)?)?,
            _ => 0,
        };
        Ok(Storage { dtype, key, len: self.size(len)?, view_offset })
    }

    fn storage_argument(&self, arguments: Value<'a>) -> Step<Storage<'a>> {
        match self.argument(arguments, 0)? {
            Value::Node(index) => match &self.nodes[index] {
                Node::Storage(storage) => Ok(**storage),
                _ => Err(self.fault("a tensor without a storage")),
            },
            _ => Err(self.fault("a tensor without a storage")),
        }
    }

    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        // Only modules have attributes of interest; those of an OrderedDict (`_metadata`) and others are read past.
        if let Some(Node::Module(attributes)) = self.top_node()? {
            *attributes = state;
        }
        Ok(())
    }

    fn argument(&self, arguments: Value<'a>, index: usize) -> Step<Value<'a>> {
        match arguments {
            Value::Node(node) => match &self.nodes[node] {
                Node::Sequence(items) => items.get(index).copied(),
                _ => None,
            },
            _ => None,
        }
        .ok_or_else(|| self.fault(format!("argument {index} is missing")))
    }

    fn size(&self, value: Value<'a>) -> Step<usize> {
        match value {
            Value::Int(size) => usize::try_from(size).map_err(|_| self.fault(format!("a size of {size}"))),
            _ => Err(self.fault("a size that is no integer")),
        }
    }

    fn sizes(&self, value: Value<'a>) -> Step<Vec<usize>> {
        match value {
            Value::Node(index) => match &self.nodes[index] {
                Node::Sequence(items) if items.len() <= MAX_RANK => {
                    items.iter().map(|&item| self.size(item)).collect()
                }
                _ => Err(self.fault(format!("a shape that is no tuple of at most {MAX_RANK} sizes"))),
            },
            _ => Err(self.fault("a shape that is no tuple")),
        }
    }

    fn add(&mut self, node: Node<'a>) -> Value<'a> {
        self.nodes.push(node);
        Value::Node(self.nodes.len() - 1)
    }

    fn push_node(&mut self, node: Node<'a>) {
        let value = self.add(node);
        self.stack.push(value);
    }

    fn top(&self) -> Step<Value<'a>> {
        self.stack.last().copied().ok_or_else(|| self.fault("the stack is empty"))
    }

    /// The container on top; `None` for a value that is read past.
    fn top_node(&mut self) -> Step<Option<&mut Node<'a>>> {
        match self.top()? {
            Value::Node(index) => Ok(self.nodes.get_mut(index)),
            Value::Opaque => Ok(None),
            _ => Err(self.fault("items for something that is no container")),
        }
    }

    fn pop(&mut self) -> Step<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.fault("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.fault("the stack is empty"))
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or_else(|| self.fault("no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_pairs(&mut self) -> Step<Vec<(Value<'a>, Value<'a>)>> {
        let items = self.pop_to_mark()?;
        match items.as_chunks::<2>() {
            (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
            _ => Err(self.fault("a key without a value")),
        }
    }

    fn take(&mut self, len: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.fault(format!("ends here, {len} more bytes expected")))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// An unsigned length of `width` bytes.
    fn length(&mut self, width: usize) -> Step<usize> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| self.fault("a length beyond memory"))
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let len =
            rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.fault("a line without end"))?;
        let line = std::str::from_utf8(&rest[..len]).map_err(|_| self.fault("a line that is not UTF-8"))?;
        self.at += len + 1;
        Ok(line)
    }
}

/// A little-endian two's-complement integer of any length.
fn long(bytes: &[u8]) -> Value<'static> {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut extended = [if negative { 0xff } else { 0 }; 8];
    extended[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(extended))
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
