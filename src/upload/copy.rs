//! `COPY modelstore.upload FROM STDIN`: the rows of one statement are one append.

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::arguments::from_sql_uuid;
use crate::pg::subtransaction::{self, Runner};
use crate::store::Store;
use crate::upload::append::Appending;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::cell::RefCell;
use uuid::Uuid;

thread_local! {
    /// The upload that the rows of the statement go to, and who runs the statement in which subtransaction.
    static CURRENT: RefCell<Option<(Runner, Appending)>> = const { RefCell::new(None) };
}

/// The upload of the statement that is running. Another subtransaction of the statement must not touch it: what it takes in
/// would be lost with that one. Nor must another role: it would write with its own rights to tables that it has not looked
/// at. It stays as it is then, because the error may be caught.
fn current() -> Result<Option<Appending>> {
    let now = Runner::now();
    CURRENT.with_borrow_mut(|current| match current {
        Some((runner, _)) if *runner != now => Err(Failure::new(
            Code::ERRCODE_OBJECT_IN_USE,
            "a statement that appends to an upload is running",
        )
        .detail("Its subtransactions and the functions that it calls as another role cannot use uploads.")),
        _ => Ok(current.take().map(|(_, appending)| appending)),
    })
}

/// Takes a row, whose data must belong at the offset if one is given.
fn take(upload: Uuid, data: &[u8], at_offset: Option<i64>) -> Result<()> {
    let now = Runner::now();
    let mut appending = match current()? {
        Some(appending) if appending.upload() == upload => appending,
        other => {
            other.map(Appending::finish).transpose()?;
            // After an error nobody comes back to finish.
            subtransaction::at_end(move || {
                CURRENT.with_borrow_mut(|current| {
                    current.take_if(|(runner, _)| runner.subtransaction == now.subtransaction);
                });
            });
            Appending::open(&Store::current()?, upload)?
        }
    };
    if let Some(at) = at_offset {
        appending.check_offset(at)?;
    }
    appending.feed(data)?;
    CURRENT.set(Some((now, appending)));
    Ok(())
}

/// Finishes what the statement that is running has appended.
pub fn flush() -> Result<()> {
    current()?.map(Appending::finish).transpose()?;
    Ok(())
}

/// What `COPY modelstore.upload FROM STDIN` does with each row. PostgreSQL keeps the row that comes back until the statement
/// ends: without the data.
#[pg_trigger]
fn upload_append<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgHeapTupleError> {
    let Some(row) = trigger.new() else {
        return Ok(None);
    };
    let unreadable = |e: pgrx::datum::TryFromDatumError| {
        Failure::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!("could not read row of upload: {e}"),
        )
    };
    let upload = or_raise(row.get_by_name::<SqlUuid>("upload_id").map_err(unreadable));
    let data = or_raise(row.get_by_name::<&[u8]>("data").map_err(unreadable));
    let at_offset = or_raise(row.get_by_name::<i64>("at_offset").map_err(unreadable));
    let (Some(upload), Some(data)) = (upload, data) else {
        or_raise(Err(Failure::new(
            Code::ERRCODE_NOT_NULL_VIOLATION,
            "upload_id and data must not be null",
        )))
    };
    or_raise(take(from_sql_uuid(upload), data, at_offset));
    let relation = trigger.relation().map_err(|e| {
        Failure::new(
            Code::ERRCODE_INTERNAL_ERROR,
            format!("could not find the view of the trigger: {e}"),
        )
    });
    let row_type = or_raise(relation).tuple_desc().oid();
    let mut kept = PgHeapTuple::new_composite_type_by_oid(row_type)?;
    or_raise(kept.set_by_name("upload_id", upload).map_err(unreadable));
    Ok(Some(kept))
}

/// After the last row.
#[pg_trigger]
fn upload_finish<'a>(
    _trigger: &'a pgrx::PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgHeapTupleError> {
    or_raise(flush());
    Ok(None)
}

pgrx::extension_sql_file!(
    "../../sql/extension/30_upload_view.sql",
    name = "upload_view",
    requires = [upload_append, upload_finish]
);
