//! The `ork` command: server, worker and client in one binary.

mod changes;
mod cli;
mod exit;
mod files;
mod output;
mod suggest;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
