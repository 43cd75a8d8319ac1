//! The `sinew` command.

use std::process::ExitCode;

// Decoding allocates and frees a few kilobytes for each column of each batch, on every thread; the system
// allocator gives memory back to the kernel in between and faults it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sinew::cli::main()
}
