//! Models that move whole: from a store to another, and as one file.

mod archive;
mod copy;
mod copy_sql;
mod copy_training;
mod copy_weights;
mod lineage;
mod plan;
