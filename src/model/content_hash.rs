//! The hash of all weights of a model or a checkpoint.

use crate::error::Result;
use crate::model::architecture::Weight;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::uuid;
use crate::store::Store;
use modelstore_chunk::ChunkHash;
use modelstore_tensor::DType;
use std::collections::BTreeMap;

/// Hash of the weights: BLAKE3-256 over each weight in the order of names: lengths, name, dtype, dimensions, content.
/// Equal for equal weights, whatever file they came from and however they are stored.
#[derive(Default)]
pub struct ContentHash(BTreeMap<String, (DType, Vec<u64>, ChunkHash)>);

impl ContentHash {
    /// Collects weights.
    pub fn of(weights: &[Weight]) -> ContentHash {
        let mut hash = ContentHash::default();
        for w in weights {
            hash.add(&w.name, w.dtype, &w.dims, w.content_hash);
        }
        hash
    }

    fn add(&mut self, name: &str, dtype: DType, dims: &[u64], content_hash: ChunkHash) {
        let weight = (dtype, dims.to_vec(), content_hash);
        self.0.insert(name.to_owned(), weight);
    }

    /// Computes the hash.
    pub fn finish(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (name, (dtype, dims, content_hash)) in &self.0 {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&[dtype.code(), dims.len() as u8]);
            for dim in dims {
                hasher.update(&dim.to_le_bytes());
            }
            hasher.update(content_hash.as_bytes());
        }
        hasher.finalize()
    }
}

/// Computes the hash of the stored weights of a model or a checkpoint.
pub fn content_hash(store: &Store, of: StateDict) -> Result<blake3::Hash> {
    let mut hash = ContentHash::default();
    store.query(
        &of.sql(
            "SELECT w.weight_name, t.dtype, t.shape, t.content_hash
             FROM @weights@ w JOIN @store@.tensor_metadata t USING (tensor_id)
             WHERE w.@owner@ = $1",
        ),
        &[uuid(of.id())],
        |row| {
            let name: String = row.get(1)?;
            let dtype = DType::from_name(&row.get::<String>(2)?)?;
            let dims: Vec<u64> = row.get::<Vec<i64>>(3)?.iter().map(|d| *d as u64).collect();
            hash.add(
                &name,
                dtype,
                &dims,
                ChunkHash::from_slice(&row.get::<Vec<u8>>(4)?)?,
            );
            Ok(())
        },
    )?;
    Ok(hash.finish())
}
