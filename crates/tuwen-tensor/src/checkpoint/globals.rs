//! The closed list of names a pickle may mention. Whatever is not here is refused.

use super::DType;

/// What a listed name stands for. None of them is ever called: each only says how its arguments are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    /// A storage class; `None` is the untyped storage, counted in bytes.
    Storage(Option<DType>),
    DType(DType),
    /// `OrderedDict` and its kin: an empty or copied dictionary.
    Dict,
    /// `_rebuild_tensor` and `_rebuild_tensor_v2`: storage, offset, shape, strides, ...
    RebuildTensor,
    /// `_rebuild_tensor_v3`: the same, with the element type as argument 6.
    RebuildTensorV3,
    /// Wrappers whose first argument is the value itself.
    FirstArgument,
    /// `_rebuild_from_type_v2`: function, class, arguments, state.
    RebuildFromType,
    /// A TorchScript class (`__torch__.*`): only its attributes matter.
    Module,
    /// A plain value that may lie beside the tensors (an options object, a number of numpy's) and is read past.
    Inert,
}

/// Looks a name up; `None` means refused.
pub(super) fn resolve(module: &str, name: &str) -> Option<Global> {
    if module == "__torch__" || module.starts_with("__torch__.") {
        return Some(Global::Module);
    }
    Some(match (module, name) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter") => Global::Dict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::FirstArgument,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch.jit._pickle", _) => Global::FirstArgument,
        ("torch" | "torch.storage", "UntypedStorage") => Global::Storage(None),
        ("torch", storage) if storage.ends_with("Storage") => Global::Storage(Some(storage_type(storage)?)),
        ("torch", "Size" | "device" | "Tensor") | ("torch.nn.parameter", "Parameter" | "Buffer") => {
            Global::Inert
        }
        ("torch", name) => Global::DType(torch_dtype(name)?),
        ("argparse", "Namespace")
        | ("_codecs", "encode")
        | ("datetime", "datetime" | "date" | "timedelta")
        | ("pathlib", "Path" | "PosixPath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath")
        | ("numpy", "dtype" | "ndarray")
        | (
            "numpy.core.multiarray" | "numpy._core.multiarray" | "numpy.core.numeric" | "numpy._core.numeric",
            "scalar" | "_reconstruct" | "_frombuffer",
        )
        | (
            "builtins" | "__builtin__",
            "int" | "float" | "bool" | "complex" | "str" | "bytes" | "bytearray" | "list" | "tuple" | "dict"
            | "set" | "frozenset" | "slice" | "range",
        ) => Global::Inert,
        _ => return None,
    })
}

fn storage_type(class: &str) -> Option<DType> {
    Some(match class {
        "DoubleStorage" => DType::F64,
        "FloatStorage" => DType::F32,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "CharStorage" => DType::I8,
        "ByteStorage" => DType::U8,
        "BoolStorage" => DType::Bool,
        _ => return None,
    })
}

fn torch_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "float64" | "double" => DType::F64,
        "float32" | "float" => DType::F32,
        "float16" | "half" => DType::F16,
        "bfloat16" => DType::BF16,
        "int64" | "long" => DType::I64,
        "int32" | "int" => DType::I32,
        "int16" | "short" => DType::I16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_not_listed() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("__builtin__", "exec"),
            ("torch", "load"),
            ("torch.storage", "_load_from_bytes"),
            ("torch", "ComplexFloatStorage"),
            ("__torch__evil", "Node"),
            ("numpy.core.multiarray", "fromfile"),
        ] {
            assert_eq!(resolve(module, name), None, "{module}.{name}");
        }
        assert_eq!(resolve("torch", "HalfStorage"), Some(Global::Storage(Some(DType::F16))));
        assert_eq!(resolve("torch", "bfloat16"), Some(Global::DType(DType::BF16)));
    }
}
