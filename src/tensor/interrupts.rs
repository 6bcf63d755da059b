//! Lets a loop over bytes end when its session is cancelled.

use std::fmt;

/// Raises the error of a cancelled session, which unwinds the calling loop.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// Text written in pieces, with a check for interrupts at each.
#[derive(Default)]
pub struct Text(pub String);

impl fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        check();
        self.0.push_str(piece);
        Ok(())
    }
}
