//! Decodes everything and compares it with its hashes.

mod tables;
mod verifier;

use crate::error::{Result, or_raise};
use crate::formats::folder;
use crate::formats::safetensors::consistency;
use crate::model::arguments::{Regcheckpoint, Regmodel};
use crate::model::content_hash::content_hash;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{maybe_text, text, uuid};
use crate::store::Store;
use crate::tensor_storage::locate::tensor_columns;
use modelstore_chunk::{ChunkHash, StoredTensor};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use verifier::{ProblemRow, Verifier, readable, verified};

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn verify_model(
    model: Regmodel,
) -> TableIterator<
    'static,
    (
        name!(object, String),
        name!(tensor_id, Option<SqlUuid>),
        name!(chunk_hash, Option<Vec<u8>>),
        name!(problem, String),
    ),
> {
    TableIterator::new(or_raise(state_dict(StateDict::Model(model.0))))
}

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn verify_checkpoint(
    checkpoint: Regcheckpoint,
) -> TableIterator<
    'static,
    (
        name!(object, String),
        name!(tensor_id, Option<SqlUuid>),
        name!(chunk_hash, Option<Vec<u8>>),
        name!(problem, String),
    ),
> {
    let checkpoint = StateDict::Checkpoint(checkpoint.0);
    TableIterator::new(or_raise(state_dict(checkpoint)))
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn verify_store() -> TableIterator<
    'static,
    (
        name!(object, String),
        name!(tensor_id, Option<SqlUuid>),
        name!(chunk_hash, Option<Vec<u8>>),
        name!(problem, String),
    ),
> {
    TableIterator::new(or_raise(store()))
}

fn state_dict(of: StateDict) -> Result<Vec<ProblemRow>> {
    let store = Store::for_reading()?;
    of.require(&store)?;
    verified(&store, |verifier| {
        recorded(verifier, &store, of, "")?;
        for file in consistency::files(&store, of)? {
            let tensors = weights(verifier, &store, of, Some(&file.name))?;
            verifier.file(&file, &tensors)?;
        }
        for file in folder::consistency::kept_files(&store, of)? {
            let tensors = content(verifier, &store, of, &file.name)?;
            verifier.file(&file, &tensors)?;
        }
        for tensor in weights(verifier, &store, of, None)? {
            verifier.tensor(&tensor)?;
        }
        Ok(())
    })
}

/// Checks the records of a model or a checkpoint without decoding anything: files against their headers, weights
/// against the content hash. Unreadable records are problems, too.
fn recorded(verifier: &mut Verifier<'_>, store: &Store, of: StateDict, prefix: &str) -> Result<()> {
    let object = |file: &str| format!("{prefix}{file}");
    for (file, problem) in consistency::indexes(store, of)? {
        verifier.report(&object(&file), None, None, problem);
    }
    for file in consistency::files(store, of)? {
        let problems = consistency::disagreements(store, of, &file)
            .unwrap_or_else(|failure| vec![failure.message().to_owned()]);
        for problem in problems {
            verifier.report(&object(&file.name), None, None, problem);
        }
    }
    for file in folder::consistency::kept_files(store, of)? {
        for problem in folder::consistency::disagreements(store, of.id(), &file)? {
            verifier.report(&object(&file.name), None, None, problem.to_owned());
        }
    }
    if let Some(recorded) = recorded_hash(store, of)? {
        let problem = match content_hash(store, of) {
            Ok(actual) if actual.as_bytes()[..] == recorded[..] => return Ok(()),
            Ok(_) => "weights do not match the content hash".to_owned(),
            Err(failure) => failure.message().to_owned(),
        };
        verifier.report(&of.to_string(), None, None, problem);
    }
    Ok(())
}

/// Returns the recorded content hash of the weights.
fn recorded_hash(store: &Store, of: StateDict) -> Result<Option<Vec<u8>>> {
    let found = store.row(
        &of.sql("SELECT content_hash FROM @table@ WHERE @owner@ = $1"),
        &[uuid(of.id())],
        |row| row.opt::<Vec<u8>>(1),
    )?;
    Ok(found.flatten())
}

/// Returns the tensors of the weights of one file in its order, or of the weights without a file.
fn weights(
    verifier: &mut Verifier<'_>,
    store: &Store,
    of: StateDict,
    file: Option<&str>,
) -> Result<Vec<StoredTensor>> {
    readable(
        store,
        verifier,
        &of.sql(concat!(
            "SELECT ",
            tensor_columns!(),
            ", w.weight_name FROM @entries@ w JOIN @store@.tensor_metadata t USING (tensor_id)
              WHERE w.@owner@ = $1 AND w.file_name IS NOT DISTINCT FROM $2
              ORDER BY w.file_offset, t.raw_bytes, w.weight_name"
        )),
        &[uuid(of.id()), maybe_text(file)],
        |row| row.get(6).map(Some),
    )
}

/// Returns the tensor of a file that is kept as it is.
fn content(
    verifier: &mut Verifier<'_>,
    store: &Store,
    of: StateDict,
    file: &str,
) -> Result<Vec<StoredTensor>> {
    readable(
        store,
        verifier,
        &of.sql(concat!(
            "SELECT ",
            tensor_columns!(),
            ", f.file_name FROM @files@ f JOIN @store@.tensor_metadata t USING (tensor_id)
              WHERE f.@owner@ = $1 AND f.file_name = $2"
        )),
        &[uuid(of.id()), text(file)],
        |row| row.get(6).map(Some),
    )
}

fn store() -> Result<Vec<ProblemRow>> {
    let store = Store::for_reading()?;
    verified(&store, |verifier| {
        let tensors = readable(
            &store,
            verifier,
            concat!(
                "SELECT ",
                tensor_columns!(),
                " FROM @store@.tensor_metadata t ORDER BY t.tensor_id"
            ),
            &[],
            |_| Ok(None),
        )?;
        for tensor in &tensors {
            verifier.tensor(tensor)?;
        }
        // Also decode chunks that no tensor uses: a delta may need them.
        let unused = store.rows(
            "SELECT chunk_hash FROM @store@.tensor_chunks c
             WHERE NOT EXISTS (SELECT 1 FROM @store@.tensor_data d WHERE d.chunk_hash = c.chunk_hash)",
            &[],
            |row| Ok(ChunkHash::from_slice(&row.get::<Vec<u8>>(1)?)?),
        )?;
        verifier.unused(unused)?;
        for of in tables::state_dicts(&store)? {
            recorded(verifier, &store, of, &format!("{of}, "))?;
            pgrx::check_for_interrupts!();
        }
        tables::compare(&store, verifier)
    })
}
