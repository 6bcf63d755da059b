//! Work that can fail without aborting the transaction.
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgMemoryContexts, PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// Runs something in a subtransaction, which is rolled back if it fails, by its own error or one of PostgreSQL's.
/// Cancellation, and conflicts that a client should retry, do not count as failures of the work: they propagate and end
/// the statement.
pub fn subtransaction<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: main thread, inside a transaction. As in PL/pgSQL's blocks with an EXCEPTION clause, the previous memory
    // context and resource owner are restored whichever way the subtransaction ends, and no SPI connection is open
    // across its ends.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = context;
        let ended = PgTryBuilder::new(AssertUnwindSafe(|| Ended::Here(run())))
            .catch_others(|error| Ended::Raised(Box::new(error)))
            .execute();
        if let Ended::Here(Ok(_)) = &ended {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
        match ended {
            Ended::Here(result) => result,
            Ended::Raised(error) => match failure(&error) {
                Some(failure) => Err(failure),
                None => error.rethrow(),
            },
        }
    }
}

/// Who runs something, and in which subtransaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Runner {
    /// The number of the subtransaction.
    pub subtransaction: u32,
    role: pg_sys::Oid,
    /// Whether it is inside a function that runs with restrictions, such as the maintenance of an index.
    context: i32,
}

impl Runner {
    /// Returns the runner of now.
    pub fn now() -> Runner {
        let (mut role, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: main thread; reads variables into these two.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut role, &mut context);
            Runner {
                subtransaction: pg_sys::GetCurrentSubTransactionId(),
                role,
                context,
            }
        }
    }
}

/// Runs something when the subtransaction, or the transaction where there is none, has ended in whichever way. It must not
/// call PostgreSQL.
pub fn at_end(run: impl FnOnce() + 'static) {
    struct AtEnd<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for AtEnd<F> {
        fn drop(&mut self) {
            if let Some(run) = self.0.take() {
                run();
            }
        }
    }
    PgMemoryContexts::CurTransactionContext.leak_and_drop_on_delete(AtEnd(Some(run)));
}

enum Ended<T> {
    Here(Result<T>),
    Raised(Box<CaughtError>),
}

/// Returns what PostgreSQL reported, or `None` for an error that must propagate.
fn failure(error: &CaughtError) -> Option<Failure> {
    let report = match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    };
    let code = report.sql_error_code();
    if matches!(
        code,
        Code::ERRCODE_QUERY_CANCELED
            | Code::ERRCODE_ADMIN_SHUTDOWN
            | Code::ERRCODE_CRASH_SHUTDOWN
            | Code::ERRCODE_T_R_SERIALIZATION_FAILURE
            | Code::ERRCODE_T_R_DEADLOCK_DETECTED
    ) {
        return None;
    }
    let mut failure = Failure::new(code, report.message());
    if let Some(detail) = report.detail() {
        failure = failure.detail(detail);
    }
    if let Some(hint) = report.hint() {
        failure = failure.hint(hint);
    }
    Some(failure)
}
