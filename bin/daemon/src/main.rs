//! `caissond`: reads what it is told, and serves.

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    let options =
        caisson_daemon::settle(caisson_daemon::Flags::parse(), caisson_daemon::programs()?)?;
    tracing_subscriber::fmt()
        .with_max_level(options.log_level)
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(caisson_daemon::run(options));
    // Threads that still wait for a client must not keep the process.
    runtime.shutdown_background();
    result
}
