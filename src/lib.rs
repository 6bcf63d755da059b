//! pg_modelstore: machine-learning models inside PostgreSQL.
//!
//! This crate is the PostgreSQL side only: datum wrappers, the SQL surface, SPI, settings and errors. Logic that needs
//! no server is in `crates/`.

// pgrx reads the columns of a result from the signature, which therefore cannot use an alias.
#![allow(clippy::type_complexity)]

pgrx::pg_module_magic!(name, version);

mod atom;
mod chunks;
mod error;
mod formats;
mod installation;
mod io;
mod maintenance;
mod model;
mod names;
mod pg;
mod settings;
mod store;
mod tensor;
mod tensor_chunk;
mod tensor_storage;
mod training;
mod transfer;
mod upload;

#[cfg(any(test, feature = "pg_test"))]
#[allow(clippy::expect_used, clippy::unwrap_used)]
mod in_server_tests;

modelstore_sql_folder::extension_sql_folder!(
    "sql/extension/bootstrap",
    name = "shell_types",
    bootstrap
);
pgrx::extension_sql_file!(
    "../sql/extension/01_atom_type.sql",
    name = "atom_type",
    requires = ["shell_types"]
);
modelstore_sql_folder::extension_sql_folder!("sql/extension/comments", name = "comments", finalize);

/// Runs once when a backend loads the library.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::allocator::on_session_thread();
    without_backtraces();
    settings::define();
    store::module::register(MODULES);
}

/// The modules of a store, in the order in which they are created.
const MODULES: &[&store::module::Module] = &[
    &model::MODULE,
    &tensor_storage::MODULE,
    &training::MODULE,
    &atom::MODULE,
    #[cfg(any(test, feature = "pg_test"))]
    &in_server_tests::notes::MODULE,
];

/// pgrx puts a backtrace into DETAIL if RUST_BACKTRACE is set. Clients should see what was expected, not addresses of
/// the server's code.
#[allow(unsafe_code)]
fn without_backtraces() {
    const NAME: &str = "RUST_LIB_BACKTRACE";
    let before = std::env::var_os(NAME);
    // SAFETY: the session has one thread while it loads the library. The standard library reads the variable once,
    // here.
    unsafe { std::env::set_var(NAME, "0") };
    drop(std::backtrace::Backtrace::capture());
    // SAFETY: as above.
    match before {
        Some(value) => unsafe { std::env::set_var(NAME, value) },
        None => unsafe { std::env::remove_var(NAME) },
    }
}

#[cfg(not(feature = "neon"))]
const _: () = assert!(
    matches!(pgrx::pg_sys::FMGR_ABI_EXTRA.to_bytes(), b"PostgreSQL"),
    "these headers are of a fork of PostgreSQL: for Neon build with the feature `neon`"
);

#[cfg(not(panic = "unwind"))]
compile_error!("an error must unwind to abort the transaction: build with panic = \"unwind\"");

/// Required by `cargo pgrx test`; the project's own runner does not use it.
#[cfg(test)]
pub mod pg_test {
    /// Does nothing.
    pub fn setup(_options: Vec<&str>) {}

    /// Returns no settings beyond the defaults.
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
