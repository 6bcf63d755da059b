//! What a checkpoint must pass before its transaction may commit.

use crate::error::{Code, Failure, Result};
use crate::settings;
use crate::store::Store;
use crate::store::arguments::{text, uuid};
use crate::tensor_storage::state_dict::StateDict;
use modelstore_formats::architecture::parameter_count;
use modelstore_formats::safetensors::Header;
use modelstore_tensor::{DType, Shape};
use pgrx::datum::DatumWithOid;
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

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::Finite => "finite",
            Check::Shape => "shape",
            Check::Parameters => "parameters",
        }
    }
}

/// The checks a caller names or, without a list, those of the setting.
pub fn checks(named: Option<Vec<Option<String>>>) -> Result<Vec<Check>> {
    let names = match named {
        Some(names) => names.into_iter().flatten().collect(),
        None => settings::checkpoint_checks(),
    };
    names
        .iter()
        .map(|name| {
            let checks = [Check::Finite, Check::Shape, Check::Parameters];
            let found = checks.into_iter().find(|check| check.name() == name);
            found.ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("unknown check \"{name}\" for checkpoints"),
                )
                .detail("The checks are finite, shape and parameters.")
                .hint("SHOW modelstore.checkpoint_checks;")
            })
        })
        .collect()
}

/// The hint leaves the other checks on.
fn refused(check: Check, message: String) -> Failure {
    let others: Vec<&str> = [Check::Finite, Check::Shape, Check::Parameters]
        .into_iter()
        .filter(|other| *other != check)
        .map(Check::name)
        .collect();
    Failure::new(Code::ERRCODE_CHECK_VIOLATION, message).hint(format!(
        "SET modelstore.checkpoint_checks = '{}';",
        others.join(",")
    ))
}

/// By the zone maps: nothing is decoded.
pub fn check_finite(store: &Store, of: StateDict) -> Result<()> {
    let entries = "SELECT w.weight_name, w.tensor_id FROM @entries@ w WHERE w.@owner@ = $1";
    not_finite(store, &of.sql(entries), &[uuid(of.id())])
}

/// The same for one tensor.
pub fn check_tensor_finite(store: &Store, name: &str, tensor: Uuid) -> Result<()> {
    not_finite(store, "SELECT $1, $2", &[text(name), uuid(tensor)])
}

/// `entries` is a query of names and tensors.
fn not_finite(store: &Store, entries: &str, arguments: &[DatumWithOid<'_>]) -> Result<()> {
    let found = store.row(
        &format!(
            "SELECT e.name, sum(d.nan_count)::bigint, sum(d.inf_count)::bigint
             FROM ({entries}) AS e(name, tensor_id) JOIN @store@.tensor_data d USING (tensor_id)
             WHERE d.nan_count > 0 OR d.inf_count > 0
             GROUP BY e.name ORDER BY e.name LIMIT 1"
        ),
        arguments,
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
        Some((name, nans, infinities)) => Err(refused(
            Check::Finite,
            format!("tensor \"{name}\" of the checkpoint is not finite"),
        )
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
            return Err(refused(
                Check::Shape,
                format!(
                    "weight \"{}\" of the checkpoint is not one of {before}",
                    tensor.name
                ),
            ));
        };
        if dtype != tensor.dtype || shape != tensor.shape {
            return Err(refused(
                Check::Shape,
                format!(
                    "weight \"{}\" of the checkpoint is {}{}",
                    tensor.name, tensor.dtype, tensor.shape
                ),
            )
            .detail(format!("In {before} it is {dtype}{shape}.")));
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some(name) => Err(
            refused(Check::Shape, format!("checkpoint has no weight \"{name}\""))
                .detail(format!("There is one in {before}.")),
        ),
    }
}

/// Counts as `calculate_model_parameters` does: equal matrices that are not constant are one parameter.
pub fn check_parameters(store: &Store, model: Uuid, of: StateDict) -> Result<()> {
    let config = store
        .row(
            "SELECT config FROM @store@.models WHERE model_id = $1",
            &[uuid(model)],
            |row| row.json(1),
        )?
        .flatten();
    let Some(expected) = config.as_ref().and_then(parameter_count) else {
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
    Err(refused(
        Check::Parameters,
        format!("checkpoint has {counted} parameters, not {expected}"),
    )
    .detail("The model's config says how many there are."))
}
