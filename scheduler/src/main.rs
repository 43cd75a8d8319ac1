//! The `sinew-scheduler` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sinew_scheduler::main()
}
