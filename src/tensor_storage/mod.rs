//! Stored tensors: written as chunks, and read back.

pub mod diff;
pub mod embedding;
pub mod find;
pub mod get;
pub mod locate;
pub mod partial;
pub mod raw_bytes;
pub mod statistics;
pub mod stream;
pub mod weights;
pub mod write;
pub mod zone;

use crate::store::module::Module;

/// Every store has it.
pub const MODULE: Module = Module {
    is_core: true,
    holds: &[("unfinished uploads", "uploads")],
    contradictions: &[
        "SELECT 'chunk ' || encode(chunk_hash, 'hex'), chunk_hash, 'recorded sizes or base do not match the chunk'
         FROM @store@.tensor_chunks
         WHERE raw_bytes <> modelstore.raw_size(chunk) OR stored_bytes <> modelstore.stored_size(chunk)
            OR base_hash IS DISTINCT FROM modelstore.base_hash(chunk)",
        "SELECT 'chunk ' || encode(c.chunk_hash, 'hex'), c.chunk_hash, 'recorded depth does not fit that of the base'
         FROM @store@.tensor_chunks c LEFT JOIN @store@.tensor_chunks b ON b.chunk_hash = c.base_hash
         WHERE c.delta_depth <= b.delta_depth OR (c.delta_depth = 0) <> (c.base_hash IS NULL)",
        "SELECT 'tensor ' || t.tensor_id, NULL::bytea, 'has another number of pieces than recorded'
         FROM @store@.tensor_metadata t
         WHERE chunk_count <> (SELECT count(*) FROM @store@.tensor_data d WHERE d.tensor_id = t.tensor_id)",
        "SELECT 'model ' || w.model_id, NULL::bytea, format('weight %I is tied to one of another tensor', w.weight_name)
         FROM @store@.model_weights w
         JOIN @store@.model_weights o ON o.model_id = w.model_id AND o.weight_name = w.tied_to
         WHERE o.tensor_id <> w.tensor_id OR o.tied_to IS NOT NULL",
        "SELECT 'model ' || e.model_id, NULL::bytea, format('%s embedding is not of the shape of weight %I', e.kind, e.weight_name)
         FROM @store@.embeddings e
         JOIN @store@.model_weights w USING (model_id, weight_name)
         JOIN @store@.tensor_metadata t USING (tensor_id)
         WHERE t.shape IS DISTINCT FROM ARRAY[e.row_count, e.dim]",
    ],
    tensors_of_models: &[
        "SELECT model_id, false AS is_checkpoint, tensor_id FROM @store@.model_weights",
        "SELECT model_id, false, gradient_tensor_id FROM @store@.model_weights WHERE gradient_tensor_id IS NOT NULL",
        "SELECT model_id, false, tensor_id FROM @store@.model_files WHERE tensor_id IS NOT NULL",
    ],
    ..Module::new(
        "tensors",
        include_str!("../../sql/store/02_tensor_storage.sql"),
    )
};
