//! Making, upgrading, listing and dropping stores.
//!
//! The tables belong to the caller, as with PostGIS' CreateTopology: they dump, restore and shard like any other,
//! and dropping the extension refuses while they exist.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::query;
use crate::pg::{extension, spi};
use crate::store::Store;
use modelstore_atom::Modality;
use modelstore_atom::key::{RANGES_PER_MODALITY, partition_bounds};
use pgrx::prelude::*;

/// Version of the tables that this library makes and expects.
pub const STORE_VERSION: i32 = 1;

/// DDL of a new store, in order; one file a module.
pub const MODULES: &[&str] = &[
    include_str!("../../sql/store/00_store.sql"),
    include_str!("../../sql/store/01_core_tables.sql"),
    include_str!("../../sql/store/02_tensor_storage.sql"),
    include_str!("../../sql/store/03_training_state.sql"),
    include_str!("../../sql/store/07_atoms.sql"),
];

/// Views and tables of a store, all modules; a store of an earlier version may lack some.
const VIEWS: &[&str] = &[
    "v_weight_statistics",
    "v_model_architecture",
    "v_training_progress",
    "atom_geometries",
];
const MATERIALIZED_VIEWS: &[&str] = &["atom_spatial_summary"];
const TABLES: &[&str] = &[
    "store_version",
    "models",
    "model_aliases",
    "model_files",
    "transformer_layers",
    "attention_heads",
    "tensor_chunks",
    "tensor_metadata",
    "tensor_data",
    "model_weights",
    "embeddings",
    "uploads",
    "upload_parts",
    "training_sessions",
    "training_metrics",
    "model_checkpoints",
    "checkpoint_files",
    "checkpoint_weights",
    "optimizer_state",
    "gradient_checkpoints",
    "atoms",
    "atom_parts",
    "atom_chunks",
    "atom_salts",
    "ingestion_log",
];

/// What leads from version `i + 1` to `i + 2`; empty until there is a second version.
const UPGRADES: &[&str] = &[];

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn create_store(name: default!(Option<&str>, "'store'")) -> String {
    or_raise(required(name, "name").and_then(create))
}

fn create(name: &str) -> Result<String> {
    check_name(name)?;
    extension::require_schema()?;
    let store = Store::named(name);
    if store.exists() {
        return Err(Failure::new(
            Code::ERRCODE_DUPLICATE_SCHEMA,
            format!("store \"{name}\" already exists"),
        )
        .hint(format!(
            "SELECT * FROM modelstore.stores() WHERE store = {};",
            pgrx::spi::quote_literal(name)
        )));
    }
    make_schema(&store)?;
    for module in MODULES {
        run(&store, module)?;
    }
    for partition in atom_partitions() {
        run(&store, &partition)?;
    }
    record_version(&store, STORE_VERSION)?;
    Ok(name.to_owned())
}

/// Makes the schema, or takes one that the role has made before. In a schema of another role that role could change the
/// tables, and what runs when they are used.
fn make_schema(store: &Store) -> Result<()> {
    let owner = query::rows(
        "SELECT pg_get_userbyid(nspowner)::text, pg_get_userbyid(nspowner) = current_user
         FROM pg_namespace WHERE nspname = $1",
        &[crate::pg::arguments::text(store.name())],
        |row| Ok((row.get::<String>(1)?, row.get::<bool>(2)?)),
    )?;
    match owner.first() {
        None => run(store, "CREATE SCHEMA @store@"),
        Some((_, true)) => Ok(()),
        Some((owner, false)) => Err(Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("schema \"{}\" belongs to role \"{owner}\"", store.name()),
        )
        .detail("A store is made in a schema of its owner's, or in a new one.")
        .hint(format!(
            "SET ROLE {}; SELECT modelstore.create_store({});",
            pgrx::spi::quote_identifier(owner),
            pgrx::spi::quote_literal(store.name())
        ))),
    }
}

/// The partitions of `atoms`, one statement for each modality: 32 equal ranges of the curve each. Some room is left on
/// their pages: a count that changes there leaves the indexes alone.
fn atom_partitions() -> impl Iterator<Item = String> {
    Modality::ALL.into_iter().map(|modality| {
        (0..RANGES_PER_MODALITY as u8)
            .map(|range| {
                let number = modality as u8 * RANGES_PER_MODALITY as u8 + range;
                let (first, end) = partition_bounds(number);
                let name = format!("atoms_{number:03}_{}", modality.name());
                format!(
                    "CREATE TABLE @store@.{name} PARTITION OF @store@.atoms FOR VALUES FROM ({first}) TO ({end}) WITH (fillfactor = 90);\n"
                )
            })
            .collect()
    })
}

/// A name as messages show it: on one line.
pub fn shown(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Schema names as PostgreSQL has them: not cut silently, not the system's.
pub fn check_name(name: &str) -> Result<()> {
    let limit = pg_sys::NAMEDATALEN as usize - 1;
    if name.is_empty() || name.len() > limit {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_NAME,
            format!("invalid store name \"{name}\""),
        )
        .detail(format!(
            "A store's name is a schema name of 1 to {limit} bytes."
        )));
    }
    if name.contains(char::is_control) {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_NAME,
            format!("invalid store name \"{}\"", shown(name)),
        )
        .detail("A store's name has no control characters."));
    }
    if name.starts_with("pg_") || name == "information_schema" {
        return Err(Failure::new(
            Code::ERRCODE_RESERVED_NAME,
            format!("store name \"{name}\" is reserved"),
        )
        .detail("Schemas of that name belong to PostgreSQL.")
        .hint("SELECT modelstore.create_store('store');"));
    }
    if name == "modelstore" {
        return Err(Failure::new(
            Code::ERRCODE_RESERVED_NAME,
            format!("store name \"{name}\" is reserved"),
        )
        .detail("The schema modelstore holds the extension's own types and functions.")
        .hint("SELECT modelstore.create_store('store');"));
    }
    Ok(())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn upgrade_store(name: default!(Option<&str>, "NULL")) -> i32 {
    or_raise(upgrade(name))
}

fn upgrade(name: Option<&str>) -> Result<i32> {
    let store = find(name)?;
    let have = version_of(&store)?;
    if have > STORE_VERSION {
        return Err(newer(&store, have));
    }
    for (i, step) in UPGRADES
        .iter()
        .enumerate()
        .skip(usize::try_from(have - 1).unwrap_or(0))
    {
        run(&store, step)?;
        record_version(&store, i as i32 + 2)?;
    }
    version_of(&store)
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn drop_store(name: Option<&str>, cascade: default!(Option<bool>, false)) -> String {
    or_raise((|| {
        drop(required(name, "name")?, required(cascade, "cascade")?)
    })())
}

/// Drops what a store is made of, and the schema when nothing else is in it: a store may have been made in a schema
/// that was there before.
fn drop(name: &str, cascade: bool) -> Result<String> {
    let store = find(Some(name))?;
    let (models, uploads, atoms) = store
        .row(
            "SELECT (SELECT count(*) FROM @store@.models), (SELECT count(*) FROM @store@.uploads),
                    EXISTS (SELECT FROM @store@.atoms)",
            &[],
            |row| Ok((row.get::<i64>(1)?, row.get::<i64>(2)?, row.get::<bool>(3)?)),
        )?
        .unwrap_or_default();
    if (models + uploads > 0 || atoms) && !cascade {
        return Err(Failure::new(
            Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop store \"{name}\" because it is not empty"),
        )
        .detail(format!(
            "Number of models: {models}, of unfinished uploads: {uploads}{}.",
            if atoms { "; it has atoms" } else { "" }
        ))
        .hint(format!(
            "SELECT modelstore.drop_store({}, cascade => true);",
            pgrx::spi::quote_literal(name)
        )));
    }
    check_deferred_constraints(&store)?;
    let behavior = if cascade { "CASCADE" } else { "RESTRICT" };
    for (kind, relkinds, names) in [
        ("MATERIALIZED VIEW", "m", MATERIALIZED_VIEWS),
        ("VIEW", "v", VIEWS),
        ("TABLE", "rp", TABLES),
    ] {
        // A table that is called like a view which this store has not is its user's.
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

/// PostgreSQL drops no table of which it has yet to check a constraint, as it has right after an import.
fn check_deferred_constraints(store: &Store) -> Result<()> {
    let names = query::rows(
        "SELECT DISTINCT '@store@.' || quote_ident(k.conname) FROM pg_constraint k
         JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname = $1 AND k.condeferrable",
        &[crate::pg::arguments::text(store.name())],
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
        &[crate::pg::arguments::text(store.name())],
        |_| Ok(()),
    )?;
    Ok(others.is_empty())
}

#[pg_extern(stable, parallel_safe)]
#[search_path(pg_catalog, pg_temp)]
fn store_version(name: default!(Option<&str>, "NULL")) -> i32 {
    or_raise(find(name).and_then(|store| version_of(&store)))
}

#[pg_extern(stable, parallel_safe)]
#[search_path(pg_catalog, pg_temp)]
fn stores() -> TableIterator<
    'static,
    (
        name!(store, String),
        name!(owner, String),
        name!(is_current, bool),
    ),
> {
    let current = crate::settings::store();
    let rows = or_raise(query::rows(
        "SELECT n.nspname::text, pg_get_userbyid(c.relowner)::text
         FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'chunk' AND NOT a.attisdropped
         WHERE c.relname = 'tensor_chunks' AND c.relkind IN ('r', 'p') AND a.atttypid = $1
         ORDER BY 1",
        &[extension::types().tensor_chunk.into()],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    ));
    TableIterator::new(rows.into_iter().map(move |(store, owner)| {
        let is_current = store == current;
        (store, owner, is_current)
    }))
}

fn find(name: Option<&str>) -> Result<Store> {
    match name {
        None => Store::current(),
        Some(name) => {
            let store = Store::named(name);
            if check_name(name).is_ok() && store.exists() {
                store.require()?;
                Ok(store)
            } else {
                Err(Failure::new(
                    Code::ERRCODE_INVALID_SCHEMA_NAME,
                    format!("store \"{}\" does not exist", shown(name)),
                )
                .hint("SELECT * FROM modelstore.stores();"))
            }
        }
    }
}

fn version_of(store: &Store) -> Result<i32> {
    store
        .row(
            "SELECT coalesce(max(version), 0) FROM @store@.store_version",
            &[],
            |row| row.get(1),
        )
        .map(Option::unwrap_or_default)
}

fn newer(store: &Store, version: i32) -> Failure {
    Failure::new(
        Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!(
            "store \"{}\" has version {version}, newer than this library's {STORE_VERSION}",
            store.name()
        ),
    )
    .hint("ALTER EXTENSION pg_modelstore UPDATE;")
}

fn record_version(store: &Store, version: i32) -> Result<()> {
    store.execute(
        "INSERT INTO @store@.store_version (version, extension_version) VALUES ($1, $2)",
        &[
            version.into(),
            crate::pg::arguments::text(env!("CARGO_PKG_VERSION")),
        ],
    )?;
    Ok(())
}

/// Statements without parameters, several at once: DDL.
fn run(store: &Store, template: &str) -> Result<()> {
    query::refuse_during_recovery()?;
    spi::run_script(&store.sql(template))
}
