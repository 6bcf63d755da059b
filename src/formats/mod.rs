//! File formats, one folder each, and the folder that a model is.

pub mod folder;
pub mod safetensors;
