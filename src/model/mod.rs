//! Models: versions by name, aliases, lineage, parameter counts, and what a model or a checkpoint consists of.

pub mod aliases;
pub mod architecture;
pub mod change;
pub mod content_hash;
pub mod delete;
pub mod lineage;
pub mod models;
pub mod parameters;
pub mod state_dict;
