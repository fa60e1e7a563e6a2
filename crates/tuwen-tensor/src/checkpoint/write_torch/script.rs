//! TorchScript: a tree of modules that hold tensors and compute nothing.
//!
//! It is what openai/CLIP's loader takes (`clip.load`): of the file's modules it uses the state dict.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Pickle;
use crate::checkpoint::{Problem, TensorInfo};

/// The records beside the data: the modules, their classes, and no constants.
pub(super) fn records(tensors: &[(String, TensorInfo)]) -> Result<Vec<(&'static str, Vec<u8>)>, Problem> {
    let mut classes = Classes::default();
    let mut pickle = Pickle::new();
    classes.pickle(&tree(tensors)?, tensors, &mut pickle)?;
    let code = classes.code.into_bytes();
    let constants = b"\x80\x02).".to_vec();
    Ok(vec![("data.pkl", pickle.finish()), ("code/__torch__.py", code), ("constants.pkl", constants)])
}

/// Modules by name, tensors by number.
enum Node {
    Tensor(usize),
    Module(BTreeMap<String, Node>),
}

type Module = BTreeMap<String, Node>;

/// The tree that dotted names describe.
fn tree(tensors: &[(String, TensorInfo)]) -> Result<Module, Problem> {
    let mut root = Module::new();
    for (key, (name, _)) in tensors.iter().enumerate() {
        let fault = |reason: &str| Problem::tensor(name, reason);
        let mut parts: Vec<&str> = name.split('.').collect();
        if !parts.iter().all(|part| is_word(part)) {
            return Err(fault("a name that no attribute of a module can have"));
        }
        let last = parts.pop().unwrap_or_default();
        let mut module = &mut root;
        for part in parts {
            let child = module.entry(part.to_owned()).or_insert_with(|| Node::Module(Module::new()));
            let Node::Module(inner) = child else { return Err(fault("a part of a tensor")) };
            module = inner;
        }
        if module.insert(last.to_owned(), Node::Tensor(key)).is_some() {
            return Err(fault("a tensor with parts"));
        }
    }
    Ok(root)
}

fn is_word(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The classes of all modules; those with the same attributes share one.
#[derive(Default)]
struct Classes {
    code: String,
    numbers: BTreeMap<String, usize>,
}

impl Classes {
    /// Pickles a module and everything in it.
    fn pickle(
        &mut self,
        module: &Module,
        tensors: &[(String, TensorInfo)],
        pickle: &mut Pickle,
    ) -> Result<(), Problem> {
        pickle.global("__torch__", &format!("M{}", self.class(module)));
        pickle.op(b")\x81}("); // an object of it, and its attributes
        for (name, node) in module {
            pickle.text(name);
            match node {
                Node::Tensor(key) => pickle.tensor(*key, &tensors[*key].0, &tensors[*key].1)?,
                Node::Module(inner) => self.pickle(inner, tensors, pickle)?,
            }
        }
        pickle.text("training");
        pickle.op(b"\x89"); // false
        pickle.text("_is_full_backward_hook");
        pickle.op(b"Nub"); // none
        Ok(())
    }

    /// The number of a module's class, which is written if it is new.
    fn class(&mut self, module: &Module) -> usize {
        let mut parameters = String::new();
        let mut body = String::new();
        for (name, node) in module {
            let kind = match node {
                Node::Tensor(_) => {
                    parameters += &format!("\"{name}\", ");
                    "Tensor".to_owned()
                }
                Node::Module(inner) => format!("__torch__.M{}", self.class(inner)),
            };
            // Only a name that begins with a letter can be declared like a variable.
            body += &if name.starts_with(|c: char| c.is_ascii_digit()) {
                format!("  __annotations__[\"{name}\"] = {kind}\n")
            } else {
                format!("  {name} : {kind}\n")
            };
        }
        let class = format!("  __parameters__ = [{parameters}]\n  __buffers__ = []\n{body}");
        if let Some(&number) = self.numbers.get(&class) {
            return number;
        }
        let number = self.numbers.len();
        let rest = "  training : bool\n  _is_full_backward_hook : Optional[bool]\n";
        // Writing to a string cannot fail.
        let _ = write!(self.code, "class M{number}(Module):\n{class}{rest}");
        self.numbers.insert(class, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::DType;

    fn code(names: &[&str]) -> Result<String, String> {
        let info = TensorInfo { dtype: DType::F32, shape: vec![1] };
        let tensors: Vec<_> = names.iter().map(|&name| (name.to_owned(), info.clone())).collect();
        let records = records(&tensors).map_err(|problem| problem.to_string())?;
        Ok(String::from_utf8(records[1].1.clone()).expect("text"))
    }

    #[test]
    fn like_modules_share_a_class() {
        let code = code(&["blocks.0.bias", "blocks.0.weight", "blocks.1.bias", "blocks.1.weight", "scale"]);
        let code = code.expect("a tree");
        assert_eq!(code.matches("class ").count(), 3, "{code}");
        assert!(code.contains("__annotations__[\"1\"] = __torch__.M0\n"), "{code}");
        assert!(code.contains("class M2(Module):\n  __parameters__ = [\"scale\", ]\n"), "{code}");
    }

    #[test]
    fn names_without_a_tree_are_refused() {
        for (names, expected) in [
            (&["a", "a.b"][..], "a part of a tensor"),
            (&["a.b", "a"], "a tensor with parts"),
            (&["a b"], "no attribute"),
            (&["a."], "no attribute"),
        ] {
            let message = code(names).expect_err("no tree");
            assert!(message.contains(expected), "{message}");
        }
    }
}
