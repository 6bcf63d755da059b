//! Letting a loop over bytes end when its session is cancelled.

use std::fmt;

/// Raises the error of a cancelled session, which unwinds the loop that calls this.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// Text that is written in pieces, with a check at each.
#[derive(Default)]
pub struct Text(pub String);

impl fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        check();
        self.0.push_str(piece);
        Ok(())
    }
}
