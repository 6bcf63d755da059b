//! Checks that the relations of a store are those that `create_store` makes: ordinary tables of the schema's owner,
//! with the columns and types of the DDL.

use crate::error::{Code, Failure, Result};
use crate::pg::arguments::text;
use crate::pg::extension;
use crate::pg::query::select_rows;
use crate::pg::snapshot::with_latest_snapshot;
use crate::pg::spi::Snapshot;
use crate::store::Store;
use crate::store::ddl::{self, Table};
use crate::store::module::Set;
use pgrx::pg_sys;
use std::collections::HashMap;

/// A relation with that name, or one below it in an inheritance tree.
struct Relation {
    oid: pg_sys::Oid,
    kind: String,
    /// Whether it is a partition or inherits.
    below: bool,
    is_temporary: bool,
    of_owner: bool,
    /// Constraints that mark its module.
    marks: Vec<String>,
}

/// The relations of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    /// Its tables.
    pub tables: Vec<pg_sys::Oid>,
    /// Their partitions.
    pub partitions: Vec<pg_sys::Oid>,
    /// Their modules.
    pub modules: Set,
}

impl Relations {
    /// Returns the tables and partitions.
    pub fn all(&self) -> Vec<pg_sys::Oid> {
        [self.tables.as_slice(), &self.partitions].concat()
    }
}

/// Finds the relations of a store. Raises an error that names the relation or column that differs from the DDL. A table
/// with a name of an opt-in module but without its mark belongs to the user.
///
/// In a store of another role, tables may only have the partitions and children of their DDL: that role could attach
/// one later, between the check and a statement.
pub fn check(store: &Store, is_foreign: bool) -> Result<Relations> {
    let names: Vec<&str> = ddl::modules()
        .flat_map(|(_, of)| of.tables.iter().map(|table| table.name))
        .collect();
    let (mut relations, columns) =
        with_latest_snapshot(|| Ok((relations(store, &names)?, columns(store, &names)?)))?;
    let mut found = Relations::default();
    for (module, of) in ddl::modules() {
        let mark = module.mark();
        let is_marked = |table: &Table| {
            let tree = relations.get(table.name);
            tree.is_some_and(|tree| tree.iter().any(|r| r.marks.contains(&mark)))
        };
        if !module.is_core && !of.tables.iter().any(is_marked) {
            continue;
        }
        found.modules.insert(module);
        for table in &of.tables {
            let tree = relations
                .remove(table.name)
                .ok_or_else(|| missing_table(store, table))?;
            for relation in &tree {
                check_relation(store, table, relation, is_foreign)?;
            }
            check_columns(store, table, columns.get(table.name))?;
            for relation in tree {
                match relation.below && table.is_partitioned {
                    true => found.partitions.push(relation.oid),
                    false => found.tables.push(relation.oid),
                }
            }
        }
    }
    // In a fixed order, in which they are locked.
    found.tables.sort_unstable_by_key(|oid| oid.to_u32());
    found.partitions.sort_unstable_by_key(|oid| oid.to_u32());
    Ok(found)
}

fn relations(store: &Store, names: &[&str]) -> Result<HashMap<String, Vec<Relation>>> {
    let marks: Vec<String> = ddl::modules().map(|(module, _)| module.mark()).collect();
    let rows = select_rows(
        Snapshot::callers(),
        "WITH RECURSIVE tree AS (
             SELECT c.oid, c.relname AS root, n.nspowner AS owner
             FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
             WHERE n.nspname = $1 AND c.relname = ANY ($2)
             UNION
             SELECT i.inhrelid, tree.root, tree.owner FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
         )
         SELECT tree.root::text, c.oid, c.relkind::text,
                tree.oid IN (SELECT inhrelid FROM pg_inherits), c.relpersistence = 't', c.relowner = tree.owner,
                CASE WHEN c.relispartition THEN '{}' ELSE
                    ARRAY(SELECT k.conname::text FROM pg_constraint k WHERE k.conrelid = c.oid AND k.conname = ANY ($3)) END
         FROM tree JOIN pg_class c ON c.oid = tree.oid",
        &[text(store.name()), names.to_vec().into(), marks.into()],
        |row| {
            let relation = Relation {
                oid: row.get(2)?,
                kind: row.get(3)?,
                below: row.get(4)?,
                is_temporary: row.get(5)?,
                of_owner: row.get(6)?,
                marks: row.get(7)?,
            };
            Ok((row.get::<String>(1)?, relation))
        },
    )?;
    let mut relations: HashMap<String, Vec<Relation>> = HashMap::new();
    for (root, relation) in rows {
        relations.entry(root).or_default().push(relation);
    }
    Ok(relations)
}

type Columns = HashMap<String, (pg_sys::Oid, bool)>;

fn columns(store: &Store, names: &[&str]) -> Result<HashMap<String, Columns>> {
    let rows = select_rows(
        Snapshot::callers(),
        "SELECT c.relname::text, a.attname::text, a.atttypid, a.attgenerated <> ''
         FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE n.nspname = $1 AND c.relname = ANY ($2) AND a.attnum > 0 AND NOT a.attisdropped",
        &[text(store.name()), names.to_vec().into()],
        |row| {
            let of = (row.get::<pg_sys::Oid>(3)?, row.get::<bool>(4)?);
            Ok((row.get::<String>(1)?, row.get::<String>(2)?, of))
        },
    )?;
    let mut columns: HashMap<String, Columns> = HashMap::new();
    for (table, column, of) in rows {
        columns.entry(table).or_default().insert(column, of);
    }
    Ok(columns)
}

fn check_relation(
    store: &Store,
    table: &Table,
    relation: &Relation,
    is_foreign: bool,
) -> Result<()> {
    if is_foreign && !table.is_partitioned && (relation.below || relation.kind == "p") {
        return Err(refused(
            store,
            Code::ERRCODE_WRONG_OBJECT_TYPE,
            format!(
                "table \"{}\" of another role has partitions or children",
                table.name
            ),
        ));
    }
    let what = match (relation.kind.as_str(), relation.below) {
        ("r" | "p", _) if relation.is_temporary => "a temporary table",
        ("r" | "p", _) if !relation.of_owner => {
            return Err(refused(
                store,
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!(
                    "table \"{}\" or a partition of it belongs to another role than the schema",
                    table.name
                ),
            ));
        }
        ("r" | "p", _) => return Ok(()),
        (_, true) => "a tree of other relations",
        ("v", _) => "a view",
        ("m", _) => "a materialized view",
        ("f", _) => "a foreign table",
        _ => "no table",
    };
    Err(refused(
        store,
        Code::ERRCODE_WRONG_OBJECT_TYPE,
        format!("\"{}\" is {what}", table.name),
    ))
}

fn check_columns(store: &Store, table: &Table, actual: Option<&Columns>) -> Result<()> {
    for (name, type_name) in &table.columns {
        let Some(&(oid, is_generated)) = actual.and_then(|columns| columns.get(*name)) else {
            return Err(refused(
                store,
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!("table \"{}\" has no column \"{name}\"", table.name),
            ));
        };
        let problem = match type_oid(type_name)? {
            expected if expected != oid => "is not of type",
            _ if is_generated => "is generated; expected a plain column of type",
            _ => continue,
        };
        return Err(refused(
            store,
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column \"{name}\" of table \"{}\" {problem} {type_name}",
                table.name
            ),
        ));
    }
    Ok(())
}

fn missing_table(store: &Store, table: &Table) -> Failure {
    refused(
        store,
        Code::ERRCODE_UNDEFINED_TABLE,
        format!("table \"{}\" does not exist", table.name),
    )
}

fn refused(store: &Store, code: Code, problem: String) -> Failure {
    Failure::new(
        code,
        format!("schema \"{}\" is not a store: {problem}", store.name()),
    )
    .detail("The tables of a store must belong to the owner of the schema and match the definitions of create_store.")
    .hint("SELECT * FROM modelstore.stores();")
}

fn type_oid(name: &str) -> Result<pg_sys::Oid> {
    Ok(match name {
        "bigint" => pg_sys::INT8OID,
        "bigint[]" => pg_sys::INT8ARRAYOID,
        "boolean" => pg_sys::BOOLOID,
        "bytea" => pg_sys::BYTEAOID,
        "double precision" => pg_sys::FLOAT8OID,
        "double precision[]" => pg_sys::FLOAT8ARRAYOID,
        "integer" => pg_sys::INT4OID,
        "integer[]" => pg_sys::INT4ARRAYOID,
        "interval" => pg_sys::INTERVALOID,
        "jsonb" => pg_sys::JSONBOID,
        "modelstore.tensor" => extension::types().tensor,
        "modelstore.tensor_chunk" => extension::types().tensor_chunk,
        "name" => pg_sys::NAMEOID,
        "oid" => pg_sys::OIDOID,
        "smallint" => pg_sys::INT2OID,
        "text" => pg_sys::TEXTOID,
        "text[]" => pg_sys::TEXTARRAYOID,
        "timestamptz" => pg_sys::TIMESTAMPTZOID,
        "tsvector" => pg_sys::TSVECTOROID,
        "uuid" => pg_sys::UUIDOID,
        other => {
            return Err(Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                format!("type {other} of a store's column is not known"),
            ));
        }
    })
}
