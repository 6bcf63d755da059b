//! What a checkpoint must pass before its transaction may commit.

use crate::error::{Code, Failure, Result};
use crate::settings;
use crate::store::Store;
use crate::store::arguments::uuid;
use crate::tensor_storage::state_dict::StateDict;
use modelstore_formats::architecture::parameter_count;
use modelstore_formats::safetensors::Header;
use modelstore_tensor::{DType, Shape};
use pgrx::JsonB;
use std::collections::BTreeMap;
use uuid::Uuid;

/// One of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// No weight and no optimizer state has a NaN or an infinity.
    Finite,
    /// Names, shapes and dtypes of the weights are those of the checkpoint before, or of the model.
    Shape,
    /// There are as many parameters as the model's config says.
    Parameters,
}

/// The checks a caller names or, without a list, those of the setting.
pub fn checks(named: Option<Vec<Option<String>>>) -> Result<Vec<Check>> {
    let names = match named {
        Some(names) => names.into_iter().flatten().collect(),
        None => settings::checkpoint_checks(),
    };
    names
        .iter()
        .map(|name| match name.as_str() {
            "finite" => Ok(Check::Finite),
            "shape" => Ok(Check::Shape),
            "parameters" => Ok(Check::Parameters),
            _ => Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("unknown check \"{name}\" for checkpoints"),
            )
            .detail("The checks are finite, shape and parameters.")
            .hint("SHOW modelstore.checkpoint_checks;")),
        })
        .collect()
}

fn refused(message: String) -> Failure {
    Failure::new(Code::ERRCODE_CHECK_VIOLATION, message)
        .hint("SET modelstore.checkpoint_checks = '';")
}

/// By the zone maps: nothing is decoded.
pub fn check_finite(store: &Store, of: StateDict) -> Result<()> {
    let found = store.row(
        &of.sql(
            "SELECT w.weight_name, sum(d.nan_count)::bigint, sum(d.inf_count)::bigint
             FROM @entries@ w JOIN @store@.tensor_data d USING (tensor_id)
             WHERE w.@owner@ = $1 AND (d.nan_count > 0 OR d.inf_count > 0)
             GROUP BY w.weight_name ORDER BY w.weight_name LIMIT 1",
        ),
        &[uuid(of.id())],
        |row| {
            Ok((
                row.get::<String>(1)?,
                row.get::<i64>(2)?,
                row.get::<i64>(3)?,
            ))
        },
    )?;
    match found {
        None => Ok(()),
        Some((name, nans, infinities)) => Err(refused(format!(
            "tensor \"{name}\" of the checkpoint is not finite"
        ))
        .detail(format!(
            "It has {nans} NaN and {infinities} infinite elements."
        ))),
    }
}

/// A model without weights and checkpoints says nothing yet.
pub fn check_shapes(store: &Store, before: StateDict, header: &Header) -> Result<()> {
    let rows = store.rows(
        &before.sql(
            "SELECT w.weight_name, t.dtype, t.shape
             FROM @weights@ w JOIN @store@.tensor_metadata t USING (tensor_id) WHERE w.@owner@ = $1",
        ),
        &[uuid(before.id())],
        |row| {
            let dtype = DType::from_name(&row.get::<String>(2)?)?;
            let shape = Shape::from_i64(&row.get::<Vec<i64>>(3)?)?;
            Ok((row.get::<String>(1)?, (dtype, shape)))
        },
    )?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut expected: BTreeMap<String, (DType, Shape)> = rows.into_iter().collect();
    for tensor in &header.tensors {
        let Some((dtype, shape)) = expected.remove(&tensor.name) else {
            return Err(refused(format!(
                "weight \"{}\" of the checkpoint is not one of {before}",
                tensor.name
            )));
        };
        if dtype != tensor.dtype || shape != tensor.shape {
            return Err(refused(format!(
                "weight \"{}\" of the checkpoint is {}{}",
                tensor.name, tensor.dtype, tensor.shape
            ))
            .detail(format!("In {before} it is {dtype}{shape}.")));
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some(name) => Err(refused(format!("checkpoint has no weight \"{name}\""))
            .detail(format!("There is one in {before}."))),
    }
}

/// Counts as `calculate_model_parameters` does: equal matrices that are not constant are one parameter.
pub fn check_parameters(store: &Store, model: Uuid, of: StateDict) -> Result<()> {
    let config = store
        .row(
            "SELECT config FROM @store@.models WHERE model_id = $1",
            &[uuid(model)],
            |row| row.opt::<JsonB>(1),
        )?
        .flatten();
    let Some(expected) = config
        .as_ref()
        .and_then(|config| parameter_count(&config.0))
    else {
        return Ok(());
    };
    let counted = store.row(
        &of.sql(
            "SELECT coalesce(sum(n), 0)::bigint FROM (
                 SELECT max(t.element_count)
                        * CASE WHEN cardinality(t.shape) >= 2 AND NOT coalesce(z.constant, true) THEN 1 ELSE count(*) END AS n
                 FROM @weights@ w JOIN @store@.tensor_metadata t USING (tensor_id)
                 LEFT JOIN LATERAL (
                     SELECT min(d.value_min) = max(d.value_max) AND sum(d.nan_count) = 0 AS constant
                     FROM @store@.tensor_data d WHERE d.tensor_id = t.tensor_id
                 ) z ON true
                 WHERE w.@owner@ = $1 AND t.dtype ~ '^(bf|f)[0-9]'
                 GROUP BY t.tensor_id, t.shape, z.constant
             ) distinct_parameters",
        ),
        &[uuid(of.id())],
        |row| row.get::<i64>(1),
    )?;
    let counted = counted.unwrap_or(0);
    if u64::try_from(counted) == Ok(expected) {
        return Ok(());
    }
    Err(refused(format!(
        "checkpoint has {counted} parameters, not {expected}"
    ))
    .detail("The model's config says how many there are."))
}
