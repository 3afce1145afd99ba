//! The init program: see `caisson_launch::init`.

fn main() {
    std::process::exit(caisson_launch::init::main());
}
