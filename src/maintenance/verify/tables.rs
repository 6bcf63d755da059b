//! Checks that the tables of a store agree with each other.

use crate::error::Result;
use crate::maintenance::verify::verifier::Verifier;
use crate::pg::query;
use crate::store::Store;
use crate::tensor_storage::locate::{read_tensor, tensor_columns};
use modelstore_chunk::ChunkHash;
use modelstore_chunk::verify::Problem;
use pgrx::datum::Uuid as SqlUuid;

/// Runs the comparisons of each module.
pub fn compare(store: &Store, verifier: &mut Verifier<'_>) -> Result<()> {
    for query in store
        .modules()
        .iter()
        .flat_map(|module| module.contradictions)
    {
        let found = store.rows(query, &[], |row| {
            let chunk = row.opt::<Vec<u8>>(2)?;
            let hash = chunk.and_then(|chunk| ChunkHash::from_slice(&chunk).ok());
            Ok(Problem {
                object: row.get(1)?,
                tensor: None,
                chunk: hash,
                text: row.get(3)?,
            })
        })?;
        verifier.problems.extend(found);
        pgrx::check_for_interrupts!();
    }
    element_counts(store, verifier)?;
    foreign_keys(store, verifier)
}

fn element_counts(store: &Store, verifier: &mut Verifier<'_>) -> Result<()> {
    store.query_by_cursor(
        concat!(
            "SELECT ",
            tensor_columns!(),
            ", t.element_count FROM @store@.tensor_metadata t"
        ),
        |row| {
            // Unreadable rows have been reported already.
            if let Ok(tensor) = read_tensor(row, None) {
                let recorded = row.get::<i64>(6)?;
                if recorded as u64 != tensor.shape.elements() {
                    let problem = format!(
                        "tensor of shape {} is recorded with {recorded} elements",
                        tensor.shape
                    );
                    verifier.report(&tensor.label, Some(tensor.id), None, problem);
                }
            }
            Ok(())
        },
    )
}

/// Reports dangling references. PostgreSQL prevents them, except in sessions that disable foreign keys and in partial
/// restores.
fn foreign_keys(store: &Store, verifier: &mut Verifier<'_>) -> Result<()> {
    let keys = store.rows(
        "SELECT r.relname::text, c.columns, f.relname::text,
                format('SELECT count(*) FROM %I.%I r WHERE %s AND NOT EXISTS (SELECT FROM %I.%I f WHERE %s)',
                       rn.nspname, r.relname, c.not_null, fn.nspname, f.relname, c.equal)
         FROM pg_constraint k
         JOIN pg_class t ON t.oid = $1
         JOIN pg_class r ON r.oid = k.conrelid AND r.relowner = t.relowner AND r.relnamespace = t.relnamespace
         JOIN pg_class f ON f.oid = k.confrelid AND f.relowner = t.relowner AND f.relnamespace = t.relnamespace
         JOIN pg_namespace rn ON rn.oid = r.relnamespace
         JOIN pg_namespace fn ON fn.oid = f.relnamespace
         CROSS JOIN LATERAL (
             SELECT string_agg(a.attname, ', ' ORDER BY u.n) AS columns,
                    string_agg(format('r.%I IS NOT NULL', a.attname), ' AND ' ORDER BY u.n) AS not_null,
                    string_agg(format('f.%I = r.%I', b.attname, a.attname), ' AND ' ORDER BY u.n) AS equal
             FROM unnest(k.conkey, k.confkey) WITH ORDINALITY u(own, other, n)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own
             JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.other
         ) c
         WHERE k.contype = 'f' AND k.conparentid = 0 AND r.relname = ANY ($2) AND f.relname = ANY ($2)
           AND has_table_privilege(r.oid, 'SELECT') AND has_table_privilege(f.oid, 'SELECT')
         ORDER BY 1, 2",
        // Only the store's own tables: another table may have a policy that runs its owner's code.
        &[
            store.relation_oid("tensor_metadata").into(),
            store.tables().into(),
        ],
        |row| {
            Ok((
                (row.get::<String>(1)?, row.get::<String>(2)?),
                row.get::<String>(3)?,
                row.get::<String>(4)?,
            ))
        },
    )?;
    for ((table, columns), referenced, count) in keys {
        let dangling = query::rows(&count, &[], |row| row.get::<i64>(1))?;
        let dangling = dangling.first().copied().unwrap_or_default();
        if dangling > 0 {
            verifier.report(
                &format!("table {table}"),
                None,
                None,
                format!(
                    "{dangling} rows refer by ({columns}) to rows of {referenced} that do not exist"
                ),
            );
        }
        pgrx::check_for_interrupts!();
    }
    Ok(())
}

/// Returns the models and the checkpoints of a store.
pub fn state_dicts(store: &Store) -> Result<Vec<crate::model::state_dict::StateDict>> {
    use crate::model::state_dict::StateDict;
    use crate::pg::arguments::from_sql_uuid;
    let id = |row: &query::Row<'_>| row.get::<SqlUuid>(1).map(from_sql_uuid);
    let mut found: Vec<StateDict> = store
        .rows("SELECT model_id FROM @store@.models ORDER BY 1", &[], id)?
        .into_iter()
        .map(StateDict::Model)
        .collect();
    let checkpoints = store.rows(
        "SELECT checkpoint_id FROM @store@.model_checkpoints ORDER BY 1",
        &[],
        id,
    )?;
    found.extend(checkpoints.into_iter().map(StateDict::Checkpoint));
    Ok(found)
}
