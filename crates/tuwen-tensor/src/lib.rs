//! Tensors, the tape, and checkpoint files
