//! Code of a store's owner that would run as another role.
//!
//! Functions run with the privileges of their caller. Triggers, rules, policies, defaults, constraints and indexed
//! expressions of a table run as its user, so the owner of a store could make a superuser run them. A role other than
//! the owner therefore uses a store only if these call nothing but a few functions of PostgreSQL and of this extension,
//! or if the role has declared that it trusts the owner.

use crate::error::{Code, Failure, Result};
use crate::pg::arguments::text;
use crate::pg::query::select_rows;
use crate::pg::snapshot::with_latest_snapshot;
use crate::pg::spi::Snapshot;
use crate::settings;
use crate::store::Store;
use pgrx::pg_sys;

/// Functions called by expressions of a store's own DDL, as `pg_get_expr` prints them. None of them runs SQL, reads a
/// file or changes anything.
const HARMLESS: &[&str] = &[
    "COALESCE",
    "array_lower",
    "array_position",
    "cardinality",
    "clock_timestamp",
    "jsonb_typeof",
    "length",
    "modelstore.atom_place",
    "now",
    "octet_length",
    "strpos",
];

/// Finds functions called by a relation or an object that depends on it. PostgreSQL records no dependencies on objects
/// created by initdb, so names are compared too.
const FOREIGN: &str = r#"
    WITH rel AS (
        SELECT unnest($1) AS oid
    ), plain AS ( -- base types of superusers and arrays of them: the others can call functions
        SELECT t.oid FROM pg_type t JOIN pg_roles r ON r.oid = t.typowner
        LEFT JOIN pg_type e ON e.oid = t.typelem LEFT JOIN pg_roles o ON o.oid = e.typowner
        WHERE t.typtype = 'b' AND r.rolsuper AND (e.oid IS NULL OR e.typtype = 'b' AND o.rolsuper)
    ), objects AS (
        SELECT 'pg_class'::regclass::oid AS classid, oid AS objid, oid AS relid, 'partition key' AS what,
               relname::text AS name, pg_get_partkeydef(oid) AS expression
        FROM pg_class WHERE oid IN (SELECT oid FROM rel)
        UNION ALL
        SELECT 'pg_class'::regclass, i.indexrelid, i.indrelid, 'index', c.relname::text,
               concat_ws(' ', pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid))
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid IN (SELECT oid FROM rel)
        UNION ALL
        SELECT 'pg_attrdef'::regclass, d.oid, d.adrelid, 'default', a.attname::text, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid IN (SELECT oid FROM rel)
        UNION ALL
        SELECT 'pg_constraint'::regclass, oid, conrelid, 'constraint', conname::text, pg_get_expr(conbin, conrelid)
        FROM pg_constraint WHERE conrelid IN (SELECT oid FROM rel) AND contype = 'c'
        UNION ALL
        SELECT 'pg_policy'::regclass, oid, polrelid, 'policy', polname::text,
               concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
        FROM pg_policy WHERE polrelid IN (SELECT oid FROM rel)
    ), foreigners AS (
        SELECT tgrelid AS relid, 'trigger' AS what, tgname::text AS name
        FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM rel) AND NOT tgisinternal
        UNION ALL
        SELECT stxrelid, 'statistics', stxname::text
        FROM pg_statistic_ext WHERE stxrelid IN (SELECT oid FROM rel) AND stxexprs IS NOT NULL
        UNION ALL
        SELECT ev_class, 'rule', rulename::text FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM rel)
        UNION ALL
        SELECT a.attrelid, 'a type of somebody''s in column', a.attname::text
        FROM pg_attribute a
        WHERE a.attrelid IN (SELECT oid FROM rel) AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid NOT IN (SELECT oid FROM plain)
        UNION ALL
        SELECT relid, what, name FROM objects
        WHERE EXISTS (SELECT FROM regexp_matches(expression, '([^[:space:](),]+)\(', 'g') m WHERE m[1] <> ALL ($2))
        UNION ALL
        SELECT o.relid, o.what, o.name
        FROM objects o JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.objid
        WHERE CASE d.refclassid
            WHEN 'pg_proc'::regclass THEN NOT EXISTS (
                SELECT FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.oid = d.refobjid AND r.rolsuper)
            WHEN 'pg_operator'::regclass THEN NOT EXISTS (
                SELECT FROM pg_operator p JOIN pg_roles r ON r.oid = p.oprowner WHERE p.oid = d.refobjid AND r.rolsuper)
            WHEN 'pg_type'::regclass THEN d.refobjid NOT IN (SELECT oid FROM plain)
            WHEN 'pg_class'::regclass THEN o.what = 'policy' AND d.refobjid NOT IN (SELECT oid FROM rel)
            ELSE false END
    )
    SELECT f.what || ' "' || f.name || '" of table "' || c.relname || '"', pg_get_userbyid(c.relowner)::text
    FROM foreigners f JOIN pg_class c ON c.oid = f.relid ORDER BY 1 LIMIT 1"#;

/// Triggers on a store of the role's own whose functions belong to neither the role nor a superuser: anyone with the
/// TRIGGER privilege can create them.
const TRIGGERS_OF_OTHERS: &str = r#"
    SELECT 'trigger "' || t.tgname || '" of table "' || c.relname || '"', pg_get_userbyid(p.proowner)::text
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_roles r ON r.oid = p.proowner
    WHERE t.tgrelid = ANY ($1) AND NOT t.tgisinternal AND NOT r.rolsuper AND r.rolname <> current_user
    ORDER BY 1 LIMIT 1"#;

/// Returns whether a store belongs to another role that is not trusted.
pub fn is_foreign(store: &Store) -> Result<bool> {
    if settings::trust_store_owner() {
        return Ok(false);
    }
    let is_own = with_latest_snapshot(|| {
        select_rows(
            Snapshot::callers(),
            "SELECT 1 FROM pg_namespace WHERE nspname = $1 AND pg_get_userbyid(nspowner) = current_user",
            &[text(store.name())],
            |row| row.get::<i32>(1),
        )
    })?;
    Ok(is_own.is_empty())
}

/// Raises an error if a relation of a store would run code of its owner, or of the creator of a trigger, as this role.
pub fn check(store: &Store, is_foreign: bool, relations: Vec<pg_sys::Oid>) -> Result<()> {
    if settings::trust_store_owner() {
        return Ok(());
    }
    let found = with_latest_snapshot(|| {
        let (sql, arguments) = if is_foreign {
            (FOREIGN, vec![relations.into(), HARMLESS.to_vec().into()])
        } else {
            (TRIGGERS_OF_OTHERS, vec![relations.into()])
        };
        select_rows(Snapshot::callers(), sql, &arguments, |row| {
            Ok((row.get::<String>(1)?, row.get::<String>(2)?))
        })
    })?;
    let Some((what, owner)) = found.into_iter().next() else {
        return Ok(());
    };
    Err(Failure::new(
        Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "store \"{}\" would run code of role \"{owner}\" as the current role",
            store.name()
        ),
    )
    .detail(format!("It has {what}."))
    .hint("SET modelstore.trust_store_owner = on;"))
}
