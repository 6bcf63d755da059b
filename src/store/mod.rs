//! Stores: schemas of user-owned tables made by `create_store`, and the one way to reach their tables.

pub mod arguments;
pub mod chunks;
pub mod corruption;
pub mod ddl;
pub mod gc;
pub mod index_scan;
pub mod owner;
pub mod query;
pub mod scratch;
pub mod space;
pub mod subtransaction;

use crate::error::{Code, Failure, Result};
use crate::settings;
use pgrx::pg_sys;
use std::ffi::CString;

/// The store that functions act on. Every statement on its tables goes through [`Store::sql`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    name: String,
    quoted: String,
}

impl Store {
    /// The store that `modelstore.store` names; 3F000 when there is no such store.
    pub fn current() -> Result<Store> {
        let store = Store::named(&settings::store());
        if store.exists() {
            return Ok(store);
        }
        let name = &store.name;
        let failure = Failure::new(
            Code::ERRCODE_INVALID_SCHEMA_NAME,
            format!("store \"{name}\" does not exist"),
        )
        .detail("The setting modelstore.store names the schema of the store to use.");
        Err(if ddl::check_name(name).is_ok() {
            let literal = pgrx::spi::quote_literal(name);
            failure.hint(format!("SELECT modelstore.create_store({literal});"))
        } else {
            failure.hint("RESET modelstore.store;")
        })
    }

    /// The same for a STABLE function: it writes nothing, and its statements see what the caller's statement sees.
    pub fn for_reading() -> Result<Store> {
        Store::current()
    }

    /// A store by name, whether it exists or not.
    pub fn named(name: &str) -> Store {
        Store {
            name: name.to_owned(),
            quoted: pgrx::spi::quote_identifier(name),
        }
    }

    /// The schema's name, not quoted.
    pub fn name(&self) -> &str {
        &self.name
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
