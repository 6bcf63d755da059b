//! Casts between `tensor` and the types of pgvector, created on request: pgvector may be installed later.
//!
//! The types of both extensions are found as their members, not by schema and name. The functions have SQL bodies that
//! are parsed when they are created and name only types: they call casts, which only the owner of a type can create. So
//! they mean the same under any search_path, and no role that can create objects elsewhere can change them.

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::arguments::text;
use crate::pg::query;
use crate::pg::spi;
use pgrx::prelude::*;

/// Each pgvector type with its dtype.
const TYPES: &[(&str, &str)] = &[("vector", "f32"), ("halfvec", "f16")];

#[pg_extern(volatile, parallel_unsafe, requires = ["tensor_casts"])]
#[search_path(pg_catalog, pg_temp)]
fn enable_pgvector() -> i32 {
    or_raise(enable())
}

/// A base type that is a member of an extension.
struct Member {
    name: String,
    schema: String,
    /// Qualified and quoted.
    sql: String,
}

fn enable() -> Result<i32> {
    let theirs = members("vector")?;
    if theirs.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            "extension \"vector\" is not installed",
        )
        .hint("CREATE EXTENSION vector;"));
    }
    let ours = members("pg_modelstore")?;
    let ours = ours.iter().find(|ours| ours.name == "tensor");
    let ours = ours.ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            "extension \"pg_modelstore\" has no type tensor",
        )
    })?;
    require_trusted(&ours.schema)?;
    let mut made = 0;
    // pgvector before 0.7 has no halfvec.
    for (name, dtype) in TYPES {
        let Some(theirs) = theirs.iter().find(|theirs| theirs.name == *name) else {
            continue;
        };
        made += cast(
            &ours.sql,
            &theirs.sql,
            &format!("{}.tensor_to_{name}", ours.schema),
            &format!("($1::real[])::{}", theirs.sql),
            "",
        )?;
        made += cast(
            &theirs.sql,
            &ours.sql,
            &format!("{}.tensor_from_{name}", ours.schema),
            &format!("($1::real[])::{}({dtype})", ours.sql),
            "AS ASSIGNMENT",
        )?;
    }
    Ok(made)
}

fn members(extension: &str) -> Result<Vec<Member>> {
    query::rows(
        "SELECT t.typname::text, quote_ident(n.nspname), quote_ident(n.nspname) || '.' || quote_ident(t.typname)
         FROM pg_extension e
         JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
         JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
         JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE e.extname = $1 AND t.typtype = 'b'",
        &[text(extension)],
        |row| {
            Ok(Member {
                name: row.get(1)?,
                schema: row.get(2)?,
                sql: row.get(3)?,
            })
        },
    )
}

/// Refuses a schema of an untrusted role: its owner may drop and replace what others create in it.
fn require_trusted(schema: &str) -> Result<()> {
    let trusted = query::rows(
        "SELECT r.rolname::text FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
         WHERE quote_ident(n.nspname) = $1 AND NOT r.rolsuper AND r.rolname <> current_user",
        &[text(schema)],
        |row| row.get::<String>(1),
    )?;
    match trusted.first() {
        None => Ok(()),
        Some(owner) => Err(Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("schema {schema} is owned by role \"{owner}\""),
        )
        .detail(
            "The functions of the casts are made there, so it must belong to a superuser or to the caller.",
        )
        .hint(format!("ALTER SCHEMA {schema} OWNER TO CURRENT_USER;"))),
    }
}

/// Creates a cast and its function. All names are constants or quoted by the catalog. An existing function is not
/// replaced.
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
        "CREATE FUNCTION {function}({from}) RETURNS {to}
         LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN {body};
         CREATE CAST ({from} AS {to}) WITH FUNCTION {function}({from}) {context};"
    ))?;
    Ok(1)
}
