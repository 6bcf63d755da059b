//! Weights that a folder has once more, in another form: kept as files, as those in another format are.

use crate::error::{Result, notice};
use crate::formats::safetensors::files::Format;
use crate::formats::safetensors::import::{FileIn, weight_name};
use crate::pg::arguments::{text, uuid};
use crate::store::Store;
use modelstore_formats::file_name::folder_of;
use modelstore_formats::safetensors::{Header, ShardIndex};
use modelstore_formats::weight_files::WeightFile;
use std::collections::HashSet;
use uuid::Uuid;

/// Returns the file whose weights a file of this header holds in another form, if the model has one.
pub fn of_model(store: &Store, model: Uuid, name: &str, header: &Header) -> Result<Option<String>> {
    let own = WeightFile::of(name);
    let files = store.rows(
        "SELECT file_name FROM @store@.model_files WHERE model_id = $1 AND format = 'safetensors' ORDER BY file_name",
        &[uuid(model)],
        |row| row.get::<String>(1),
    )?;
    let mut names: Option<Vec<String>> = None;
    for file in files {
        let other = WeightFile::of(&file);
        if own.repeats(&other) {
            return Ok(Some(file));
        }
        if !own.is_other_form_of(&other) {
            continue;
        }
        let names = names.get_or_insert_with(|| weight_names(name, header).collect());
        let shares = store.row(
            "SELECT EXISTS (SELECT FROM @store@.model_weights
                            WHERE model_id = $1 AND file_name = $2 AND weight_name = ANY ($3))",
            &[uuid(model), text(&file), names.clone().into()],
            |row| row.get::<bool>(1),
        )?;
        if shares == Some(true) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn weight_names<'a>(name: &'a str, header: &'a Header) -> impl Iterator<Item = String> + 'a {
    let folder = folder_of(name);
    let tensors = header.tensors.iter();
    tensors.map(move |tensor| weight_name(folder, &tensor.name).into_owned())
}

/// Makes files of those of a folder that hold weights in another form than the one that counts.
pub fn keep_whole(files: &mut [FileIn<'_>]) -> Result<()> {
    let is_weights = |file: &FileIn<'_>| file.format == Format::Safetensors;
    let mut order: Vec<usize> = (0..files.len())
        .filter(|&n| is_weights(&files[n]))
        .collect();
    order.sort_by_key(|&n| WeightFile::of(files[n].name).preference());
    let mut taken: Vec<(usize, HashSet<&str>)> = Vec::new();
    let mut others: Vec<(usize, &str)> = Vec::new();
    for &n in &order {
        let (own, header) = (WeightFile::of(files[n].name), &files[n].header);
        let names = || header.tensors.iter().map(|tensor| tensor.name.as_str());
        let form = taken.iter().find(|(other, theirs)| {
            let other = WeightFile::of(files[*other].name);
            own.repeats(&other)
                || own.is_other_form_of(&other) && names().any(|name| theirs.contains(name))
        });
        match form {
            Some((of, _)) => others.push((n, files[*of].name)),
            None => taken.push((n, names().collect())),
        }
        pgrx::check_for_interrupts!();
    }
    for (n, of) in others {
        files[n].keep_whole()?;
        tell(files[n].name, of);
    }
    Ok(())
}

/// Returns whether an index lists nothing but files that a model keeps as they are.
pub fn is_index(store: &Store, model: Uuid, name: &str, index: &ShardIndex) -> Result<bool> {
    let kept = store.rows(
        "SELECT file_name FROM @store@.model_files WHERE model_id = $1 AND format = 'file'",
        &[uuid(model)],
        |row| row.get::<String>(1),
    )?;
    Ok(lists_only(name, index, &kept.into_iter().collect()))
}

/// Returns whether an index lists nothing but files of these names.
pub fn lists_only(name: &str, index: &ShardIndex, names: &HashSet<String>) -> bool {
    let (folder, shards) = (folder_of(name), index.files());
    let mut shards = shards.iter().map(|shard| format!("{folder}{shard}"));
    shards.len() > 0 && shards.all(|shard| names.contains(&shard))
}

/// Says that a file is none of weights.
pub fn tell(name: &str, of: &str) {
    notice(&format!(
        "file \"{name}\" holds the weights of file \"{of}\" in another form and is kept without them"
    ));
}
