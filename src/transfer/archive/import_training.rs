//! Restores runs, metrics and checkpoints of an archive.

use crate::error::Result;
use crate::formats::safetensors::import::{FileIn, Imported};
use crate::io::Source;
use crate::model::state_dict::StateDict;
use crate::names;
use crate::pg::arguments::{maybe_bytes, maybe_text, maybe_uuid, now, text, uuid};
use crate::store::Store;
use crate::training::checkpoint::{NewCheckpoint, OPTIMIZER_FILE, WEIGHTS_FILE, create_silently};
use crate::transfer::archive::import::{add, at, check_content_hash, check_files, json};
use crate::transfer::archive::loose;
use crate::transfer::archive::metrics;
use crate::transfer::archive::part::{Archive, Part};
use modelstore_archive::tar::Entries;
use modelstore_archive::{Checkpoint, Error, Manifest, Run, layout};
use pgrx::datetime::clock_timestamp;
use uuid::Uuid;

/// Restores the runs and the checkpoints of a model. Times are those of the archive; who imports it has created them.
pub fn restore_training(
    store: &Store,
    archive: Archive<'_, '_>,
    entries: &Entries,
    manifest: &Manifest,
    model: Uuid,
    total: &mut Imported,
) -> Result<()> {
    let mut runs = Vec::new();
    for (place, run) in manifest.runs.iter().enumerate() {
        let id = begin_run(store, model, run)?;
        if run.metrics_bytes.is_some() {
            let name = layout::metrics_file(place);
            let mut part = Part::new(archive, entries.find(&name)?);
            metrics::restore(store, id, &name, &mut part)?;
        }
        runs.push(id);
    }
    let mut checkpoints = Vec::new();
    for checkpoint in &manifest.checkpoints {
        pgrx::check_for_interrupts!();
        let parent = at(&checkpoints, checkpoint.parent);
        let run = at(&runs, checkpoint.run);
        let one = restore_checkpoint(store, archive, entries, checkpoint, model, run, parent)?;
        add(total, &one);
        checkpoints.push(one.model);
    }
    for (run, id) in manifest.runs.iter().zip(&runs) {
        end_run(store, *id, run, at(&checkpoints, run.resumed_from))?;
    }
    Ok(())
}

/// Inserts a run that is open: its checkpoints are yet to come.
fn begin_run(store: &Store, model: Uuid, run: &Run) -> Result<Uuid> {
    names::check("loss metric", &run.loss_metric)?;
    if let Some(name) = &run.name {
        names::check("session name", name)?;
    }
    let id = Uuid::now_v7();
    store.execute(
        "INSERT INTO @store@.training_sessions (session_id, model_id, session_name, config, total_steps, loss_metric, host, error,
                                                created_at, started_at, ended_at)
         VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, least($9::timestamptz, $12), least($10::timestamptz, $13),
                 least($11::timestamptz, $14))",
        &[
            uuid(id),
            uuid(model),
            maybe_text(run.name.as_deref()),
            maybe_text(json(run.config.as_ref())),
            run.total_steps.into(),
            text(&run.loss_metric),
            maybe_text(run.host.as_deref()),
            maybe_text(run.error.as_deref()),
            text(&run.created_at),
            maybe_text(run.started_at.as_deref()),
            maybe_text(run.ended_at.as_deref()),
            now(),
            // Without a time there is none now.
            run.started_at.as_ref().map(|_| clock_timestamp()).into(),
            run.ended_at.as_ref().map(|_| clock_timestamp()).into(),
        ],
    )?;
    if let Some(plan) = json(run.gradient_checkpoints.as_ref()) {
        store.execute(
            "INSERT INTO @store@.gradient_checkpoints (session_id, layer_index, policy, segment, kept_bytes, recompute_flops)
             SELECT $1, r.layer_index, r.policy, r.segment, r.kept_bytes, r.recompute_flops
             FROM jsonb_to_recordset($2::jsonb) AS r(layer_index integer, policy text, segment integer, kept_bytes bigint,
                                                     recompute_flops double precision)",
            &[uuid(id), text(plan)],
        )?;
    }
    Ok(id)
}

fn end_run(store: &Store, id: Uuid, run: &Run, resumed_from: Option<Uuid>) -> Result<()> {
    store.execute(
        "UPDATE @store@.training_sessions SET status = $2, resumed_from_checkpoint_id = $3 WHERE session_id = $1",
        &[uuid(id), text(&run.status), maybe_uuid(resumed_from)],
    )?;
    Ok(())
}

fn restore_checkpoint(
    store: &Store,
    archive: Archive<'_, '_>,
    entries: &Entries,
    checkpoint: &Checkpoint,
    model: Uuid,
    run: Option<Uuid>,
    parent: Option<Uuid>,
) -> Result<Imported> {
    let entry = |name: &str| format!("{}/{name}", checkpoint.folder);
    let part = |name: &str| entries.find(&entry(name)).map(|at| Part::new(archive, at));
    let of_others = |name: &str| name != WEIGHTS_FILE && name != OPTIMIZER_FILE;
    if let Some(other) = checkpoint.files.iter().find(|file| of_others(&file.name)) {
        let name = entry(&other.name);
        return Err(Error::Unexpected { name }.into());
    }
    let mut weights = part(WEIGHTS_FILE)?;
    let has_optimizer = checkpoint
        .files
        .iter()
        .any(|file| file.name == OPTIMIZER_FILE);
    let mut optimizer = has_optimizer.then(|| part(OPTIMIZER_FILE)).transpose()?;
    let open = |name: &'static str, source| {
        FileIn::open(name, source).map_err(|e| e.about(&format!("file \"{}\"", entry(name))))
    };
    let new = NewCheckpoint {
        model,
        session: run,
        step: checkpoint.step,
        epoch: checkpoint.epoch,
        metrics: None,
        rng_state: None,
        param_groups: None,
        metadata: None,
        parent,
        checks: Vec::new(),
    };
    let optimizer = optimizer
        .as_mut()
        .map(|part| open(OPTIMIZER_FILE, part as &mut dyn Source))
        .transpose()?;
    let created = create_silently(store, &new, open(WEIGHTS_FILE, &mut weights)?, optimizer)?;
    let rng_state = match &checkpoint.rng_state {
        Some(hex) => Some(from_hex(hex)?),
        None => None,
    };
    store.execute(
        "UPDATE @store@.model_checkpoints
         SET parent_checkpoint_id = $2, metrics = $3::jsonb, rng_state = $4, param_groups = $5::jsonb, metadata = $6::jsonb,
             pinned = $7, created_at = least($8::timestamptz, $9)
         WHERE checkpoint_id = $1",
        &[
            uuid(created.model),
            maybe_uuid(parent),
            maybe_text(json(checkpoint.metrics.as_ref())),
            maybe_bytes(rng_state.as_deref()),
            maybe_text(json(checkpoint.param_groups.as_ref())),
            maybe_text(json(checkpoint.metadata.as_ref())),
            checkpoint.pinned.into(),
            text(&checkpoint.created_at),
            now(),
        ],
    )?;
    if checkpoint.added_optimizer_bytes.is_some() {
        let name = entry(layout::ADDED_OPTIMIZER);
        let mut part = part(layout::ADDED_OPTIMIZER)?;
        loose::restore(store, loose::Of::Optimizer(created.model), &name, &mut part)?;
    }
    let of = StateDict::Checkpoint(created.model);
    check_files(store, of, &checkpoint.files)?;
    check_content_hash(store, of, checkpoint.content_hash.as_deref())?;
    Ok(created)
}

fn from_hex(hex: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![0; hex.len() / 2];
    faster_hex::hex_decode(hex.as_bytes(), &mut bytes).map_err(|e| Error::Manifest {
        reason: format!("rng_state is not hexadecimal: {e}"),
    })?;
    Ok(bytes)
}
