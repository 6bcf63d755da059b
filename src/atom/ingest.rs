//! One run of an ingest: split, write, log.

use crate::atom::collect::collect;
use crate::atom::pending::Pending;
use crate::atom::write::{Counts, Writer};
use crate::error::{Result, warning};
use crate::io::Source;
use crate::names;
use crate::pg::arguments::{
    from_sql_uuid, maybe_bytes, maybe_jsonb, maybe_text, maybe_uuid, now, text, uuid,
};
use crate::pg::jsonb::Jsonb;
use crate::pg::query::refuse_during_recovery;
use crate::pg::subtransaction::subtransaction;
use crate::store::Store;
use modelstore_atom::{Key, Modality};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::pg_sys::Oid;
use std::collections::HashSet;
use uuid::Uuid;

/// The arguments of a run.
pub struct Run<'a> {
    /// Its store.
    pub store: Store,
    /// The modality of the data.
    pub modality: Modality,
    /// What the user says about the data.
    pub about: About<'a>,
}

/// What the user says about the data, recorded in the log.
pub struct About<'a> {
    /// The URI of the data.
    pub source_uri: Option<&'a str>,
    /// The job that the run is part of.
    pub batch_id: Option<Uuid>,
    /// Anything else.
    pub meta: Option<Jsonb<'a>>,
}

impl<'a> About<'a> {
    /// Checks the arguments of a function.
    pub fn new(
        source_uri: Option<&'a str>,
        batch_id: Option<SqlUuid>,
        meta: Option<Jsonb<'a>>,
    ) -> Result<About<'a>> {
        source_uri
            .map(|uri| names::check_length("source URI", uri))
            .transpose()?;
        Ok(About {
            source_uri,
            batch_id: batch_id.map(from_sql_uuid),
            meta,
        })
    }

    /// Adds a row to the log.
    pub fn log(
        &self,
        store: &Store,
        modality: Modality,
        status: &str,
        large_object: Option<Oid>,
    ) -> Result<Uuid> {
        let id = Uuid::now_v7();
        store.execute(
            "INSERT INTO @store@.ingestion_log (ingestion_id, modality, source_uri, batch_id, meta, large_object, status)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                uuid(id),
                (modality as i16).into(),
                maybe_text(self.source_uri),
                maybe_uuid(self.batch_id),
                maybe_jsonb(self.meta.as_ref()),
                large_object.into(),
                text(status),
            ],
        )?;
        Ok(id)
    }
}

/// The result of a run: its row of the log.
pub struct Ingested {
    /// Key of the log's row.
    pub id: Uuid,
    /// What was done, or the error that rolled it back.
    pub outcome: Result<Done>,
}

/// The result of a run that succeeded.
pub struct Done {
    /// The atoms of the whole sources, in their order: key, bytes, and whether the atom is new.
    pub roots: Vec<(Key, u64, bool)>,
    /// The hash of the source; `None` if there are several.
    source_hash: Option<[u8; 32]>,
    /// Counts of the distinct atoms.
    pub counts: Counts,
    /// Bytes of all sources.
    pub byte_length: u64,
}

/// Several sources, concatenated.
pub trait Sources {
    /// Opens each source and passes it to `take` with its offset in the concatenation.
    fn each(&mut self, take: &mut dyn FnMut(&mut dyn Source, u64) -> Result<()>) -> Result<()>;

    /// Returns all of them as one source, to be read again.
    fn joined(&mut self) -> Result<Box<dyn Source + '_>>;
}

impl Run<'_> {
    /// Runs the ingest. If it fails, its writes are rolled back, the error is logged and sent as a warning: raising it
    /// would also roll back the row of the log.
    pub fn ingest(&self, sources: &mut dyn Sources) -> Result<Ingested> {
        refuse_during_recovery()?;
        let id = self
            .about
            .log(&self.store, self.modality, "running", None)?;
        self.ingest_as(id, sources)
    }

    /// Runs the ingest whose row is in the log.
    pub fn ingest_as(&self, id: Uuid, sources: &mut dyn Sources) -> Result<Ingested> {
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
                // A repeated content is new only the first time.
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
                     SET status = 'completed', ended_at = $10, source_hash = $2, h_xy = $3, h_yz = $4,
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
                        now(),
                    ],
                )
            }
            Err(failure) => self.store.execute(
                "UPDATE @store@.ingestion_log SET status = 'failed', ended_at = $3, error = $2
                 WHERE ingestion_id = $1",
                &[uuid(id), text(failure.message()), now()],
            ),
        }
        .map(drop)
    }
}
