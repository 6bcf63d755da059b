//! What a store needs from time to time: collecting garbage, counting space, looking for damage.

pub mod gc;
pub mod space;
pub mod verify;
