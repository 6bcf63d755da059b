//! Finds atoms by their coordinates: the nearest, those in a box, those within a radius.
//!
//! An index contains the [`place`] of each atom. [`cover`] returns the ranges of places to scan for a region, and the
//! rows found are compared with the region exactly. A [`PackedTree`] answers many queries on points in memory.

mod cover;
mod nearest_first;
mod place;
mod search;
mod shape;
mod tree;

pub use cover::{PlaceRange, cover, cover_within};
pub use place::{PLACE_ORDER, place};
pub use search::{NearAtom, Places, nearest, within};
pub use shape::Region;
pub use tree::{Neighbour, PackedTree};
