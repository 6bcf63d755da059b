//! Module 1, core: models by name and version, aliases, lineage, parameter counts.

pub mod aliases;
pub mod architecture;
pub mod change;
pub mod delete;
pub mod lineage;
pub mod models;
pub mod parameters;
