//! The manifest of an archive: all that is not the content of a file.

use crate::error::shown;
use crate::layout;
use crate::tar::Entries;
use crate::{Error, Result};
use modelstore_formats::file_name::is_file_path;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// What an archive calls itself.
pub const FORMAT: &str = "pg_modelstore archive";

/// Version of the archives that are written, and the only one that is read.
pub const VERSION: u64 = 1;

/// The largest manifest that is read.
pub const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// JSON that is passed on as it is: its numbers keep their digits.
pub type Raw = Box<RawValue>;

/// The manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
    /// The model.
    pub model: Model,
    /// Its runs, in the order of their start.
    pub runs: Vec<Run>,
    /// Its checkpoints, in the order in which they were created.
    pub checkpoints: Vec<Checkpoint>,
}

/// The model.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// registered, ready or archived.
    pub status: String,
    /// How it was derived from its parent.
    pub derivation: Option<String>,
    /// Its family.
    pub architecture: Option<String>,
    /// Its config.
    pub config: Option<Raw>,
    /// Other data of the user's choice.
    pub metadata: Option<Raw>,
    /// Its evaluations.
    pub evaluations: Raw,
    /// The license of its card.
    pub license: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// BLAKE3-256 of its weights, in hexadecimal.
    pub content_hash: Option<String>,
    /// Time of creation.
    pub created_at: String,
    /// Aliases that point at it.
    pub aliases: Vec<String>,
    /// Its ancestors, its parent first.
    pub lineage: Vec<Ancestor>,
    /// Weights that are not trained.
    pub frozen: Vec<String>,
    /// Its files, in `model/`.
    pub files: Vec<File>,
    /// Bytes of its gradients, in `gradients.safetensors`; none without gradients.
    pub gradients_bytes: Option<u64>,
}

/// An ancestor of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ancestor {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// BLAKE3-256 of its weights, in hexadecimal; none for a model without weights.
    pub content_hash: Option<String>,
    /// How it was derived from the next.
    pub derivation: Option<String>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
    /// safetensors for weights, safetensors_index, or file for one that is kept as it is, whatever is in it.
    #[serde(default)]
    pub format: Option<String>,
}

/// A run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its status.
    pub status: String,
    /// Its config.
    pub config: Option<Raw>,
    /// Planned number of steps.
    pub total_steps: Option<i64>,
    /// Name of the metric that counts as loss.
    pub loss_metric: String,
    /// Machine it ran on.
    pub host: Option<String>,
    /// Reason for a failure.
    pub error: Option<String>,
    /// Time of creation.
    pub created_at: String,
    /// Time it started.
    pub started_at: Option<String>,
    /// Time it ended.
    pub ended_at: Option<String>,
    /// Place of the checkpoint that it continues, if the archive has it.
    pub resumed_from: Option<usize>,
    /// Its plan of gradient checkpoints.
    pub gradient_checkpoints: Option<Raw>,
    /// Bytes of its metrics, in `runs/N/metrics.jsonl`; none without metrics.
    pub metrics_bytes: Option<u64>,
}

/// A checkpoint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Its folder.
    pub folder: String,
    /// Place of its run.
    pub run: Option<usize>,
    /// Its step.
    pub step: i64,
    /// Its epoch.
    pub epoch: Option<f64>,
    /// Place of the checkpoint that it continues, which comes before it.
    pub parent: Option<usize>,
    /// Metrics at this step.
    pub metrics: Option<Raw>,
    /// State of the random number generators, in hexadecimal.
    pub rng_state: Option<String>,
    /// The optimizer's parameter groups.
    pub param_groups: Option<Raw>,
    /// Other data of the user's choice.
    pub metadata: Option<Raw>,
    /// Whether pruning keeps it.
    pub pinned: bool,
    /// BLAKE3-256 of its weights, in hexadecimal.
    pub content_hash: Option<String>,
    /// Time of creation.
    pub created_at: String,
    /// model.safetensors and, with optimizer state, optimizer.safetensors.
    pub files: Vec<File>,
    /// Bytes of optimizer state that is in neither, in `optimizer-added.safetensors`.
    pub added_optimizer_bytes: Option<u64>,
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Manifest> {
        /// Read first: a later version may have other keys.
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u64,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| invalid(&e))?;
        if head.format != FORMAT {
            return Err(invalid(&format!("format is \"{}\"", shown(&head.format))));
        }
        if head.version != VERSION {
            return Err(Error::Version {
                version: head.version,
            });
        }
        // No text in PostgreSQL has one. An escape of a backslash before the letters is none.
        if has_zero(bytes) {
            return Err(invalid(&"a text has the character \\u0000"));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| invalid(&e))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Returns its text.
    pub fn write(&self) -> Result<Vec<u8>> {
        let mut out = serde_json::to_vec_pretty(self).map_err(|e| invalid(&e))?;
        out.push(b'\n');
        match out.len() as u64 {
            0..=MAX_MANIFEST_BYTES => Ok(out),
            length => Err(Error::ManifestTooLong { length }),
        }
    }

    fn check(&self) -> Result<()> {
        if !["registered", "ready", "archived"].contains(&self.model.status.as_str()) {
            let status = shown(&self.model.status);
            return Err(invalid(&format!("status is \"{status}\"")));
        }
        let checkpoints = self
            .checkpoints
            .iter()
            .flat_map(|checkpoint| &checkpoint.files);
        for file in self.model.files.iter().chain(checkpoints) {
            if !is_file_path(&file.name) {
                let name = shown(&file.name);
                return Err(Error::Name { name });
            }
        }
        for (place, checkpoint) in self.checkpoints.iter().enumerate() {
            let of_run = checkpoint.run.is_none_or(|run| run < self.runs.len());
            let after = checkpoint.parent.is_none_or(|parent| parent < place);
            if !of_run || !after {
                return Err(invalid(&format!(
                    "checkpoint {place} refers to nothing before it"
                )));
            }
            if checkpoint.folder != layout::checkpoint_folder(place, checkpoint.step) {
                return Err(invalid(&format!("checkpoint {place} has another folder")));
            }
        }
        for (place, run) in self.runs.iter().enumerate() {
            if run
                .resumed_from
                .is_some_and(|from| from >= self.checkpoints.len())
            {
                return Err(invalid(&format!("run {place} continues nothing")));
            }
        }
        Ok(())
    }

    /// Returns the entries of the archive besides the manifest, in order, each with its size.
    pub fn entries(&self) -> Vec<(String, u64)> {
        let mut entries = Vec::new();
        for file in &self.model.files {
            entries.push((layout::model_file(&file.name), file.bytes));
        }
        let gradients = self.model.gradients_bytes;
        entries.extend(gradients.map(|bytes| (layout::GRADIENTS.to_owned(), bytes)));
        for (place, run) in self.runs.iter().enumerate() {
            entries.extend(
                run.metrics_bytes
                    .map(|bytes| (layout::metrics_file(place), bytes)),
            );
        }
        for checkpoint in &self.checkpoints {
            for file in &checkpoint.files {
                entries.push((format!("{}/{}", checkpoint.folder, file.name), file.bytes));
            }
            let added = format!("{}/{}", checkpoint.folder, layout::ADDED_OPTIMIZER);
            entries.extend(checkpoint.added_optimizer_bytes.map(|bytes| (added, bytes)));
        }
        entries
    }

    /// Compares the entries of an archive with those that it lists.
    pub fn check_entries(&self, entries: &Entries) -> Result<()> {
        let mut listed: BTreeSet<String> = BTreeSet::from([layout::MANIFEST.to_owned()]);
        for (name, expected) in self.entries() {
            let (_, actual) = entries.find(&name)?;
            if actual != expected {
                return Err(Error::Size {
                    name,
                    expected,
                    actual,
                });
            }
            if !listed.insert(name.clone()) {
                return Err(Error::Duplicate { name });
            }
        }
        match entries.names().find(|name| !listed.contains(*name)) {
            Some(name) => Err(Error::Unexpected {
                name: name.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// Returns whether a text of JSON has the escape of a zero character.
fn has_zero(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

fn invalid(reason: &dyn ToString) -> Error {
    Error::Manifest {
        reason: reason.to_string(),
    }
}
