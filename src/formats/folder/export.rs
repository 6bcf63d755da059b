//! Writes the files of a model to a folder on the server.

use crate::error::{Code, Failure, Result};
use crate::formats::folder::server_folder::MAX_FILES;
use crate::formats::safetensors::export::Export;
use crate::io::half_written::HalfWritten;
use crate::io::parts::drain;
use crate::io::server_file::{Access, io_failure, require_absolute, require_privilege};
use crate::model::state_dict::StateDict;
use crate::names;
use crate::pg::arguments::uuid;
use crate::store::Store;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use uuid::Uuid;

/// Writes all files to a folder that does not exist or is empty, and returns their number and bytes. They are written to
/// another folder next to it, which takes its name when it is complete: nobody sees half of a model.
pub fn export_folder(store: &Store, model: Uuid, path: &Path) -> Result<(usize, u64)> {
    require_privilege(Access::Write)?;
    require_absolute(path)?;
    let names = store.rows(
        "SELECT file_name FROM @store@.model_files WHERE model_id = $1 ORDER BY file_name",
        &[uuid(model)],
        |row| row.get::<String>(1),
    )?;
    if names.is_empty() {
        crate::model::models::require(store, model)?;
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("model {model} has no files"),
        )
        .hint(store.sql("SELECT model_id, count(*) FROM @store@.model_files GROUP BY 1;")));
    }
    if names.len() > MAX_FILES {
        return Err(Failure::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("model {model} has {} files", names.len()),
        )
        .detail(format!("At most {MAX_FILES} are written to a folder.")));
    }
    check_free(path)?;
    let Some(last) = path.file_name() else {
        return Err(exists(path));
    };
    let mut partial = last.to_owned();
    partial.push(format!(".{}.partial", Uuid::now_v7()));
    let partial = path.with_file_name(partial);
    fs::create_dir(&partial).map_err(|e| io_failure("create", &partial, &e))?;
    let half_written = HalfWritten::new(&partial);
    let mut bytes = 0;
    for name in &names {
        bytes += write(store, model, name, &partial)?;
    }
    // Replaces an empty folder, and nothing else.
    fs::rename(&partial, path).map_err(|e| io_failure("create", path, &e))?;
    half_written.finished();
    if let Some(parent) = path.parent() {
        let synced = File::open(parent).and_then(|folder| folder.sync_all());
        synced.map_err(|e| io_failure("write", parent, &e))?;
    }
    Ok((names.len(), bytes))
}

fn write(store: &Store, model: Uuid, name: &str, folder: &Path) -> Result<u64> {
    // Whoever may write to the tables can put any name there.
    let path = folder.join(names::check_file(name)?);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| io_failure("create", parent, &e))?;
    }
    let mut export = Export::begin(store, StateDict::Model(model), Some(name))?;
    let mut file = File::create_new(&path).map_err(|e| io_failure("create", &path, &e))?;
    let mut bytes = 0;
    drain(&mut export, |part| {
        bytes += part.len() as u64;
        file.write_all(part)
            .map_err(|e| io_failure("write", &path, &e))
    })?;
    file.sync_all()
        .map_err(|e| io_failure("write", &path, &e))?;
    Ok(bytes)
}

/// Known before anything is written; the rename decides.
fn check_free(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_dir() => Err(exists(path)),
        Ok(_) => {
            let mut entries = path.read_dir().map_err(|e| io_failure("open", path, &e))?;
            match entries.next() {
                Some(_) => Err(exists(path)),
                None => Ok(()),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io_failure("create", path, &e)),
    }
}

fn exists(path: &Path) -> Failure {
    Failure::new(
        Code::ERRCODE_DUPLICATE_FILE,
        format!("\"{}\" already exists", path.display()),
    )
    .detail("A model is exported to a folder that does not exist or is empty.")
}
