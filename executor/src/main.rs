//! The `sinew-executor` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sinew_executor::main()
}
