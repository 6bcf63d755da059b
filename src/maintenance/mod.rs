//! Maintenance of a store: garbage collection, space report, verification.

pub mod gc;
pub mod space;
pub mod verify;
