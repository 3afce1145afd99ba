//! How fast the host's time stamp counter runs. Under emulation it is the guest's too, and a guest that
//! measures it itself on a busy host fails and is left with a clock of 10 ms steps.

use std::time::{Duration, Instant};

/// Shortest time between the two readings: reading errors are then below 50 ppm.
const WINDOW: Duration = Duration::from_millis(5);

/// The counter's value at one time.
#[derive(Clone, Copy)]
pub struct Reading {
    ticks: u64,
    at: Instant,
}

impl Reading {
    /// Reads both clocks, as close to each other as a few tries get.
    pub fn take() -> Self {
        let read = |_| {
            // SAFETY: every x86-64 processor has the counter.
            let before = unsafe { std::arch::x86_64::_rdtsc() };
            let at = Instant::now();
            // SAFETY: as above.
            let after = unsafe { std::arch::x86_64::_rdtsc() };
            let width = after.wrapping_sub(before);
            (width, Reading { ticks: before.wrapping_add(width / 2), at })
        };
        let readings = (0..5).map(read).min_by_key(|(width, _)| *width);
        readings.map_or_else(|| read(0).1, |(_, reading)| reading)
    }

    /// The counter's frequency in kHz since this reading; waits until enough time has passed.
    pub fn frequency(self) -> u64 {
        std::thread::sleep(WINDOW.saturating_sub(self.at.elapsed()));
        let now = Self::take();
        let (ticks, time) = (now.ticks.wrapping_sub(self.ticks), now.at - self.at);
        (u128::from(ticks) * 1_000_000 / time.as_nanos().max(1)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let first = Reading::take().frequency();
        let second = Reading::take().frequency();
        // Between 100 MHz and 10 GHz, and the same within half a percent even on a busy machine.
        assert!((100_000..10_000_000).contains(&first), "{first} kHz");
        assert!(first.abs_diff(second) * 200 < first, "{first} and {second} kHz");
    }
}
