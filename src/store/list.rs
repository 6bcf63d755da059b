//! The stores of a database.

use crate::error::or_raise;
use crate::pg::{extension, query};
use crate::settings;
use crate::store::module;
use pgrx::prelude::*;

#[pg_extern(stable, parallel_safe)]
#[search_path(pg_catalog, pg_temp)]
fn stores() -> TableIterator<
    'static,
    (
        name!(store, String),
        name!(owner, String),
        name!(is_current, bool),
        name!(modules, Vec<String>),
    ),
> {
    let current = settings::store();
    let (modules, marks): (Vec<&str>, Vec<String>) = module::all()
        .iter()
        .map(|module| (module.name, module.mark()))
        .unzip();
    let core: Vec<&str> = module::all()
        .iter()
        .filter(|module| module.is_core)
        .map(|module| module.name)
        .collect();
    let rows = or_raise(query::rows(
        "SELECT n.nspname::text, pg_get_userbyid(c.relowner)::text,
                ARRAY(SELECT m.module FROM unnest($2, $3) WITH ORDINALITY AS m(module, mark, place)
                      WHERE m.module = ANY ($4)
                         OR EXISTS (SELECT FROM pg_constraint k WHERE k.connamespace = n.oid AND k.conname = m.mark)
                      ORDER BY m.place)
         FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'chunk' AND NOT a.attisdropped
         WHERE c.relname = 'tensor_chunks' AND c.relkind IN ('r', 'p') AND a.atttypid = $1
         ORDER BY 1",
        &[
            extension::types().tensor_chunk.into(),
            modules.into(),
            marks.into(),
            core.into(),
        ],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?, row.get::<Vec<String>>(3)?)),
    ));
    TableIterator::new(rows.into_iter().map(move |(store, owner, modules)| {
        let is_current = store == current;
        (store, owner, is_current, modules)
    }))
}
