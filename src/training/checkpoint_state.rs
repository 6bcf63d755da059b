//! What a program needs besides the tensors to resume from a checkpoint.
#![allow(unsafe_code)]

use crate::error::{or_raise, required};
use crate::model::arguments::Regcheckpoint;
use crate::model::state_dict::missing_checkpoint;
use crate::pg::arguments::uuid;
use crate::store::Store;
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::{IntoDatum, TimestampWithTimeZone, Uuid as SqlUuid};
use pgrx::prelude::*;
use std::ffi::CString;

/// A jsonb value as text: its numbers keep their digits.
struct JsonbText(String);

impl IntoDatum for JsonbText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = CString::new(self.0).ok()?;
        // SAFETY: the text was printed by PostgreSQL from a jsonb value; jsonb_in copies it.
        unsafe {
            pgrx::direct_function_call_as_datum(
                pg_sys::jsonb_in,
                &[Some(pg_sys::Datum::from(text.as_ptr()))],
            )
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: the datum is a jsonb value in palloc'd memory.
unsafe impl BoxRet for JsonbText {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: as above.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

pgrx::impl_sql_translatable!(JsonbText, "jsonb");

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn checkpoint_state(
    checkpoint: Option<Regcheckpoint>,
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(session_id, Option<SqlUuid>),
        name!(step, i64),
        name!(epoch, Option<f64>),
        name!(rng_state, Option<Vec<u8>>),
        name!(param_groups, Option<JsonbText>),
        name!(metrics, Option<JsonbText>),
        name!(metadata, Option<JsonbText>),
        name!(parent_checkpoint_id, Option<SqlUuid>),
        name!(has_optimizer_state, bool),
        name!(pinned, bool),
        name!(created_at, TimestampWithTimeZone),
    ),
> {
    TableIterator::new(or_raise((|| {
        let store = Store::for_reading()?;
        let checkpoint = required(checkpoint, "checkpoint")?.0;
        let state = store.row(
            "SELECT model_id, session_id, step, epoch, rng_state, param_groups::text, metrics::text, metadata::text,
                    parent_checkpoint_id,
                    EXISTS (SELECT FROM @store@.optimizer_state o WHERE o.checkpoint_id = c.checkpoint_id),
                    pinned, created_at
             FROM @store@.model_checkpoints c WHERE checkpoint_id = $1",
            &[uuid(checkpoint)],
            |row| {
                Ok((
                    row.get(1)?,
                    row.opt(2)?,
                    row.get(3)?,
                    row.opt(4)?,
                    row.opt(5)?,
                    row.opt(6)?.map(JsonbText),
                    row.opt(7)?.map(JsonbText),
                    row.opt(8)?.map(JsonbText),
                    row.opt(9)?,
                    row.get(10)?,
                    row.get(11)?,
                    row.get(12)?,
                ))
            },
        )?;
        state
            .map(|state| [state])
            .ok_or_else(|| missing_checkpoint(&store, checkpoint))
    })()))
}
