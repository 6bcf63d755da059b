//! Statistics of all weights of a model, from the zone maps.

use crate::error::{Result, or_raise};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::uuid;
use crate::store::Store;
use pgrx::prelude::*;

type Statistics = (
    String,
    String,
    Vec<i64>,
    i64,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn weight_statistics(
    model: Regmodel,
) -> TableIterator<
    'static,
    (
        name!(weight_name, String),
        name!(dtype, String),
        name!(shape, Vec<i64>),
        name!(element_count, i64),
        name!(min, Option<f64>),
        name!(max, Option<f64>),
        name!(mean, Option<f64>),
        name!(std, Option<f64>),
        name!(l2, Option<f64>),
        name!(absmax, Option<f64>),
        name!(zeros, Option<i64>),
        name!(nans, Option<i64>),
        name!(infs, Option<i64>),
    ),
> {
    TableIterator::new(or_raise(of(model)))
}

/// One statement for all weights: on a distributed store, a function called for each of its rows cannot read it. As
/// v_weight_statistics, which is not used because its owner could put anything in its place.
fn of(model: Regmodel) -> Result<Vec<Statistics>> {
    let store = Store::for_reading()?;
    models::require(&store, model.0)?;
    store.rows(
        "SELECT w.weight_name, t.dtype, t.shape, t.element_count, s.low, s.high, modelstore.zone_mean(s.counts, s.means),
                modelstore.zone_std(s.counts, s.means, s.stds), modelstore.zone_l2(s.counts, s.means, s.stds),
                s.abs_max, s.zeros, s.nans, s.infs
         FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
         LEFT JOIN LATERAL (
             SELECT min(d.value_min) AS low, max(d.value_max) AS high,
                    array_agg(d.element_count - d.nan_count ORDER BY d.chunk_index) AS counts,
                    array_agg(d.value_mean ORDER BY d.chunk_index) AS means,
                    array_agg(d.value_std ORDER BY d.chunk_index) AS stds,
                    max(d.abs_max) AS abs_max, sum(d.zero_count)::bigint AS zeros,
                    sum(d.nan_count)::bigint AS nans, sum(d.inf_count)::bigint AS infs
             FROM @store@.tensor_data d WHERE d.tensor_id = t.tensor_id) s ON true
         WHERE w.model_id = $1 ORDER BY w.weight_name",
        &[uuid(model.0)],
        |row| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.opt(5)?,
                row.opt(6)?,
                row.opt(7)?,
                row.opt(8)?,
                row.opt(9)?,
                row.opt(10)?,
                row.opt(11)?,
                row.opt(12)?,
                row.opt(13)?,
            ))
        },
    )
}
