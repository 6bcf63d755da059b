//! State of the optimizer for each parameter: Adam's moments, SGD's momentum, any other tensor by name.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::Regcheckpoint;
use crate::model::state_dict::StateDict;
use crate::names;
use crate::pg::arguments::{from_sql_uuid, maybe_text, text, to_sql_uuid, uuid};
use crate::store::Store;
use crate::tensor::datum::{TensorIn, TensorOut};
use crate::tensor_storage::get::whole;
use crate::tensor_storage::locate::{read_tensor, tensor_columns};
use crate::tensor_storage::write::write_value;
use crate::training::guard_rails::{self, Check};
use modelstore_chunk::write::WrittenTensor;
use modelstore_formats::safetensors::Header;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::collections::HashMap;
use uuid::Uuid;

#[pg_extern(stable, strict, parallel_restricted, cost = 10000, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn get_optimizer_state(
    checkpoint: Regcheckpoint,
    parameter_name: &str,
    state_name: &str,
) -> TensorOut {
    or_raise((|| {
        let (store, checkpoint) = (Store::for_reading()?, checkpoint.0);
        let label = format!("{parameter_name}.{state_name}");
        let found = store.row(
            concat!(
                "SELECT ",
                tensor_columns!(),
                " FROM @store@.optimizer_state o JOIN @store@.tensor_metadata t USING (tensor_id)
                  WHERE o.checkpoint_id = $1 AND o.parameter_name = $2 AND o.state_name = $3"
            ),
            &[uuid(checkpoint), text(parameter_name), text(state_name)],
            |row| read_tensor(row, Some(label.clone())),
        )?;
        let Some(tensor) = found else {
            StateDict::Checkpoint(checkpoint).require(&store)?;
            return Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("checkpoint {checkpoint} has no optimizer state \"{label}\""),
            )
            .hint(store.sql(&format!(
                "SELECT parameter_name, state_name FROM @store@.optimizer_state WHERE checkpoint_id = '{checkpoint}';"
            ))));
        };
        whole(&store, &tensor.check()?)
    })())
}

#[pg_extern(volatile, parallel_unsafe, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn put_optimizer_state(
    checkpoint: Option<Regcheckpoint>,
    parameter_name: Option<&str>,
    state_name: Option<&str>,
    value: Option<TensorIn<'_>>,
) -> SqlUuid {
    or_raise((|| {
        let store = Store::current()?;
        let checkpoint = required(checkpoint, "checkpoint")?.0;
        let parameter = required(parameter_name, "parameter_name")?;
        let state = required(state_name, "state_name")?;
        let value = required(value, "value")?;
        let label = format!("{parameter}.{state}");
        if split(&label) != Some((parameter, state)) {
            return Err(invalid_name(&label));
        }
        names::check_length("optimizer state", &label)?;
        StateDict::Checkpoint(checkpoint).require(&store)?;
        let parent = store
            .row(
                "SELECT parent_checkpoint_id FROM @store@.model_checkpoints WHERE checkpoint_id = $1",
                &[uuid(checkpoint)],
                |row| row.opt::<SqlUuid>(1),
            )?
            .flatten()
            .map(from_sql_uuid);
        let base = tensors_by_name(&store, parent)?.get(&label).copied();
        let tensor = write_value(&store, &label, &value.view()?, base)?;
        let inserted = store.execute(
            "INSERT INTO @store@.optimizer_state (checkpoint_id, parameter_name, state_name, tensor_id)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
            &[
                uuid(checkpoint),
                text(parameter),
                text(state),
                uuid(tensor),
            ],
        )?;
        if inserted == 1 {
            if guard_rails::checks(None)?.contains(&Check::Finite) {
                guard_rails::check_tensor_finite(&store, &label, tensor)?;
            }
            return Ok(to_sql_uuid(tensor));
        }
        Err(Failure::new(
            Code::ERRCODE_UNIQUE_VIOLATION,
            format!("checkpoint {checkpoint} already has optimizer state \"{label}\""),
        )
        .detail("The optimizer state of a checkpoint cannot be replaced."))
    })())
}

/// Splits the name of a tensor of an optimizer's file into parameter and state, at the last dot.
fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')
        .filter(|(parameter, state)| !parameter.is_empty() && !state.is_empty())
}

fn invalid_name(name: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_INVALID_NAME,
        format!("invalid name of optimizer state \"{name}\""),
    )
    .detail("Expected the parameter, a dot and the state, such as encoder.weight.exp_avg.")
}

/// Raises an error unless every tensor of an optimizer's file names a parameter and a state.
pub fn check_names(header: &Header) -> Result<()> {
    match header.tensors.iter().find(|t| split(&t.name).is_none()) {
        Some(tensor) => Err(invalid_name(&tensor.name)),
        None => Ok(()),
    }
}

/// Returns the tensors of a checkpoint's optimizer state by `parameter.state`.
pub fn tensors_by_name(store: &Store, checkpoint: Option<Uuid>) -> Result<HashMap<String, Uuid>> {
    let Some(checkpoint) = checkpoint else {
        return Ok(HashMap::new());
    };
    let rows = store.rows(
        "SELECT parameter_name || '.' || state_name, tensor_id FROM @store@.optimizer_state WHERE checkpoint_id = $1",
        &[uuid(checkpoint)],
        |row| Ok((row.get::<String>(1)?, from_sql_uuid(row.get::<SqlUuid>(2)?))),
    )?;
    Ok(rows.into_iter().collect())
}

/// Inserts the rows of an optimizer's file; those of tensors added one by one belong to no file.
pub fn insert(
    store: &Store,
    checkpoint: Uuid,
    header: &Header,
    tensors: &[WrittenTensor],
    file: Option<&str>,
) -> Result<()> {
    let (parameters, states): (Vec<&str>, Vec<&str>) =
        header.tensors.iter().filter_map(|t| split(&t.name)).unzip();
    let offsets: Vec<i64> = header.tensors.iter().map(|t| t.start as i64).collect();
    let tensors: Vec<SqlUuid> = tensors.iter().map(|t| to_sql_uuid(t.id)).collect();
    store.execute(
        "INSERT INTO @store@.optimizer_state (checkpoint_id, parameter_name, state_name, tensor_id, file_name, file_offset)
         SELECT $1, o.parameter, o.state, o.tensor, $2, CASE WHEN $2 IS NOT NULL THEN o.start END FROM unnest($3, $4, $5, $6) AS o(parameter, state, tensor, start)",
        &[
            uuid(checkpoint),
            maybe_text(file),
            parameters.into(),
            states.into(),
            tensors.into(),
            offsets.into(),
        ],
    )?;
    Ok(())
}
