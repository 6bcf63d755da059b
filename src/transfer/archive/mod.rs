//! A model as one file.

mod describe;
mod describe_training;
mod export;
mod export_sql;
mod import;
mod import_sql;
mod import_training;
mod loose;
mod metrics;
mod part;
