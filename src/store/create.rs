//! Creates stores and adds modules to them.
//!
//! The tables belong to the caller, as with PostGIS' CreateTopology: they can be dumped, restored and sharded like any
//! other, and the extension cannot be dropped while they exist.

use crate::error::{Code, Failure, Result, notice, or_raise, required};
use crate::pg::arguments::text;
use crate::pg::{extension, query};
use crate::store::module::{self, Module, Set};
use crate::store::names::check_name;
use crate::store::upgrade::{STORE_VERSION, record_version};
use crate::store::{Store, run};
use pgrx::prelude::*;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn create_store(
    name: default!(Option<&str>, "'store'"),
    modules: default!(
        Option<Vec<Option<String>>>,
        "ARRAY['models', 'tensors', 'training']"
    ),
    if_not_exists: default!(Option<bool>, false),
) -> String {
    or_raise((|| {
        let name = required(name, "name")?;
        let modules = named(&required(modules, "modules")?)?;
        create(name, modules, required(if_not_exists, "if_not_exists")?)
    })())
}

/// Returns the modules of these names and the core modules; `all` selects every module.
fn named(names: &[Option<String>]) -> Result<Set> {
    let mut modules = Set::default();
    let mut wanted: Vec<&Module> = module::all()
        .iter()
        .copied()
        .filter(|m| m.is_core)
        .collect();
    for name in names {
        match required(name.as_deref(), "modules")? {
            "all" => wanted.extend(module::all().iter().copied()),
            name => wanted.push(module::find(name)?),
        }
    }
    wanted.iter().for_each(|module| modules.insert(module));
    Ok(modules)
}

fn create(name: &str, modules: Set, if_not_exists: bool) -> Result<String> {
    check_name(name)?;
    extension::require_schema()?;
    let store = Store::named(name);
    if store.exists() {
        if if_not_exists {
            notice(&format!("store \"{name}\" already exists, skipping"));
            return Ok(name.to_owned());
        }
        return Err(Failure::new(
            Code::ERRCODE_DUPLICATE_SCHEMA,
            format!("store \"{name}\" already exists"),
        )
        .hint(format!(
            "SELECT * FROM modelstore.stores() WHERE store = {};",
            pgrx::spi::quote_literal(name)
        )));
    }
    let literal = pgrx::spi::quote_literal(name);
    if !is_own_schema(&store, &format!("create_store({literal})"))? {
        run(&store, "CREATE SCHEMA @store@")?;
    }
    for module in modules.iter() {
        make(&store, module, None)?;
    }
    record_version(&store, STORE_VERSION)?;
    Ok(name.to_owned())
}

fn make(store: &Store, module: &Module, partitions: Option<i32>) -> Result<()> {
    run(store, module.ddl)?;
    match &module.partitions {
        Some(of) => run(store, &(of.ddl)(partitions.unwrap_or(of.default))),
        None => Ok(()),
    }
}

/// Returns whether the schema exists and belongs to the current role. Another owner could change the tables and what
/// runs when they are used. `call` is the statement for the owner, for the hint.
fn is_own_schema(store: &Store, call: &str) -> Result<bool> {
    let owner = query::rows(
        "SELECT pg_get_userbyid(nspowner)::text, pg_get_userbyid(nspowner) = current_user
         FROM pg_namespace WHERE nspname = $1",
        &[text(store.name())],
        |row| Ok((row.get::<String>(1)?, row.get::<bool>(2)?)),
    )?;
    match owner.first() {
        None => Ok(false),
        Some((_, true)) => Ok(true),
        Some((owner, false)) => Err(Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("schema \"{}\" belongs to role \"{owner}\"", store.name()),
        )
        .detail("The tables of a store belong to the owner of its schema.")
        .hint(format!(
            "SET ROLE {}; SELECT modelstore.{call};",
            pgrx::spi::quote_identifier(owner)
        ))),
    }
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn add_module(
    module: Option<&str>,
    store: default!(Option<&str>, "NULL"),
    partitions: default!(Option<i32>, "NULL"),
    if_not_exists: default!(Option<bool>, false),
) -> String {
    or_raise((|| {
        let module = module::find(required(module, "module")?)?;
        let if_not_exists = required(if_not_exists, "if_not_exists")?;
        add(module, Store::find(store)?, partitions, if_not_exists)
    })())
}

fn add(
    module: &Module,
    store: Store,
    partitions: Option<i32>,
    if_not_exists: bool,
) -> Result<String> {
    check_partitions(module, partitions)?;
    let name = module.name;
    is_own_schema(&store, &store.add_module_call(module))?;
    // One session at a time: after waiting here, check again.
    run(
        &store,
        "LOCK TABLE @store@.store_version IN SHARE ROW EXCLUSIVE MODE",
    )?;
    let store = store.looked_at_again()?;
    if store.has(module) {
        let message = format!("store \"{}\" already has module \"{name}\"", store.name());
        if if_not_exists {
            notice(&format!("{message}, skipping"));
            return Ok(name.to_owned());
        }
        return Err(Failure::new(Code::ERRCODE_DUPLICATE_OBJECT, message)
            .hint("SELECT * FROM modelstore.stores();"));
    }
    make(&store, module, partitions)?;
    Ok(name.to_owned())
}

fn check_partitions(module: &Module, partitions: Option<i32>) -> Result<()> {
    let choices = module.partitions.as_ref().map_or(&[][..], |of| of.choices);
    let Some(partitions) = partitions.filter(|partitions| !choices.contains(partitions)) else {
        return Ok(());
    };
    let failure = Failure::new(
        Code::ERRCODE_INVALID_PARAMETER_VALUE,
        format!(
            "module \"{}\" cannot have {partitions} partitions",
            module.name
        ),
    );
    let choices: Vec<String> = choices.iter().map(i32::to_string).collect();
    Err(match choices.as_slice() {
        [] => failure.detail("This module has no configurable number of partitions."),
        _ => failure.detail(format!("It can have {}.", choices.join(", "))),
    })
}
