//! safetensors files in and out: bytea, large object, server file.

pub mod consistency;
mod draft;
pub mod export;
pub mod export_sql;
pub mod files;
pub mod import;
pub mod import_sql;
pub mod shards;
pub mod tensors;
