//! Versions of a store's tables.

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::arguments::text;
use crate::store::{Store, run};
use pgrx::prelude::*;

/// Version of the tables that this library creates and expects.
pub const STORE_VERSION: i32 = 1;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn upgrade_store(name: default!(Option<&str>, "NULL")) -> i32 {
    or_raise(upgrade(name))
}

fn upgrade(name: Option<&str>) -> Result<i32> {
    let store = Store::find(name)?;
    let have = version_of(&store)?;
    if have > STORE_VERSION {
        return Err(newer(&store, have));
    }
    for version in have + 1..=STORE_VERSION {
        for module in store.modules().iter() {
            for (_, ddl) in module.upgrades.iter().filter(|(to, _)| *to == version) {
                run(&store, ddl)?;
            }
        }
        record_version(&store, version)?;
    }
    version_of(&store)
}

#[pg_extern(stable, parallel_safe)]
#[search_path(pg_catalog, pg_temp)]
fn store_version(name: default!(Option<&str>, "NULL")) -> i32 {
    or_raise(Store::find(name).and_then(|store| version_of(&store)))
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

/// Raises an error unless the tables of a store have the version of this library: 0A000 for a newer one, 55000 for an older one.
pub fn require_version(store: &Store) -> Result<()> {
    let have = version_of(store)?;
    match have.cmp(&STORE_VERSION) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(newer(store, have)),
        std::cmp::Ordering::Less => Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "store \"{}\" has version {have}, older than this library's {STORE_VERSION}",
                store.name()
            ),
        )
        .hint(format!(
            "SELECT modelstore.upgrade_store({});",
            pgrx::spi::quote_literal(store.name())
        ))),
    }
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

/// Records the version of the store.
pub fn record_version(store: &Store, version: i32) -> Result<()> {
    store.execute(
        "INSERT INTO @store@.store_version (version, extension_version) VALUES ($1, $2)",
        &[version.into(), text(env!("CARGO_PKG_VERSION"))],
    )?;
    Ok(())
}
