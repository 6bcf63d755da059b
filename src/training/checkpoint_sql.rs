//! The SQL functions that create checkpoints, one for each source of tensors.

use crate::error::{Result, or_raise, required};
use crate::formats::safetensors::export::Export;
use crate::formats::safetensors::import::{FileIn, Imported};
use crate::formats::safetensors::tensors::named;
use crate::io::Source;
use crate::io::bytes::{Bytea, ByteaOut, ByteaSource};
use crate::io::large_object::LargeObject;
use crate::io::parts::stream;
use crate::model::arguments::{Regcheckpoint, Regmodel};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{from_sql_uuid, to_sql_uuid};
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use crate::tensor::tensor_array::TensorArray;
use crate::training::checkpoint::{NewCheckpoint, OPTIMIZER_FILE, WEIGHTS_FILE, create};
use crate::training::guard_rails;
use crate::upload::finish::consume;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

/// The result of every function here, as one row. pgrx reads the columns from each signature, so they are repeated
/// there.
type CheckpointRow = TableIterator<
    'static,
    (
        name!(checkpoint_id, SqlUuid),
        name!(tensors, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
>;

/// The optional arguments common to all functions.
struct Rest<'a> {
    metrics: Option<Jsonb<'a>>,
    rng_state: Option<&'a [u8]>,
    param_groups: Option<Jsonb<'a>>,
    metadata: Option<Jsonb<'a>>,
    checks: Option<Vec<Option<String>>>,
    parent_checkpoint: Option<Regcheckpoint>,
}

#[pg_extern(name = "create_checkpoint", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn create_checkpoint_bytea(
    model: Option<Regmodel>,
    step: Option<i64>,
    weights: Option<Bytea<'_>>,
    optimizer: default!(Option<Bytea<'_>>, "NULL"),
    session_id: default!(Option<SqlUuid>, "NULL"),
    epoch: default!(Option<f64>, "NULL"),
    metrics: default!(Option<Jsonb<'_>>, "NULL"),
    rng_state: default!(Option<&[u8]>, "NULL"),
    param_groups: default!(Option<Jsonb<'_>>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
    checks: default!(Option<Vec<Option<String>>>, "NULL"),
    parent_checkpoint: default!(Option<Regcheckpoint>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(checkpoint_id, SqlUuid),
        name!(tensors, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let rest = Rest {
            metrics,
            rng_state,
            param_groups,
            metadata,
            checks,
            parent_checkpoint,
        };
        let mut weights = ByteaSource::new(required(weights, "weights")?);
        let mut optimizer = optimizer.map(ByteaSource::new);
        let optimizer = optimizer.as_mut().map(|source| source as &mut dyn Source);
        checkpoint_of_files(
            model,
            session_id,
            step,
            epoch,
            &mut weights,
            optimizer,
            rest,
        )
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn create_checkpoint_large_object(
    model: Option<Regmodel>,
    step: Option<i64>,
    weights: Option<pg_sys::Oid>,
    optimizer: default!(Option<pg_sys::Oid>, "NULL"),
    session_id: default!(Option<SqlUuid>, "NULL"),
    epoch: default!(Option<f64>, "NULL"),
    metrics: default!(Option<Jsonb<'_>>, "NULL"),
    rng_state: default!(Option<&[u8]>, "NULL"),
    param_groups: default!(Option<Jsonb<'_>>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
    checks: default!(Option<Vec<Option<String>>>, "NULL"),
    parent_checkpoint: default!(Option<Regcheckpoint>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(checkpoint_id, SqlUuid),
        name!(tensors, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let rest = Rest {
            metrics,
            rng_state,
            param_groups,
            metadata,
            checks,
            parent_checkpoint,
        };
        let mut weights = LargeObject::open(required(weights, "weights")?)?;
        let mut optimizer = optimizer.map(LargeObject::open).transpose()?;
        let optimizer = optimizer.as_mut().map(|source| source as &mut dyn Source);
        checkpoint_of_files(
            model,
            session_id,
            step,
            epoch,
            &mut weights,
            optimizer,
            rest,
        )
    })())
}

#[pg_extern(volatile, parallel_unsafe, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn create_checkpoint_tensors(
    model: Option<Regmodel>,
    step: Option<i64>,
    weight_names: Option<Vec<Option<String>>>,
    weights: Option<TensorArray<'_>>,
    optimizer_names: default!(Option<Vec<Option<String>>>, "NULL"),
    optimizer: default!(Option<TensorArray<'_>>, "NULL"),
    session_id: default!(Option<SqlUuid>, "NULL"),
    epoch: default!(Option<f64>, "NULL"),
    metrics: default!(Option<Jsonb<'_>>, "NULL"),
    rng_state: default!(Option<&[u8]>, "NULL"),
    param_groups: default!(Option<Jsonb<'_>>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
    checks: default!(Option<Vec<Option<String>>>, "NULL"),
    parent_checkpoint: default!(Option<Regcheckpoint>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(checkpoint_id, SqlUuid),
        name!(tensors, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let rest = Rest {
            metrics,
            rng_state,
            param_groups,
            metadata,
            checks,
            parent_checkpoint,
        };
        let weights = required(weights, "weights")?;
        let mut weights = named(required(weight_names, "weight_names")?, &weights)?;
        let mut optimizer = match (optimizer_names, &optimizer) {
            (Some(names), Some(tensors)) => Some(named(names, tensors)?),
            (names, _) => {
                if names.is_some() || optimizer.is_some() {
                    required(names, "optimizer_names")?;
                    required(None::<()>, "optimizer")?;
                }
                None
            }
        };
        checkpoint(model, session_id, step, epoch, rest, || {
            let weights = FileIn::of_tensors(WEIGHTS_FILE, &mut weights);
            let optimizer = optimizer.as_mut();
            let optimizer = optimizer.map(|source| FileIn::of_tensors(OPTIMIZER_FILE, source));
            Ok((weights, optimizer))
        })
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn create_checkpoint_upload(
    model: Option<Regmodel>,
    step: Option<i64>,
    weights: Option<SqlUuid>,
    optimizer: default!(Option<SqlUuid>, "NULL"),
    session_id: default!(Option<SqlUuid>, "NULL"),
    epoch: default!(Option<f64>, "NULL"),
    metrics: default!(Option<Jsonb<'_>>, "NULL"),
    rng_state: default!(Option<&[u8]>, "NULL"),
    param_groups: default!(Option<Jsonb<'_>>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
    checks: default!(Option<Vec<Option<String>>>, "NULL"),
    parent_checkpoint: default!(Option<Regcheckpoint>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(checkpoint_id, SqlUuid),
        name!(tensors, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let rest = Rest {
            metrics,
            rng_state,
            param_groups,
            metadata,
            checks,
            parent_checkpoint,
        };
        let weights = from_sql_uuid(required(weights, "weights")?);
        consume(weights, |weights, _| {
            let (mut waiting, mut also_waiting) = (None, None);
            let Some(optimizer) = optimizer else {
                return checkpoint(model, session_id, step, epoch, rest, || {
                    Ok((weights.file(WEIGHTS_FILE, &mut waiting)?, None))
                });
            };
            consume(from_sql_uuid(optimizer), |optimizer, _| {
                checkpoint(model, session_id, step, epoch, rest, || {
                    let weights = weights.file(WEIGHTS_FILE, &mut waiting)?;
                    let optimizer = optimizer.file(OPTIMIZER_FILE, &mut also_waiting)?;
                    Ok((weights, Some(optimizer)))
                })
            })
        })
    })())
}

#[pg_extern(stable, parallel_restricted, cost = 10000)]
#[search_path(pg_catalog, pg_temp)]
fn export_checkpoint(
    checkpoint: Option<Regcheckpoint>,
    file_name: default!(Option<&str>, "'model.safetensors'"),
    from_byte: default!(Option<i64>, "0"),
) -> SetOfIterator<'static, ByteaOut> {
    stream(or_raise((|| {
        let checkpoint = required(checkpoint, "checkpoint")?.0;
        let name = required(file_name, "file_name")?;
        Export::resume(
            &Store::for_reading()?,
            StateDict::Checkpoint(checkpoint),
            Some(name),
            required(from_byte, "from_byte")?,
        )
    })()))
}

/// Stores a checkpoint from files.
fn checkpoint_of_files(
    model: Option<Regmodel>,
    session_id: Option<SqlUuid>,
    step: Option<i64>,
    epoch: Option<f64>,
    weights: &mut dyn Source,
    optimizer: Option<&mut dyn Source>,
    rest: Rest<'_>,
) -> Result<CheckpointRow> {
    checkpoint(model, session_id, step, epoch, rest, || {
        let weights = FileIn::open(WEIGHTS_FILE, weights)?;
        let optimizer = optimizer.map(|source| FileIn::open(OPTIMIZER_FILE, source));
        Ok((weights, optimizer.transpose()?))
    })
}

/// Checks the arguments, then the store, then opens the files with `open`.
fn checkpoint<'a>(
    model: Option<Regmodel>,
    session_id: Option<SqlUuid>,
    step: Option<i64>,
    epoch: Option<f64>,
    rest: Rest<'_>,
    open: impl FnOnce() -> Result<(FileIn<'a>, Option<FileIn<'a>>)>,
) -> Result<CheckpointRow> {
    let new = NewCheckpoint {
        model: required(model, "model")?.0,
        session: session_id.map(from_sql_uuid),
        step: required(step, "step")?,
        epoch,
        metrics: rest.metrics.as_ref(),
        rng_state: rest.rng_state,
        param_groups: rest.param_groups.as_ref(),
        metadata: rest.metadata.as_ref(),
        parent: rest.parent_checkpoint.map(|parent| parent.0),
        checks: guard_rails::checks(rest.checks)?,
    };
    let store = Store::current()?;
    let (weights, optimizer) = open()?;
    let Imported {
        model: checkpoint,
        weights: tensors,
        parameters,
        raw_bytes,
        new_chunks,
        new_bytes,
        reused_bytes,
    } = create(&store, &new, weights, optimizer)?;
    Ok(TableIterator::once((
        to_sql_uuid(checkpoint),
        tensors as i64,
        parameters as i64,
        raw_bytes as i64,
        new_chunks as i64,
        new_bytes as i64,
        reused_bytes as i64,
    )))
}
