//! What commands print: results on standard output, everything else on standard error.

use std::io::{self, ErrorKind, Write};

use crate::failure::{Failure, Result};

/// Prints a line.
pub fn line(text: impl AsRef<str>) -> Result<()> {
    let mut text = text.as_ref().to_string();
    text.push('\n');
    bytes(text.as_bytes())
}

/// Prints bytes as they are, at once.
pub fn bytes(data: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    checked(out.write_all(data).and_then(|()| out.flush()))
}

/// Copies everything to standard output.
pub fn copy(from: &mut dyn io::Read) -> Result<()> {
    let mut out = io::stdout().lock();
    checked(io::copy(from, &mut out).and_then(|_| out.flush()))
}

/// Tells a closed pipe from what else can go wrong with the output.
pub fn checked(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        other => other.map_err(Failure::io("write to standard output")),
    }
}

/// Says something to the user. A standard error that cannot be written to is no reason to stop.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// The daemon's warnings.
pub fn warnings(answer: &serde_json::Value) {
    for warning in answer["Warnings"].as_array().into_iter().flatten() {
        note(format!("WARNING: {}", warning.as_str().unwrap_or_default()));
    }
}
