//! The command: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    karuta_load_tester::cli::main()
}
