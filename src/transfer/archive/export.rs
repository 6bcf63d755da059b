//! Streams a model as an archive.

use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::export::Export;
use crate::io::parts::Parts;
use crate::model::state_dict::StateDict;
use crate::store::Store;
use crate::transfer::archive::describe::describe;
use crate::transfer::archive::loose::{self, Loose};
use crate::transfer::archive::metrics::Lines;
use modelstore_archive::layout;
use modelstore_archive::tar;
use std::collections::VecDeque;
use uuid::Uuid;

/// The content of an entry that has not begun.
enum Content {
    Bytes(Vec<u8>),
    File(StateDict, String),
    Metrics(Uuid),
    Loose(loose::Of),
}

/// An entry: its name, its size, its content.
type Entry = (String, u64, Content);

/// The content that is being read.
enum Open {
    Bytes(Option<Vec<u8>>),
    File(Box<Export>),
    Metrics(Lines),
    Loose(Box<Loose>),
}

/// The parts of an archive, in order. The same model gives the same bytes. Memory: the manifest and a few chunks.
pub struct ArchiveExport {
    store: Store,
    entries: VecDeque<Entry>,
    /// Time of all entries.
    mtime: u64,
    /// The entry that is being read: its name, its size, the bytes that are still to come.
    current: Option<(String, u64, u64, Open)>,
    is_ended: bool,
}

impl ArchiveExport {
    /// Starts to export a model.
    pub fn begin(store: &Store, model: Uuid, with_checkpoints: bool) -> Result<ArchiveExport> {
        let (manifest, ids, mtime) = describe(store, model, with_checkpoints)?;
        let bytes = manifest.write()?;
        let mut entries: VecDeque<Entry> = VecDeque::new();
        for file in &manifest.model.files {
            let content = Content::File(StateDict::Model(model), file.name.clone());
            entries.push_back((layout::model_file(&file.name), file.bytes, content));
        }
        if let Some(bytes) = manifest.model.gradients_bytes {
            let content = Content::Loose(loose::Of::Gradients(model));
            entries.push_back((layout::GRADIENTS.to_owned(), bytes, content));
        }
        for (place, (run, id)) in manifest.runs.iter().zip(&ids.runs).enumerate() {
            if let Some(bytes) = run.metrics_bytes {
                entries.push_back((layout::metrics_file(place), bytes, Content::Metrics(*id)));
            }
        }
        for (checkpoint, id) in manifest.checkpoints.iter().zip(&ids.checkpoints) {
            for file in &checkpoint.files {
                let content = Content::File(StateDict::Checkpoint(*id), file.name.clone());
                let name = format!("{}/{}", checkpoint.folder, file.name);
                entries.push_back((name, file.bytes, content));
            }
            if let Some(bytes) = checkpoint.added_optimizer_bytes {
                let content = Content::Loose(loose::Of::Optimizer(*id));
                let name = format!("{}/{}", checkpoint.folder, layout::ADDED_OPTIMIZER);
                entries.push_back((name, bytes, content));
            }
        }
        let size = bytes.len() as u64;
        entries.push_front((layout::MANIFEST.to_owned(), size, Content::Bytes(bytes)));
        Ok(ArchiveExport {
            store: store.clone(),
            entries,
            mtime,
            current: None,
            is_ended: false,
        })
    }

    fn begin_entry(&mut self) -> Result<Option<Vec<u8>>> {
        let Some((name, size, content)) = self.entries.pop_front() else {
            let end = (!self.is_ended).then(|| tar::END.to_vec());
            self.is_ended = true;
            return Ok(end);
        };
        let open = match content {
            Content::Bytes(bytes) => Open::Bytes(Some(bytes)),
            Content::File(of, file) => {
                Open::File(Box::new(Export::begin(&self.store, of, Some(&file))?))
            }
            Content::Metrics(run) => Open::Metrics(Lines::new(&self.store, run)?),
            Content::Loose(of) => Open::Loose(Box::new(Loose::begin(&self.store, of)?)),
        };
        let head = tar::head(&name, size, self.mtime);
        self.current = Some((name, size, size, open));
        Ok(Some(head))
    }
}

impl Parts for ArchiveExport {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let Some((name, size, left, open)) = &mut self.current else {
                return self.begin_entry();
            };
            let part = match open {
                Open::Bytes(bytes) => bytes.take(),
                Open::File(export) => export.next()?,
                Open::Metrics(lines) => lines.next()?,
                Open::Loose(loose) => loose.next()?,
            };
            let Some(part) = part else {
                if *left > 0 {
                    return Err(wrong_size(name, *size, *size - *left));
                }
                let padding = tar::padding(*size);
                self.current = None;
                if padding > 0 {
                    return Ok(Some(vec![0; padding]));
                }
                continue;
            };
            match left.checked_sub(part.len() as u64) {
                Some(rest) => *left = rest,
                None => return Err(wrong_size(name, *size, *size - *left + part.len() as u64)),
            }
            if !part.is_empty() {
                return Ok(Some(part));
            }
        }
    }

    fn recycle(&mut self, part: Vec<u8>) {
        if let Some((.., Open::File(export))) = &mut self.current {
            export.recycle(part);
        }
    }
}

fn wrong_size(name: &str, expected: u64, actual: u64) -> Failure {
    Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        format!("file \"{name}\" of the archive has {actual} bytes, not {expected}"),
    )
    .detail("The recorded size of a file is wrong.")
    .hint("SELECT * FROM modelstore.verify_store();")
}
