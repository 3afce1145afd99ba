//! `caisson`: the command line. All of it is in the library, from which the manual is generated too.

fn main() -> std::process::ExitCode {
    caisson_cli::main()
}
