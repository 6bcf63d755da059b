//! Distributes stores with Citus: the tables of a store are one shard, which lies on one node.

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::arguments::text;
use crate::pg::query;
use crate::store::Store;
use pgrx::prelude::*;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn distribute_store(store: default!(Option<&str>, "NULL")) -> String {
    or_raise((|| {
        let store = Store::find(store)?;
        require_citus()?;
        if is_distributed(&store)? {
            return Err(Failure::new(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("store \"{}\" is already distributed", store.name()),
            )
            .hint("SELECT * FROM citus_schemas;"));
        }
        refuse_policies(&store)?;
        call("citus_schema_distribute", &store)?;
        remove_local_rows(&store)?;
        Ok(store.name().to_owned())
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn undistribute_store(store: default!(Option<&str>, "NULL")) -> String {
    or_raise((|| {
        let store = Store::find(store)?;
        require_citus()?;
        if !is_distributed(&store)? {
            return Err(Failure::new(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("store \"{}\" is not distributed", store.name()),
            )
            .hint("SELECT * FROM citus_schemas;"));
        }
        call("citus_schema_undistribute", &store)?;
        Ok(store.name().to_owned())
    })())
}

/// Whether the tables of a store are distributed. Then the tables here are empty, and what reads their files or indexes
/// finds nothing.
pub fn is_distributed(store: &Store) -> Result<bool> {
    if !has_catalog()? {
        return Ok(false);
    }
    let found = query::rows(
        "SELECT 1 FROM pg_dist_partition WHERE logicalrelid = $1",
        &[store.relation_oid("models").into()],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

/// Whether Citus is installed in this database: its tables are in `pg_catalog`, where no other role can make one.
fn has_catalog() -> Result<bool> {
    let found = query::rows(
        "SELECT 1 FROM pg_class WHERE relname = 'pg_dist_partition' AND relnamespace = 'pg_catalog'::regnamespace",
        &[],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

fn require_citus() -> Result<()> {
    if has_catalog()? {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        "Citus is not installed in this database",
    )
    .detail("The tables of a store are distributed by Citus, as a schema on one node.")
    .hint("CREATE EXTENSION citus;"))
}

/// Citus takes no policies with subqueries, as those of `secure_atoms` are, and drops none.
fn refuse_policies(store: &Store) -> Result<()> {
    let policies = query::rows(
        "SELECT p.polname::text, c.relname::text FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
         WHERE c.relnamespace = $1::text::regnamespace ORDER BY 2, 1 LIMIT 1",
        &[text(&store.sql("@store@"))],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    )?;
    let Some((policy, table)) = policies.first() else {
        return Ok(());
    };
    Err(Failure::new(
        Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!(
            "cannot distribute store \"{}\", which has row-level security",
            store.name()
        ),
    )
    .detail(format!(
        "Table \"{table}\" has the policy \"{policy}\". Give each tenant a store of its own."
    ))
    .hint("SELECT * FROM pg_policies;"))
}

/// Calls a function of Citus with the schema.
fn call(function: &str, store: &Store) -> Result<()> {
    query::execute(
        &format!("SELECT pg_catalog.{function}($1::text::regnamespace)"),
        &[text(&store.sql("@store@"))],
    )?;
    Ok(())
}

/// Citus leaves the rows that were here on disk, where no statement sees them.
fn remove_local_rows(store: &Store) -> Result<()> {
    query::execute(
        "SELECT truncate_local_data_after_distributing_table(c.oid) FROM pg_class c
         WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0",
        &[text(&store.sql("@store@"))],
    )?;
    Ok(())
}
