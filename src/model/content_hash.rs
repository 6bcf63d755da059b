//! The hash of all weights of a model or a checkpoint.

use crate::error::Result;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::uuid;
use crate::store::Store;
use modelstore_tensor::DType;

/// BLAKE3-256 over each weight in the order of the names: lengths, name, dtype, dimensions, content. Equal for equal
/// weights, whatever file they came in and however they are stored.
pub fn content_hash(store: &Store, of: StateDict) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    store.query(
        &of.sql(
            "SELECT w.weight_name, t.dtype, t.shape, t.content_hash
             FROM @weights@ w JOIN @store@.tensor_metadata t USING (tensor_id)
             WHERE w.@owner@ = $1 ORDER BY w.weight_name COLLATE \"C\"",
        ),
        &[uuid(of.id())],
        |row| {
            let name: String = row.get(1)?;
            let dtype = DType::from_name(&row.get::<String>(2)?)?;
            let shape: Vec<i64> = row.get(3)?;
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&[dtype.code(), shape.len() as u8]);
            for dim in &shape {
                hasher.update(&dim.to_le_bytes());
            }
            hasher.update(&row.get::<Vec<u8>>(4)?);
            Ok(())
        },
    )?;
    Ok(hasher.finalize())
}
