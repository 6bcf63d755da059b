//! Wrappers of PostgreSQL's functions; nothing here knows of models.

pub mod allocator;
pub mod arguments;
pub mod array;
pub mod background;
pub mod encoding;
pub mod extension;
pub mod index_scan;
pub mod invalidation;
pub mod jsonb;
pub mod progress;
pub mod query;
pub mod scratch;
pub mod snapshot;
pub mod soft_error;
pub mod spi;
pub mod subtransaction;
pub mod varlena;
