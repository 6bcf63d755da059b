//! Runs maintenance as the owner of a store, whoever calls it.
#![allow(unsafe_code)]

use crate::error::Result;
use crate::store::Store;
use pgrx::pg_sys;

/// Runs maintenance with the privileges of the store's owner if the caller has them, as every superuser does. Policies,
/// triggers and functions on the tables then run as their author, as in PostgreSQL's own VACUUM and REFRESH, and can
/// leave nothing behind that later runs as the caller. A caller without these privileges runs it with their own.
pub fn as_owner<T>(store: &Store, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let owner = store.row(
        "SELECT relowner, pg_get_userbyid(relowner) <> current_user AND pg_has_role(relowner, 'USAGE')
         FROM pg_class WHERE oid = $1",
        &[store.relation_oid("tensor_metadata").into()],
        |row| Ok((row.get::<pg_sys::Oid>(1)?, row.get::<bool>(2)?)),
    )?;
    let Some((owner, true)) = owner else {
        return run();
    };
    // SAFETY: main thread, inside a transaction. An error that unwinds past here aborts the transaction or the
    // subtransaction around it, which restores the user and the settings of its beginning.
    unsafe {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let restricted =
            pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        pg_sys::SetUserIdAndSecContext(owner, context | restricted as i32);
        let settings = pg_sys::NewGUCNestLevel();
        let result = run();
        pg_sys::AtEOXact_GUC(false, settings);
        pg_sys::SetUserIdAndSecContext(user, context);
        result
    }
}
