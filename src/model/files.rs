//! Files of a model that accompany its weights.

use crate::error::Result;
use crate::pg::arguments::uuid;
use crate::store::Store;
use uuid::Uuid;

/// Gives a new version of a model the files of another that are not weights, in this format or another: their rows, which share the content. Locks
/// them, and so keeps the content, until the transaction ends.
pub fn copy(store: &Store, from: Uuid, to: Uuid) -> Result<()> {
    store.execute(
        "WITH files AS MATERIALIZED (
             SELECT file_name, format, header, tensor_id, file_bytes, sha256, blake3, manifest_hash
             FROM @store@.model_files WHERE model_id = $1 AND format = 'file'
               -- The weights once more in another form or format: those of the other model.
               AND file_name !~* '[.]safetensors[.]index'
               AND file_name !~* '[.](safetensors|bin|pt|pth|ckpt|onnx|onnx_data|gguf|ggml|h5|msgpack|ot|tflite|mlmodel|npz|pdparams)$'
             FOR KEY SHARE)
         INSERT INTO @store@.model_files (model_id, file_name, format, header, tensor_id, file_bytes, sha256, blake3, manifest_hash)
         SELECT $2, f.* FROM files f
         ON CONFLICT DO NOTHING",
        &[uuid(from), uuid(to)],
    )?;
    // The card is that of README.md.
    store.execute(
        "UPDATE @store@.models t SET card = f.card, card_words = f.card_words, license = f.license, tags = f.tags
         FROM @store@.models f
         WHERE f.model_id = $1 AND t.model_id = $2 AND EXISTS (
             SELECT FROM @store@.model_files a JOIN @store@.model_files b USING (file_name, tensor_id)
             WHERE a.model_id = $1 AND b.model_id = $2 AND file_name = 'README.md')",
        &[uuid(from), uuid(to)],
    )?;
    Ok(())
}
