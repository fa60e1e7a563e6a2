//! CPU kernels on slices; the only crate of tuwen that uses unsafe code
