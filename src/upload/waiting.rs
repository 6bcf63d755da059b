//! The bytes of an upload that wait, as a source.

use crate::error::{Failure, Result};
use crate::pg::arguments::uuid;
use crate::store::Store;
use crate::upload::row::broken;
use uuid::Uuid;

/// The bytes of an upload of which nothing is stored in chunks. They lie in rows as they came.
pub struct Waiting {
    store: Store,
    upload: Uuid,
    len: u64,
    /// The part read last: reading goes mostly forwards, and a part can be larger than what is asked of it.
    cached: Option<(u64, Vec<u8>)>,
}

/// Waiting up to this size are kept after a read; of larger ones only the piece that is needed is fetched.
const CACHED_PART_BYTES: usize = 4 << 20;

impl Waiting {
    /// An upload that has received `len` bytes.
    pub fn new(store: Store, upload: Uuid, len: u64) -> Waiting {
        Waiting {
            store,
            upload,
            len,
            cached: None,
        }
    }
}

impl modelstore_chunk::Source<Failure> for Waiting {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let end = offset + len as u64;
        if let Some((start, data)) = &self.cached
            && *start <= offset
            && end <= start + data.len() as u64
        {
            let from = (offset - start) as usize;
            out.extend_from_slice(&data[from..from + len]);
            return Ok(());
        }
        let (upload, store) = (self.upload, self.store.clone());
        let (cached, mut at) = (&mut self.cached, offset);
        store.query(
            "SELECT p.part_offset, octet_length(p.data),
                    CASE WHEN octet_length(p.data) <= $4 THEN p.data
                         ELSE substring(p.data FROM greatest($2 - p.part_offset, 0)::integer + 1
                                        FOR least($3 - greatest($2, p.part_offset), 2147483647)::integer) END
             FROM @store@.upload_parts p
             WHERE p.upload_id = $1 AND p.part_offset < $3
               AND p.part_offset >= coalesce((SELECT max(q.part_offset) FROM @store@.upload_parts q
                                              WHERE q.upload_id = $1 AND q.part_offset <= $2), 0)
             ORDER BY p.part_offset",
            &[uuid(upload), (offset as i64).into(), (end as i64).into(), (CACHED_PART_BYTES as i32).into()],
            |row| {
                let start = row.get::<i64>(1)? as u64;
                let whole = row.get::<i32>(2)? as usize <= CACHED_PART_BYTES;
                let mut data = Vec::new();
                row.append_bytes(3, &mut data)?;
                let data_start = if whole { start } else { start.max(offset) };
                let from = at.checked_sub(data_start).map(|f| f as usize);
                let piece = from.and_then(|from| data.get(from..data.len().min((end - data_start) as usize)));
                let Some(piece) = piece else { return Err(broken(upload)) };
                out.extend_from_slice(piece);
                at += piece.len() as u64;
                if whole {
                    *cached = Some((start, data));
                }
                Ok(())
            },
        )?;
        if out.len() == len {
            Ok(())
        } else {
            Err(broken(upload))
        }
    }
}
