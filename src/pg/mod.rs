//! What PostgreSQL offers, wrapped once; nothing here knows of models.

pub mod extension;
pub mod invalidation;
pub mod snapshot;
pub mod spi;
