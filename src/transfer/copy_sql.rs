//! The SQL function that copies a model.

use crate::error::{Result, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::pg::arguments::to_sql_uuid;
use crate::store::Store;
use crate::store::upgrade::require_version;
use crate::transfer::copy::{Wanted, copy};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn copy_model(
    model: Option<Regmodel>,
    to_store: Option<&str>,
    new_name: default!(Option<&str>, "NULL"),
    new_version: default!(Option<&str>, "NULL"),
    with_checkpoints: default!(Option<bool>, "false"),
) -> SqlUuid {
    or_raise((|| {
        let wanted = Wanted {
            model: required(model, "model")?.0,
            name: new_name,
            version: new_version,
            with_checkpoints: required(with_checkpoints, "with_checkpoints")?,
        };
        let (from, to) = stores(required(to_store, "to_store")?)?;
        copy(&from, &to, &wanted).map(to_sql_uuid)
    })())
}

/// The current store as the caller's statement sees it, and the other one. Each is checked as the current store of any
/// function is.
fn stores(to: &str) -> Result<(Store, Store)> {
    let (from, to) = (Store::for_reading()?, Store::find(Some(to))?);
    require_version(&from)?;
    require_version(&to)?;
    Ok((from, to))
}
