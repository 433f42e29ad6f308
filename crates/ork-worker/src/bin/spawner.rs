//! The spawner alone, for programs that embed a worker and cannot be re-executed, as tests cannot.

fn main() {
    ork_worker::spawner::run_if_asked();
    eprintln!("ork-spawner is started by Ork; there is nothing to run by hand");
    std::process::exit(2);
}
