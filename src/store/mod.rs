//! Stores: schemas of user-owned tables made by `create_store`. All access to these tables goes through here.

mod create;
pub mod ddl;
mod distribute;
mod drop;
mod foreign_code;
mod list;
pub mod module;
mod names;
pub mod owner;
mod shape;
mod statements;
pub mod upgrade;

use crate::error::{Code, Failure, Result};
use crate::pg::spi::Snapshot;
use crate::pg::{extension, invalidation, query, spi};
use crate::settings;
use crate::store::module::{Module, Set};
use crate::store::names::{check_name, shown};
use crate::store::shape::Relations;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CString;
use std::rc::Rc;
use std::sync::LazyLock;

/// Checked stores that the session remembers.
const MAX_CHECKED: usize = 64;

/// How often to check a store whose tables are being replaced meanwhile.
const MAX_LOOKS: usize = 10;

/// Partitioned tables, as written in statements.
static PARTITIONED: LazyLock<Vec<String>> = LazyLock::new(|| {
    ddl::modules()
        .flat_map(|(_, relations)| &relations.tables)
        .filter(|table| table.is_partitioned)
        .map(|table| format!("@store@.{}", table.name))
        .collect()
});

thread_local! {
    /// Stores that were checked.
    static CHECKED: Cell<Vec<Checked>> = const { Cell::new(Vec::new()) };
}

/// A store that was checked.
#[derive(Clone)]
struct Checked {
    name: String,
    /// The role, whether it trusted owners, and the state of the catalog.
    as_of: (pg_sys::Oid, bool, u64),
    modules: Set,
    /// For a store of another role that is not trusted: what is locked before each use.
    foreign: Option<Rc<Relations>>,
    is_distributed: bool,
}

/// What the check of a store has found.
struct Found {
    is_foreign: bool,
    modules: Set,
    is_distributed: bool,
}

/// The store that functions act on. Every statement on its tables goes through [`Store::sql`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    name: String,
    quoted: String,
    snapshot: Snapshot,
    /// Belongs to another role, which is not trusted.
    is_foreign: bool,
    /// The modules whose tables were checked.
    modules: Set,
    /// Its tables are on another node.
    is_distributed: bool,
}

impl Store {
    /// Returns the store named by `modelstore.store`, for a VOLATILE function: each statement sees what was committed
    /// before it and what the function wrote. 3F000 if there is no such store; an error if it is not as `create_store`
    /// makes it.
    pub fn current() -> Result<Store> {
        Store::named(&settings::store()).checked()
    }

    /// Returns the strongest lock that statements of this store take on tables, gc excepted.
    fn lock_mode(&self) -> i32 {
        let mode = match self.snapshot {
            Snapshot::New => pg_sys::RowExclusiveLock,
            Snapshot::Callers(_) => pg_sys::AccessShareLock,
        };
        mode as i32
    }

    /// Returns the current store for a STABLE function, which writes nothing: its statements see what the caller's
    /// statement sees, including what that has written so far.
    pub fn for_reading() -> Result<Store> {
        let store = Store {
            snapshot: Snapshot::callers(),
            ..Store::named(&settings::store())
        };
        store.checked()
    }

    fn checked(mut self) -> Result<Store> {
        let found = self.require()?;
        self.is_foreign = found.is_foreign;
        self.modules = found.modules;
        self.is_distributed = found.is_distributed;
        Ok(self)
    }

    /// Returns the store of this name, or the current one; 3F000 if there is none.
    pub fn find(name: Option<&str>) -> Result<Store> {
        let Some(name) = name else {
            return Store::current();
        };
        let store = Store::named(name);
        if check_name(name).is_err() || !store.exists() {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_SCHEMA_NAME,
                format!("store \"{}\" does not exist", shown(name)),
            )
            .hint("SELECT * FROM modelstore.stores();"));
        }
        store.checked()
    }

    /// Checks the store again, ignoring the session's cache.
    fn looked_at_again(self) -> Result<Store> {
        forget(&self.name);
        self.checked()
    }

    /// Returns the same store if it has a module, else 0A000.
    pub fn with(mut self, module: &Module) -> Result<Store> {
        if !self.has(module) {
            // It may have been added since the store was checked.
            self = self.looked_at_again()?;
        }
        match self.has(module) {
            true => Ok(self),
            false => Err(self.without(module, self.modules)),
        }
    }

    /// Returns the error for a module that the store does not have.
    fn without(&self, module: &Module, has: Set) -> Failure {
        let names: Vec<&str> = has.iter().map(|module| module.name).collect();
        Failure::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "store \"{}\" does not have module \"{}\"",
                self.name, module.name
            ),
        )
        .detail(format!("It has {}.", names.join(", ")))
        .hint(format!(
            "SELECT modelstore.{};",
            self.add_module_call(module)
        ))
    }

    /// Returns the call that adds a module, for hints; it names the store unless that is the current one.
    fn add_module_call(&self, module: &Module) -> String {
        let module = module.name;
        if self.name == settings::store() {
            format!("add_module('{module}')")
        } else {
            let store = pgrx::spi::quote_literal(&self.name);
            format!("add_module('{module}', {store})")
        }
    }

    /// Returns whether it has a module; false for a store that was not checked.
    pub fn has(&self, module: &Module) -> bool {
        self.modules.contains(module)
    }

    /// Returns its modules.
    pub fn modules(&self) -> Set {
        self.modules
    }

    /// Returns the names of its tables.
    pub fn tables(&self) -> Vec<&'static str> {
        ddl::modules()
            .filter(|(module, _)| self.has(module))
            .flat_map(|(_, relations)| relations.tables.iter().map(|table| table.name))
            .collect()
    }

    /// Returns a store by name, unchecked: it need not exist.
    pub fn named(name: &str) -> Store {
        Store {
            name: name.to_owned(),
            quoted: pgrx::spi::quote_identifier(name),
            snapshot: Snapshot::New,
            is_foreign: false,
            modules: Set::default(),
            is_distributed: false,
        }
    }

    /// Returns whether Citus has distributed its tables: then nothing but statements finds their rows. False for a store
    /// that was not checked.
    pub fn is_distributed(&self) -> bool {
        self.is_distributed
    }

    /// Returns the schema's name, not quoted.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the snapshot of its statements.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
    }

    /// Replaces `@store@` in a statement by the quoted schema.
    pub fn sql(&self, template: &str) -> String {
        template.replace("@store@", &self.quoted)
    }

    /// Returns whether the schema contains a store.
    pub fn exists(&self) -> bool {
        self.relation_oid("store_version") != pg_sys::InvalidOid
            && has_column(self.relation_oid("tensor_chunks"), c"chunk")
    }

    /// Requires that the schema contains a store as `create_store` makes it. The tables are untrusted input: their rows
    /// are checked when they are read, but a view in place of a table would run its author's code.
    ///
    /// The tables of another role are locked first, for the rest of the transaction: that role could change them
    /// between the check and a statement that waits for it. Returns whether the store belongs to another role that is
    /// not trusted, and its modules.
    fn require(&self) -> Result<Found> {
        if let Some(known) = self.known() {
            let found = Found {
                is_foreign: known.foreign.is_some(),
                modules: known.modules,
                is_distributed: known.is_distributed,
            };
            let Some(relations) = known.foreign else {
                return Ok(found);
            };
            lock(&relations.tables, self.lock_mode());
            if invalidation::relations() == known.as_of.2 {
                return Ok(found);
            }
        }
        if check_name(&self.name).is_err() || !self.exists() {
            return Err(self.missing());
        }
        extension::require_schema()?;
        let is_foreign = foreign_code::is_foreign(self)?;
        let (relations, as_of) = self.look(is_foreign)?;
        foreign_code::check(self, is_foreign, relations.all())?;
        let found = Found {
            is_foreign,
            modules: relations.modules,
            is_distributed: distribute::is_distributed(self)?,
        };
        let mut checked = CHECKED.take();
        if checked.len() >= MAX_CHECKED {
            checked.clear();
        }
        checked.push(Checked {
            name: self.name.clone(),
            as_of,
            modules: found.modules,
            foreign: is_foreign.then(|| Rc::new(relations)),
            is_distributed: found.is_distributed,
        });
        CHECKED.set(checked);
        Ok(found)
    }

    /// Returns what the session has cached about it, if it is still valid.
    fn known(&self) -> Option<Checked> {
        let as_of = as_of_now();
        let mut checked = CHECKED.take();
        checked.retain(|of| of.as_of.2 == as_of.2);
        let found = checked
            .iter()
            .find(|of| of.as_of == as_of && of.name == self.name)
            .cloned();
        CHECKED.set(checked);
        found
    }

    /// Returns its relations and the state of the catalog from before they were read, so that a concurrent change leads
    /// to another check. With locks, repeats until the relations are those that are locked.
    fn look(&self, with_locks: bool) -> Result<(Relations, (pg_sys::Oid, bool, u64))> {
        let mut locked = Relations::default();
        for _ in 0..MAX_LOOKS {
            let as_of = as_of_now();
            let relations = shape::check(self, with_locks)?;
            invalidation::watch(relations.all());
            if !with_locks || relations == locked {
                return Ok((relations, as_of));
            }
            lock(&relations.tables, self.lock_mode());
            lock(&relations.partitions, self.lock_mode());
            locked = relations;
        }
        Err(Failure::new(
            Code::ERRCODE_OBJECT_IN_USE,
            format!(
                "tables of store \"{}\" are being replaced concurrently",
                self.name
            ),
        )
        .detail("Repeated checks found different tables each time."))
    }

    /// Runs before each statement on a store of another role: locks the partitions that the statement can reach, and
    /// checks the store again if anything about it has changed. A module that has disappeared is an error.
    #[allow(unsafe_code)]
    pub(in crate::store) fn hold(&self, template: &str) -> Result<()> {
        if !self.is_foreign {
            return Ok(());
        }
        // SAFETY: main thread, inside a transaction.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        if let Some(known) = self.known()
            && let Some(relations) = known.foreign
        {
            if PARTITIONED.iter().any(|table| template.contains(table)) {
                lock(&relations.partitions, self.lock_mode());
            }
            if invalidation::relations() == known.as_of.2 && known.modules.includes(self.modules) {
                return Ok(());
            }
        }
        let modules = self.require()?.modules;
        match self.modules.iter().find(|module| !modules.contains(module)) {
            Some(module) => Err(self.without(module, modules)),
            None => Ok(()),
        }
    }

    fn missing(&self) -> Failure {
        let name = &self.name;
        let failure = Failure::new(
            Code::ERRCODE_INVALID_SCHEMA_NAME,
            format!("store \"{}\" does not exist", shown(name)),
        )
        .detail("The setting modelstore.store names the schema of the store to use.");
        if check_name(name).is_ok() {
            let literal = pgrx::spi::quote_literal(name);
            failure.hint(format!("SELECT modelstore.create_store({literal});"))
        } else {
            failure.hint("RESET modelstore.store;")
        }
    }

    /// Returns the OID of one of its tables, or an invalid one. A catalog lookup by name; runs no SQL.
    #[allow(unsafe_code)]
    pub fn relation_oid(&self, relation: &str) -> pg_sys::Oid {
        let (Ok(schema), Ok(relation)) = (CString::new(self.name.as_str()), CString::new(relation))
        else {
            return pg_sys::InvalidOid;
        };
        // SAFETY: syscache lookups on the main thread with nul-terminated names.
        unsafe {
            match pg_sys::get_namespace_oid(schema.as_ptr(), true) {
                pg_sys::InvalidOid => pg_sys::InvalidOid,
                schema => pg_sys::get_relname_relid(relation.as_ptr(), schema),
            }
        }
    }

    /// Returns the kind of one of its relations, as in `pg_class.relkind`; nul if it does not exist.
    #[allow(unsafe_code)]
    pub fn relation_kind(&self, relation: &str) -> char {
        // SAFETY: a syscache lookup on the main thread; it finds no relation for an invalid OID.
        let kind = unsafe { pg_sys::get_rel_relkind(self.relation_oid(relation)) };
        char::from(kind as u8)
    }
}

/// Makes the next use check the store again.
fn forget(name: &str) {
    let mut checked = CHECKED.take();
    checked.retain(|of| of.name != name);
    CHECKED.set(checked);
}

/// Runs statements without parameters, several at once: DDL.
fn run(store: &Store, template: &str) -> Result<()> {
    query::refuse_during_recovery()?;
    spi::run_script(&store.sql(template))
}

/// Returns the role, whether it trusts owners, and the state of the catalog.
fn as_of_now() -> (pg_sys::Oid, bool, u64) {
    // SAFETY: main thread; reads the session's state.
    #[allow(unsafe_code)]
    let role = unsafe { pg_sys::GetUserId() };
    (
        role,
        settings::trust_store_owner(),
        invalidation::relations(),
    )
}

/// Locks relations until the end of the transaction; one that no longer exists does no harm.
#[allow(unsafe_code)]
fn lock(relations: &[pg_sys::Oid], mode: i32) {
    for relation in relations {
        // SAFETY: main thread, inside a transaction; waits, and raises if canceled. Accepts any number as an OID.
        unsafe { pg_sys::LockRelationOid(*relation, mode) };
    }
}

/// Returns whether a relation has a column: dropping the extension drops the columns of its types, and the remaining
/// tables are not a store.
#[allow(unsafe_code)]
fn has_column(relation: pg_sys::Oid, column: &std::ffi::CStr) -> bool {
    // SAFETY: a syscache lookup on the main thread with a nul-terminated name.
    relation != pg_sys::InvalidOid && unsafe { pg_sys::get_attnum(relation, column.as_ptr()) } > 0
}
