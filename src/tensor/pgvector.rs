//! Casts between `tensor` and the types of pgvector, made on request: pgvector may come after this extension.
//!
//! The functions have SQL bodies that are parsed as they are made, so that they mean the same under any search_path.

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::spi;
use crate::store::arguments::text;
use crate::store::query;
use pgrx::prelude::*;

/// Each pgvector type with the dtype it becomes.
const TYPES: &[(&str, &str)] = &[("vector", "f32"), ("halfvec", "f16")];

/// Makes the casts that are not there and returns how many it made.
#[pg_extern(volatile, parallel_unsafe, requires = ["tensor_casts"])]
#[search_path(pg_catalog, pg_temp)]
fn enable_pgvector() -> i32 {
    or_raise(enable())
}

fn enable() -> Result<i32> {
    let schema = query::rows(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'",
        &[],
        |row| row.get::<String>(1),
    )?;
    let Some(schema) = schema.first() else {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            "extension \"vector\" is not installed",
        )
        .hint("CREATE EXTENSION vector;"));
    };
    let mut made = 0;
    for (name, dtype) in TYPES {
        let theirs = format!("{schema}.{name}");
        made += cast(
            "modelstore.tensor",
            &theirs,
            &format!("tensor_to_{name}"),
            &format!("($1::real[])::{theirs}"),
            "",
        )?;
        made += cast(
            &theirs,
            "modelstore.tensor",
            &format!("tensor_from_{name}"),
            &format!("modelstore.astype(($1::real[])::modelstore.tensor, '{dtype}')"),
            "AS ASSIGNMENT",
        )?;
    }
    Ok(made)
}

/// All names are constants or quoted by the catalog.
fn cast(from: &str, to: &str, function: &str, body: &str, context: &str) -> Result<i32> {
    let there = query::rows(
        "SELECT 1 FROM pg_cast WHERE castsource = $1::regtype AND casttarget = $2::regtype",
        &[text(from), text(to)],
        |_| Ok(()),
    )?;
    if !there.is_empty() {
        return Ok(0);
    }
    query::refuse_during_recovery()?;
    spi::run_script(&format!(
        "CREATE OR REPLACE FUNCTION modelstore.{function}({from}) RETURNS {to}
         LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN {body};
         CREATE CAST ({from} AS {to}) WITH FUNCTION modelstore.{function}({from}) {context};"
    ))?;
    Ok(1)
}
