//! Module 7, atoms; so far the Hilbert curves along which they are ordered.

mod hilbert;
