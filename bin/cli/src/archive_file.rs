//! Where `save` and `export` write to: a file that is there only when it is whole, or standard output.

use std::io::{self, Write};
use std::path::Path;

use caisson_api::client::Response;

use crate::failure::{Failure, Result};
use crate::{output, terminal};

/// Writes what `ask` answers.
pub fn write_archive(to: Option<&Path>, ask: impl FnOnce() -> Result<Response>) -> Result<()> {
    let Some(path) = to else {
        if terminal::output_is_terminal() {
            let text = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
            return Err(Failure::words(text));
        }
        return output::copy(&mut ask()?);
    };
    let failed = || Failure::io(format!("write {}", path.display()));
    let metadata = std::fs::metadata(path);
    if metadata.as_ref().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Failure::words(format!("failed to save: {} is a directory", path.display())));
    }
    let mut answer = ask()?;
    // A device or a pipe is written to, not replaced.
    if metadata.is_ok_and(|metadata| !metadata.is_file()) {
        let mut file = std::fs::File::options().write(true).open(path).map_err(failed())?;
        return io::copy(&mut answer, &mut file).map(drop).map_err(failed());
    }
    let place = path.parent().filter(|place| !place.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".caisson-")
        .tempfile_in(place.unwrap_or(Path::new(".")))
        .map_err(failed())?;
    io::copy(&mut answer, &mut file).and_then(|_| file.flush()).map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}
