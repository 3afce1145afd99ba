//! Named volumes below `volumes/NAME` of the data root.

use std::path::PathBuf;

use crate::Engine;

impl Engine {
    /// The directory of a volume's files.
    pub(crate) fn volume_data(&self, name: &str) -> PathBuf {
        self.0.settings.data_root.join("volumes").join(name).join("_data")
    }
}
