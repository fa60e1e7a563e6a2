//! Prints the instruction sets that the kernels can use on this CPU, slowest first, one a line.

#![allow(clippy::print_stdout)] // its purpose

fn main() {
    for isa in tuwen_kernels::available() {
        println!("{isa}");
    }
}
