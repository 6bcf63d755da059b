//! The stored pieces of an upload.

use crate::chunks::spi_chunks::suppressed;
use crate::chunks::spi_tensors::zone_map;
use crate::error::Result;
use crate::pg::arguments::{bytes_array, uuid};
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use crate::upload::row::broken;
use modelstore_chunk::verify::{COUNTS, FIGURES, RecordedPiece};
use modelstore_chunk::write::Scanned;
use modelstore_chunk::write::streaming::{Layout, Streamed, content_hash};
use modelstore_chunk::{ChunkHash, PieceInfo};
use uuid::Uuid;

/// Pieces of a statement.
const BATCH_PIECES: usize = 8192;

/// Records pieces, of which the first begins at byte `offset` of the file.
pub fn insert(store: &Store, upload: Uuid, mut offset: u64, pieces: &[Streamed]) -> Result<()> {
    for batch in pieces.chunks(BATCH_PIECES) {
        let mut offsets = Vec::with_capacity(batch.len());
        for piece in batch {
            offsets.push(offset as i64);
            offset += u64::from(piece.info.piece.byte_len);
        }
        in_scratch_memory(|| insert_batch(store, upload, &offsets, batch))?;
    }
    Ok(())
}

fn insert_batch(store: &Store, upload: Uuid, offsets: &[i64], pieces: &[Streamed]) -> Result<()> {
    let recorded: Vec<RecordedPiece> = pieces
        .iter()
        .map(|p| RecordedPiece::new(0, &p.info))
        .collect();
    let whole: Vec<Option<Vec<u8>>> = pieces
        .iter()
        .map(|p| p.content_hash.map(|hash| hash.0.to_vec()))
        .collect();
    let mut arguments = vec![
        uuid(upload),
        offsets.to_vec().into(),
        bytes_array(recorded.iter().map(|p| p.hash.0.to_vec()).collect()),
        whole.into(),
    ];
    arguments.extend((0..FIGURES.len()).map(|n| {
        recorded
            .iter()
            .map(|p| p.figures[n])
            .collect::<Vec<_>>()
            .into()
    }));
    arguments.extend((0..COUNTS.len()).map(|n| {
        recorded
            .iter()
            .map(|p| p.counts[n])
            .collect::<Vec<_>>()
            .into()
    }));
    let columns: Vec<String> = (2..=arguments.len()).map(|n| format!("${n}")).collect();
    let inserted = store.execute(
        &format!(
            "INSERT INTO @store@.upload_parts (upload_id, part_offset, chunk_hash, content_hash, {})
             SELECT $1, p.* FROM unnest({}) p",
            zone_map(""),
            columns.join(", ")
        ),
        &arguments,
    )?;
    if inserted != pieces.len() {
        let object = format!("piece of upload {upload}");
        return Err(suppressed(store, "upload_parts", &object));
    }
    Ok(())
}

/// The pieces of all tensors, of which the first begins at byte `offset` of the file.
pub fn read(store: &Store, upload: Uuid, offset: u64, layout: &Layout) -> Result<Vec<Scanned>> {
    let mut rest = layout
        .tensors()
        .iter()
        .enumerate()
        .flat_map(|(number, placed)| placed.grid.iter().map(move |piece| (number, piece)));
    let mut pieces: Vec<Vec<PieceInfo>> = layout.tensors().iter().map(|_| Vec::new()).collect();
    let mut whole: Vec<Option<ChunkHash>> = vec![None; pieces.len()];
    let mut at = offset;
    in_scratch_memory(|| {
        store.query(
            &format!(
                "SELECT p.part_offset, p.chunk_hash, p.content_hash, {}, c.raw_bytes
                 FROM @store@.upload_parts p JOIN @store@.tensor_chunks c USING (chunk_hash)
                 WHERE p.upload_id = $1 ORDER BY p.part_offset",
                zone_map("p.")
            ),
            &[uuid(upload)],
            |row| {
                let Some((number, piece)) = rest.next() else {
                    return Err(broken(upload));
                };
                if row.get::<i64>(1)? as u64 != at {
                    return Err(broken(upload));
                }
                at += u64::from(piece.byte_len);
                let raw_bytes = row.get::<i32>(4 + FIGURES.len() + COUNTS.len())?;
                if u32::try_from(raw_bytes) != Ok(piece.byte_len) {
                    return Err(broken(upload));
                }
                let mut recorded = RecordedPiece {
                    tensor: number,
                    hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(2)?)?,
                    index: piece.index.into(),
                    first_element: piece.first_element as i64,
                    element_count: piece.element_count as i64,
                    figures: [None; FIGURES.len()],
                    counts: [None; COUNTS.len()],
                };
                for (n, figure) in (4..).zip(&mut recorded.figures) {
                    *figure = row.opt(n)?;
                }
                for (n, count) in (4 + FIGURES.len()..).zip(&mut recorded.counts) {
                    *count = row.opt(n)?;
                }
                let content = row.opt::<Vec<u8>>(3)?;
                if let Some(hash) = content {
                    whole[number] = Some(ChunkHash::from_slice(&hash)?);
                }
                pieces[number].push(PieceInfo {
                    piece,
                    hash: recorded.hash,
                    stats: recorded.stats(),
                });
                Ok(())
            },
        )
    })?;
    if rest.next().is_some() {
        return Err(broken(upload));
    }
    pieces
        .into_iter()
        .zip(whole)
        .map(|(pieces, whole)| {
            let content_hash = content_hash(&pieces).or(whole);
            Ok(Scanned {
                content_hash: content_hash.ok_or_else(|| broken(upload))?,
                pieces,
            })
        })
        .collect()
}
