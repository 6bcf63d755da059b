//! Names of the entries of an archive.

/// The manifest, the first entry.
pub const MANIFEST: &str = "manifest.json";

/// Returns the entry of a file of the model.
pub fn model_file(name: &str) -> String {
    format!("model/{name}")
}

/// Returns the folder of a checkpoint, by its place in the manifest.
pub fn checkpoint_folder(place: usize, step: i64) -> String {
    format!("checkpoints/{:06}-step-{step}", place + 1)
}

/// The gradients of the model's weights.
pub const GRADIENTS: &str = "gradients.safetensors";

/// In the folder of a checkpoint: optimizer state that is not in its optimizer.safetensors.
pub const ADDED_OPTIMIZER: &str = "optimizer-added.safetensors";

/// Returns the entry of the metrics of a run, by its place in the manifest.
pub fn metrics_file(place: usize) -> String {
    format!("runs/{:06}/metrics.jsonl", place + 1)
}
