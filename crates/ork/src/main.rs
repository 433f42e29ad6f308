//! The `ork` command: server, worker and client in one binary.

mod bundle;
mod changes;
mod cli;
mod context;
mod exit;
mod files;
mod host;
mod lines;
mod output;
mod params;
mod runs;
mod settings;
mod suggest;
mod watch;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ork_worker::spawner::run_if_asked();
    cli::main()
}
