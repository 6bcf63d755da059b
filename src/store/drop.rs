//! Drops stores.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::arguments::text;
use crate::pg::query;
use crate::store::{Store, ddl, run};
use pgrx::prelude::*;

/// Rows of a table that are counted at most, for the error message.
const COUNTED: i64 = 1000;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn drop_store(name: Option<&str>, cascade: default!(Option<bool>, false)) -> String {
    or_raise((|| {
        drop(required(name, "name")?, required(cascade, "cascade")?)
    })())
}

/// Drops the relations of a store, and the schema if it is empty then: the store may have been created in an existing
/// schema.
fn drop(name: &str, cascade: bool) -> Result<String> {
    let store = Store::find(Some(name))?;
    let holds = holds(&store)?;
    if !holds.is_empty() && !cascade {
        return Err(Failure::new(
            Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop store \"{name}\" because it is not empty"),
        )
        .detail(format!("Number of {}.", holds.join(", of ")))
        .hint(format!(
            "SELECT modelstore.drop_store({}, cascade => true);",
            pgrx::spi::quote_literal(name)
        )));
    }
    check_deferred_constraints(&store)?;
    let behavior = if cascade { "CASCADE" } else { "RESTRICT" };
    for (kind, relkinds, names) in relations(&store) {
        // A table with the name of a view that this store lacks belongs to the user.
        let names: Vec<String> = names
            .iter()
            .filter(|name| relkinds.contains(store.relation_kind(name)))
            .map(|name| format!("@store@.{name}"))
            .collect();
        if !names.is_empty() {
            run(
                &store,
                &format!("DROP {kind} {} {behavior}", names.join(", ")),
            )?;
        }
    }
    if schema_is_empty(&store)? {
        run(&store, "DROP SCHEMA @store@")?;
    }
    Ok(name.to_owned())
}

/// Lists user data in the store, as "models: 3".
fn holds(store: &Store) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (what, table) in store.modules().iter().flat_map(|module| module.holds) {
        let rows = store.row(
            &format!("SELECT count(*) FROM (SELECT FROM @store@.{table} LIMIT $1) t"),
            &[(COUNTED + 1).into()],
            |row| row.get::<i64>(1),
        )?;
        match rows.unwrap_or_default() {
            0 => {}
            rows if rows > COUNTED => found.push(format!("{what}: more than {COUNTED}")),
            rows => found.push(format!("{what}: {rows}")),
        }
    }
    Ok(found)
}

type Kind = (&'static str, &'static str, Vec<&'static str>);

/// Returns its views and tables, later modules first, each kind with its letters in `pg_class.relkind`.
fn relations(store: &Store) -> [Kind; 3] {
    let (mut tables, mut views, mut materialized_views) = (Vec::new(), Vec::new(), Vec::new());
    for (module, relations) in ddl::modules().rev() {
        if store.has(module) {
            tables.extend(relations.tables.iter().map(|table| table.name));
            views.extend(module.optional_views.iter().chain(&relations.views));
            materialized_views.extend(&relations.materialized_views);
        }
    }
    [
        ("MATERIALIZED VIEW", "m", materialized_views),
        ("VIEW", "v", views),
        ("TABLE", "rp", tables),
    ]
}

/// PostgreSQL does not drop a table with pending constraint checks, such as those after an import.
fn check_deferred_constraints(store: &Store) -> Result<()> {
    let names = query::rows(
        "SELECT DISTINCT '@store@.' || quote_ident(k.conname) FROM pg_constraint k
         JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname = $1 AND k.condeferrable",
        &[text(store.name())],
        |row| row.get::<String>(1),
    )?;
    if names.is_empty() {
        return Ok(());
    }
    run(
        store,
        &format!("SET CONSTRAINTS {} IMMEDIATE", names.join(", ")),
    )
}

fn schema_is_empty(store: &Store) -> Result<bool> {
    let others = query::rows(
        "SELECT 1 FROM pg_namespace n WHERE n.nspname = $1
         AND (EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid)
              OR EXISTS (SELECT FROM pg_type WHERE typnamespace = n.oid)
              OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = n.oid)
              OR EXISTS (SELECT FROM pg_operator WHERE oprnamespace = n.oid))",
        &[text(store.name())],
        |_| Ok(()),
    )?;
    Ok(others.is_empty())
}
