//! Stores: schemas of user-owned tables made by `create_store`, and the one way to reach their tables.

pub mod arguments;
pub mod chunks;
pub mod ddl;
pub mod gc;
pub mod query;
pub mod space;

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
        if name.is_empty() {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_SCHEMA_NAME,
                "setting modelstore.store is empty",
            )
            .detail("It names the schema of the store to use.")
            .hint("RESET modelstore.store;"));
        }
        let literal = pgrx::spi::quote_literal(name);
        Err(Failure::new(
            Code::ERRCODE_INVALID_SCHEMA_NAME,
            format!("store \"{name}\" does not exist"),
        )
        .detail("The setting modelstore.store names the schema of the store to use.")
        .hint(format!("SELECT modelstore.create_store({literal});")))
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
            && self.relation_oid("tensor_chunks") != pg_sys::InvalidOid
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
}
