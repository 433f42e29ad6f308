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
mod signals;
mod suggest;
mod watch;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ork_worker::spawner::run_if_asked();
    // With huge pages the allocator's sparse arenas took 86 MiB of an idle server's memory. Where
    // the kernel refuses, only memory is lost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    cli::main()
}
