//! Stores: schemas of user-owned tables made by `create_store`, and the one way to reach their tables.

pub mod arguments;
pub mod chunk_array;
pub mod chunks;
pub mod corruption;
pub mod ddl;
mod foreign_code;
pub mod gc;
pub mod index_scan;
pub mod owner;
pub mod query;
pub mod scratch;
mod shape;
pub mod space;
pub mod subtransaction;

use crate::error::{Code, Failure, Result};
use crate::pg::spi::Snapshot;
use crate::pg::{extension, invalidation};
use crate::settings;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CString;

/// Stores that the session remembers as checked.
const MAX_CHECKED: usize = 64;

thread_local! {
    /// Stores that were checked, and as of what.
    static CHECKED: Cell<Vec<(String, Checked)>> = const { Cell::new(Vec::new()) };
}

/// For whom, whether the owner was trusted, and the state of the catalog.
type Checked = (pg_sys::Oid, bool, u64);

/// The store that functions act on. Every statement on its tables goes through [`Store::sql`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    name: String,
    quoted: String,
    snapshot: Snapshot,
}

impl Store {
    /// The store that `modelstore.store` names, for a VOLATILE function: each statement sees what was committed before it and
    /// what the function wrote. 3F000 when there is no such store; an error when it is not what `create_store` made.
    pub fn current() -> Result<Store> {
        let store = Store::named(&settings::store());
        store.require()?;
        Ok(store)
    }

    /// The same for a STABLE function: it writes nothing, and its statements see what the caller's statement sees, and what
    /// that has written until now.
    pub fn for_reading() -> Result<Store> {
        Ok(Store {
            snapshot: Snapshot::callers(),
            ..Store::current()?
        })
    }

    /// A store by name, whether it exists or not.
    pub fn named(name: &str) -> Store {
        Store {
            name: name.to_owned(),
            quoted: pgrx::spi::quote_identifier(name),
            snapshot: Snapshot::New,
        }
    }

    /// The schema's name, not quoted.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its statements see.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
    }

    /// A statement with `@store@` replaced by the quoted schema.
    pub fn sql(&self, template: &str) -> String {
        template.replace("@store@", &self.quoted)
    }

    /// Whether the schema holds a store.
    pub fn exists(&self) -> bool {
        self.relation_oid("store_version") != pg_sys::InvalidOid
            && has_column(self.relation_oid("tensor_chunks"), c"chunk")
    }

    /// An error unless the schema holds a store as `create_store` makes it. A store's tables are anybody's input: what is
    /// read from them is checked again where it is read, but a view in place of a table would run somebody's code.
    pub fn require(&self) -> Result<()> {
        // SAFETY: main thread; reads the session's state.
        #[allow(unsafe_code)]
        let role = unsafe { pg_sys::GetUserId() };
        let seen = invalidation::relations();
        let now: Checked = (role, settings::trust_store_owner(), seen);
        let mut checked = CHECKED.take();
        checked.retain(|(_, (_, _, then))| *then == seen);
        let is_checked = checked
            .iter()
            .any(|(name, of)| *of == now && *name == self.name);
        CHECKED.set(checked);
        if is_checked {
            return Ok(());
        }
        if ddl::check_name(&self.name).is_err() || !self.exists() {
            return Err(self.missing());
        }
        extension::require_schema()?;
        let relations = shape::check(self)?;
        foreign_code::check(self, &relations)?;
        invalidation::watch(relations);
        // What was seen is as of before the look: a change meanwhile is one that is looked at again.
        let mut checked = CHECKED.take();
        if checked.len() >= MAX_CHECKED {
            checked.clear();
        }
        checked.push((self.name.clone(), now));
        CHECKED.set(checked);
        Ok(())
    }

    fn missing(&self) -> Failure {
        let name = &self.name;
        let failure = Failure::new(
            Code::ERRCODE_INVALID_SCHEMA_NAME,
            format!("store \"{}\" does not exist", ddl::shown(name)),
        )
        .detail("The setting modelstore.store names the schema of the store to use.");
        if ddl::check_name(name).is_ok() {
            let literal = pgrx::spi::quote_literal(name);
            failure.hint(format!("SELECT modelstore.create_store({literal});"))
        } else {
            failure.hint("RESET modelstore.store;")
        }
    }

    /// The OID of one of its tables, or invalid. A catalogue look-up by names; no SQL is run.
    #[allow(unsafe_code)]
    pub fn relation_oid(&self, relation: &str) -> pg_sys::Oid {
        let (Ok(schema), Ok(relation)) = (CString::new(self.name.as_str()), CString::new(relation))
        else {
            return pg_sys::InvalidOid;
        };
        // SAFETY: syscache look-ups on the main thread with nul-terminated names.
        unsafe {
            match pg_sys::get_namespace_oid(schema.as_ptr(), true) {
                pg_sys::InvalidOid => pg_sys::InvalidOid,
                schema => pg_sys::get_relname_relid(relation.as_ptr(), schema),
            }
        }
    }

    /// What one of its relations is, as in `pg_class.relkind`; nul when it is not there.
    #[allow(unsafe_code)]
    pub fn relation_kind(&self, relation: &str) -> char {
        // SAFETY: a syscache look-up on the main thread; it knows no relation of an invalid OID.
        let kind = unsafe { pg_sys::get_rel_relkind(self.relation_oid(relation)) };
        char::from(kind as u8)
    }
}

/// Whether a relation has a column: dropping the extension takes the columns of its types along, and what is left of
/// the tables is no store.
#[allow(unsafe_code)]
fn has_column(relation: pg_sys::Oid, column: &std::ffi::CStr) -> bool {
    // SAFETY: a syscache look-up on the main thread with a nul-terminated name.
    relation != pg_sys::InvalidOid && unsafe { pg_sys::get_attnum(relation, column.as_ptr()) } > 0
}
