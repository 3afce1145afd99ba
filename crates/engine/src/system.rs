//! What the engine says of itself and its host.

use serde_json::{Value, json};

use crate::Engine;

impl Engine {
    /// What runs hyperv containers: `kvm` or `emulation`.
    fn accelerator(&self) -> &'static str {
        "emulation"
    }

    /// What a hyperv container is kept in, told by `inspect`.
    pub(crate) fn sandbox_shown(&self) -> Value {
        let boundary = match self.accelerator() {
            "kvm" => "a microVM on hardware virtualisation: a security boundary",
            _ => "emulated: not a security boundary",
        };
        json!({"Monitor": "qemu", "Accelerator": self.accelerator(), "Boundary": boundary})
    }
}
