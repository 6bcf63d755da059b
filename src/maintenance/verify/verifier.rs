//! The verifier over SPI: reads the store's tables and reports problems.

use crate::chunks::spi_chunks::SpiChunks;
use crate::error::{Result, info};
use crate::pg::arguments::{from_sql_uuid, to_sql_uuid};
use crate::pg::background::Backend;
use crate::pg::query::Row;
use crate::store::Store;
use crate::tensor_storage::locate::read_tensor;
use modelstore_chunk::StoredTensor;
use modelstore_chunk::verify;
use pgrx::datum::{DatumWithOid, Uuid as SqlUuid};

/// Decodes and compares.
pub type Verifier<'a> = verify::Verifier<'a, SpiChunks, Backend>;

/// One row per problem.
pub type ProblemRow = (String, Option<SqlUuid>, Option<Vec<u8>>, String);

/// Runs checks of a store, sends a message with how much was checked, and returns the problems.
pub fn verified(
    store: &Store,
    check: impl FnOnce(&mut Verifier<'_>) -> Result<()>,
) -> Result<Vec<ProblemRow>> {
    let (mut chunks, session) = (SpiChunks::new(store), Backend::silent());
    let mut verifier = Verifier::new(&mut chunks, &session);
    check(&mut verifier)?;
    info(&format!(
        "verified {} tensors, {} chunks, {} bytes: {} problems",
        verifier.tensors,
        verifier.chunks,
        verifier.bytes,
        verifier.problems.len()
    ));
    let rows = verifier.problems.into_iter().map(|problem| {
        (
            problem.object,
            problem.tensor.map(to_sql_uuid),
            problem.chunk.map(|chunk| chunk.0.to_vec()),
            problem.text,
        )
    });
    Ok(rows.collect())
}

/// Returns the tensors of a query on [`tensor_columns`](crate::tensor_storage::locate::tensor_columns), and reports
/// invalid rows as problems.
pub fn readable(
    store: &Store,
    verifier: &mut Verifier<'_>,
    template: &str,
    arguments: &[DatumWithOid<'_>],
    label: impl Fn(&Row<'_>) -> Result<Option<String>>,
) -> Result<Vec<StoredTensor>> {
    let rows = store.rows(template, arguments, |row| {
        let id = from_sql_uuid(row.get::<SqlUuid>(1)?);
        let label = label(row)?;
        Ok((id, label.clone(), read_tensor(row, label)))
    })?;
    let mut tensors = Vec::with_capacity(rows.len());
    for (id, label, tensor) in rows {
        match tensor {
            Ok(tensor) => tensors.push(tensor),
            Err(failure) => {
                let label = label.unwrap_or_else(|| id.to_string());
                verifier.report(&label, Some(id), None, failure.message().to_owned());
            }
        }
    }
    Ok(tensors)
}
