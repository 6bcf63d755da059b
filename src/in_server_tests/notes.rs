//! A minimal module: one table and one function.

use crate::error::or_raise;
use crate::pg::arguments::text;
use crate::store::Store;
use crate::store::module::Module;
use pgrx::prelude::*;

/// Opt-in.
pub const MODULE: Module = Module {
    holds: &[("notes", "notes")],
    dependents_of_models: &[(
        "notes",
        "SELECT count(*) FROM @store@.notes WHERE note = $1::text",
    )],
    contradictions: &[
        "SELECT 'note ' || note, NULL::bytea, 'is too short' FROM @store@.notes WHERE length(note) < length",
    ],
    ..Module::new(
        "notes",
        "CREATE TABLE @store@.notes (
    note text PRIMARY KEY,
    length integer NOT NULL,
    CONSTRAINT modelstore_notes CHECK (note <> '')
);
CREATE VIEW @store@.v_notes AS SELECT note FROM @store@.notes;
",
    )
};

/// Adds a note.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn add_note(note: &str) {
    or_raise((|| {
        let store = Store::current()?.with(&MODULE)?;
        store.execute(
            "INSERT INTO @store@.notes (note, length) VALUES ($1, $2)",
            &[text(note), (note.len() as i32).into()],
        )
    })());
}
