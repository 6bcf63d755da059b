//! One run of an ingest: taken apart, written, logged.

use crate::atom::collect::collect;
use crate::atom::pending::Pending;
use crate::atom::write::{Counts, Writer};
use crate::error::{Result, warning};
use crate::io::Source;
use crate::pg::arguments::{maybe_bytes, maybe_text, text, uuid};
use crate::pg::query::refuse_during_recovery;
use crate::pg::subtransaction::subtransaction;
use crate::store::Store;
use modelstore_atom::{Key, Modality};
use std::collections::HashSet;
use uuid::Uuid;

/// What a run is about.
pub struct Run<'a> {
    /// Its store.
    pub store: Store,
    /// The kind of data.
    pub modality: Modality,
    /// Where the data is from, as its user says.
    pub source_uri: Option<&'a str>,
}

/// What a run left: its row of the log.
pub struct Ingested {
    /// Key of the log's row.
    pub id: Uuid,
    /// What was done, or why nothing was.
    pub outcome: Result<Done>,
}

/// What a run did.
pub struct Done {
    /// The atoms taken in as wholes, in the order of the sources: key, bytes, and whether they are new.
    pub roots: Vec<(Key, u64, bool)>,
    /// The hash of the only source; none of several.
    source_hash: Option<[u8; 32]>,
    /// Distinct atoms.
    pub counts: Counts,
    /// Bytes of all sources.
    pub byte_length: u64,
}

/// Several sources, one behind the other.
pub trait Sources {
    /// Opens them and hands each over with where it begins among all of them.
    fn each(&mut self, take: &mut dyn FnMut(&mut dyn Source, u64) -> Result<()>) -> Result<()>;

    /// All of them as one, for reading again.
    fn joined(&mut self) -> Result<Box<dyn Source + '_>>;
}

impl Run<'_> {
    /// Runs it. When it fails, what it wrote is undone and the log says why, with a warning to the client: an error would
    /// undo the row of the log as well.
    pub fn ingest(&self, sources: &mut dyn Sources) -> Result<Ingested> {
        refuse_during_recovery()?;
        let id = Uuid::now_v7();
        self.store.execute(
            "INSERT INTO @store@.ingestion_log (ingestion_id, modality, source_uri, status) VALUES ($1, $2, $3, 'running')",
            &[uuid(id), (self.modality as i16).into(), maybe_text(self.source_uri)],
        )?;
        let outcome = subtransaction(|| self.run(sources));
        self.log(id, &outcome)?;
        if let Err(failure) = &outcome {
            warning(&format!("ingest failed: {}", failure.message()));
        }
        Ok(Ingested { id, outcome })
    }

    fn run(&self, sources: &mut dyn Sources) -> Result<Done> {
        let mut pending = Pending::default();
        let mut byte_length = 0;
        sources.each(&mut |source, base| {
            byte_length = base + source.len();
            collect(&self.store, source, base, self.modality, &mut pending)
        })?;
        let mut writer = Writer::new(&self.store, self.modality, &pending)?;
        let counts = writer.write(&mut *sources.joined()?)?;
        let mut before = HashSet::new();
        let roots = pending
            .roots
            .iter()
            .map(|&root| {
                // The same content a second time is not new any more.
                let is_new = writer.is_new(root) && before.insert(root);
                (writer.key(root), pending.atoms[root].byte_length, is_new)
            })
            .collect();
        let source_hash = match pending.roots[..] {
            [root] => Some(pending.atoms[root].hash),
            _ => None,
        };
        Ok(Done {
            roots,
            source_hash,
            counts,
            byte_length,
        })
    }

    fn log(&self, id: Uuid, outcome: &Result<Done>) -> Result<()> {
        match outcome {
            Ok(done) => {
                let root = match done.roots[..] {
                    [(key, _, _)] => Some(key),
                    _ => None,
                };
                self.store.execute(
                    "UPDATE @store@.ingestion_log
                     SET status = 'completed', ended_at = clock_timestamp(), source_hash = $2, h_xy = $3, h_yz = $4,
                         h_zm = $5, byte_length = $6, atoms_created = $7, atoms_updated = $8, atoms_skipped = $9
                     WHERE ingestion_id = $1",
                    &[
                        uuid(id),
                        maybe_bytes(done.source_hash.as_ref().map(|hash| &hash[..])),
                        root.map(|key| key.h_xy).into(),
                        root.map(|key| key.h_yz).into(),
                        root.map(|key| key.h_zm).into(),
                        (done.byte_length as i64).into(),
                        done.counts.created.into(),
                        done.counts.updated.into(),
                        done.counts.skipped.into(),
                    ],
                )
            }
            Err(failure) => self.store.execute(
                "UPDATE @store@.ingestion_log SET status = 'failed', ended_at = clock_timestamp(), error = $2
                 WHERE ingestion_id = $1",
                &[uuid(id), text(failure.message())],
            ),
        }
        .map(drop)
    }
}
