//! The `sinew` command.

use std::process::ExitCode;

// Decoding allocates and frees a few kilobytes for each column of each batch, on every thread; the system
// allocator gives memory back to the kernel in between and faults it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h; the binding has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Milliseconds after which freed memory goes back to the system: a tenth of the default, since what
/// decoding needs would otherwise stand beside the rows it decoded for the whole of a training.
const PURGE_AFTER: std::ffi::c_long = 100;

fn main() -> ExitCode {
    // SAFETY: the option exists, and setting it is possible at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_AFTER) };
    sinew::cli::main()
}
