//! Compares two models or two checkpoints weight by weight.

use crate::error::{Result, or_raise};
use crate::model::arguments::{Regcheckpoint, Regmodel};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{from_sql_uuid, uuid};
use crate::store::Store;
use crate::tensor_storage::locate;
use crate::tensor_storage::stream::ChunkStream;
use modelstore_chunk::StoredTensor;
use modelstore_tensor::TensorView;
use modelstore_tensor::difference::Difference;
use modelstore_tensor::{DType, Shape, convert};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

type Row = (
    String,
    &'static str,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    i64,
);

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn diff_models(
    a: Regmodel,
    b: Regmodel,
) -> TableIterator<
    'static,
    (
        name!(weight_name, String),
        name!(status, &'static str),
        name!(l2, Option<f64>),
        name!(max_abs, Option<f64>),
        name!(cosine, Option<f64>),
        name!(shared_bytes, i64),
    ),
> {
    let (a, b) = (a.0, b.0);
    TableIterator::new(or_raise(diff(StateDict::Model(a), StateDict::Model(b))))
}

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn diff_checkpoints(
    a: Regcheckpoint,
    b: Regcheckpoint,
) -> TableIterator<
    'static,
    (
        name!(weight_name, String),
        name!(status, &'static str),
        name!(l2, Option<f64>),
        name!(max_abs, Option<f64>),
        name!(cosine, Option<f64>),
        name!(shared_bytes, i64),
    ),
> {
    let (a, b) = (a.0, b.0);
    let differences = diff(StateDict::Checkpoint(a), StateDict::Checkpoint(b));
    TableIterator::new(or_raise(differences))
}

fn diff(a: StateDict, b: StateDict) -> Result<Vec<Row>> {
    let store = Store::for_reading()?;
    a.require(&store)?;
    b.require(&store)?;
    let pairs = store.rows(
        &a.sql(
            "SELECT coalesce(x.weight_name, y.weight_name), x.tensor_id, y.tensor_id,
                coalesce((SELECT sum(c.raw_bytes)
                          FROM (SELECT chunk_hash FROM @store@.tensor_data WHERE tensor_id = x.tensor_id
                                INTERSECT
                                SELECT chunk_hash FROM @store@.tensor_data WHERE tensor_id = y.tensor_id) both_have
                          JOIN @store@.tensor_chunks c USING (chunk_hash)), 0)::bigint
         FROM (SELECT weight_name, tensor_id FROM @weights@ WHERE @owner@ = $1) x
         FULL JOIN (SELECT weight_name, tensor_id FROM @weights@ WHERE @owner@ = $2) y USING (weight_name)
         ORDER BY 1",
        ),
        &[uuid(a.id()), uuid(b.id())],
        |row| {
            let id = |n| row.opt::<SqlUuid>(n).map(|id| id.map(from_sql_uuid));
            Ok((row.get::<String>(1)?, id(2)?, id(3)?, row.get::<i64>(4)?))
        },
    )?;
    pairs
        .into_iter()
        .map(|(name, x, y, shared)| match (x, y) {
            (Some(x), Some(y)) if x == y => Ok((name, "same", Some(0.0), Some(0.0), None, shared)),
            (Some(x), Some(y)) => {
                let (x, y) = (locate::tensor(&store, x)?, locate::tensor(&store, y)?);
                let difference = compare(&store, &x, &y)?;
                Ok((
                    name,
                    "changed",
                    difference.as_ref().map(Difference::l2),
                    difference.as_ref().map(Difference::max_abs),
                    difference.as_ref().and_then(Difference::cosine),
                    shared,
                ))
            }
            (None, _) => Ok((name, "added", None, None, None, 0)),
            (_, None) => Ok((name, "removed", None, None, None, 0)),
        })
        .collect()
}

/// Elements between two checks for interrupts.
const CHECK: usize = 1 << 18;

/// Returns `None` if the shapes differ or a dtype is not numeric. Tensors of different dtypes may be chunked
/// differently, so elements are matched by position. Memory: a few chunks of each tensor.
fn compare(store: &Store, x: &StoredTensor, y: &StoredTensor) -> Result<Option<Difference>> {
    if x.shape != y.shape || !x.dtype.is_numeric() || !y.dtype.is_numeric() {
        return Ok(None);
    }
    let (mut xs, mut ys) = (Numbers::new(store, x)?, Numbers::new(store, y)?);
    let mut difference = Difference::default();
    loop {
        let n = xs.fill()?.min(ys.fill()?).min(CHECK);
        if n == 0 {
            return Ok(Some(difference));
        }
        difference.add(xs.take(n), ys.take(n));
        xs.drop_front(n);
        ys.drop_front(n);
        pgrx::check_for_interrupts!();
    }
}

/// The elements of a stored tensor as numbers, one chunk at a time.
struct Numbers {
    stream: ChunkStream,
    dtype: DType,
    numbers: Vec<f64>,
    used: usize,
}

impl Numbers {
    fn new(store: &Store, tensor: &StoredTensor) -> Result<Numbers> {
        let pieces = locate::all_pieces(store, tensor)?;
        let stream = ChunkStream::of_tensor(store, tensor, pieces)?;
        Ok(Numbers {
            stream,
            dtype: tensor.dtype,
            numbers: Vec::new(),
            used: 0,
        })
    }

    /// Returns how many numbers are ready, after reading the next chunk if there are none; 0 at the end.
    fn fill(&mut self) -> Result<usize> {
        while self.used == self.numbers.len() {
            let Some(raw) = self.stream.next()? else {
                return Ok(0);
            };
            let elements =
                raw.len() as u64 / self.dtype.block_bytes() * self.dtype.block_elements();
            self.numbers = convert::to_f64_vec(&TensorView::new(
                self.dtype,
                Shape::new(&[elements])?,
                &raw,
            )?)?;
            self.used = 0;
            self.stream.recycle(raw);
        }
        Ok(self.numbers.len() - self.used)
    }

    fn take(&self, n: usize) -> &[f64] {
        &self.numbers[self.used..self.used + n]
    }

    fn drop_front(&mut self, n: usize) {
        self.used += n;
    }
}
