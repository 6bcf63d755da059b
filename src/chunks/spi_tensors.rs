//! The tables of tensors and their pieces: the port of `modelstore_chunk` over SPI.

use crate::chunks::spi_chunks::{SpiChunks, suppressed};
use crate::error::{Failure, Result};
use crate::pg::arguments::{bytes_array, from_sql_uuid, to_sql_uuid};
use crate::pg::query::Row;
use crate::pg::scratch::in_scratch_memory;
use modelstore_chunk::verify::{COUNTS, FIGURES, RecordedPiece};
use modelstore_chunk::{ChunkHash, Identity, NewTensor, PieceInfo, StoredPiece, TensorStore};
use modelstore_tensor::{DType, Shape};
use pgrx::datum::Uuid as SqlUuid;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Pieces per statement.
const BATCH_PIECES: usize = 8192;

impl TensorStore for SpiChunks {
    fn lock_tensors(&mut self, identities: &[&Identity]) -> Result<Vec<(Identity, Uuid)>> {
        let hashes = column(identities, |i| i.content_hash.0.to_vec());
        let mut locked = in_scratch_memory(|| {
            self.store.write(
                "SELECT tensor_id, content_hash, dtype, shape FROM @store@.tensor_metadata
                 WHERE content_hash = ANY ($1) ORDER BY content_hash, dtype, shape FOR KEY SHARE",
                &[bytes_array(hashes)],
                |row| {
                    let dims = row.get::<Vec<i64>>(4)?;
                    let identity = Identity {
                        content_hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(2)?)?,
                        dtype: DType::from_name(&row.get::<String>(3)?)?,
                        dims: dims.into_iter().map(|dim| dim as u64).collect(),
                    };
                    Ok((identity, from_sql_uuid(row.get::<SqlUuid>(1)?)))
                },
            )
        })?;
        // The same content may exist with another shape.
        let wanted: BTreeSet<&Identity> = identities.iter().copied().collect();
        locked.retain(|(identity, _)| wanted.contains(identity));
        Ok(locked)
    }

    fn pieces(&mut self, tensors: &[(Uuid, DType, &Shape)]) -> Result<Vec<(usize, StoredPiece)>> {
        in_scratch_memory(|| {
            self.store.rows(
                "SELECT d.chunk_hash, d.first_element, d.element_count, k.place
                 FROM unnest($1, $2, $3) WITH ORDINALITY AS k(tensor_id, dtype, shape, place)
                 CROSS JOIN LATERAL (SELECT t.tensor_id FROM @store@.tensor_metadata t
                                     WHERE t.tensor_id = k.tensor_id AND t.dtype = k.dtype AND t.shape = k.shape::bigint[] OFFSET 0) t
                 CROSS JOIN LATERAL (SELECT d.chunk_hash, d.first_element, d.element_count, d.chunk_index FROM @store@.tensor_data d
                                     WHERE d.tensor_id = t.tensor_id OFFSET 0) d
                 ORDER BY k.place, d.chunk_index",
                &[
                    column(tensors, |(id, ..)| to_sql_uuid(*id)).into(),
                    column(tensors, |(_, dtype, _)| dtype.name()).into(),
                    column(tensors, |(.., shape)| array_text(shape.dims())).into(),
                ],
                |row| Ok((place(row, 4)?, read_piece(row)?)),
            )
        })
    }

    fn recorded_pieces(&mut self, tensors: &[Uuid]) -> Result<Vec<RecordedPiece>> {
        in_scratch_memory(|| {
            self.store.rows(
                &format!(
                    "SELECT t.place, d.chunk_hash, d.chunk_index, d.first_element, d.element_count, {}
                     FROM unnest($1) WITH ORDINALITY AS t(tensor_id, place) JOIN @store@.tensor_data d USING (tensor_id)
                     ORDER BY t.place, d.chunk_index",
                    zone_map("d.")
                ),
                &[column(tensors, |id| to_sql_uuid(*id)).into()],
                read_recorded,
            )
        })
    }

    fn add_tensors(&mut self, tensors: &[NewTensor<'_>]) -> Result<Vec<Option<Uuid>>> {
        in_scratch_memory(|| {
            let ids = column(tensors, |_| Uuid::now_v7());
            let raw_bytes = tensors
                .iter()
                .map(|t| Ok(t.shape.byte_len(t.identity.dtype)? as i64))
                .collect::<Result<Vec<i64>>>()?;
            let inserted = self.store.insert(
                "INSERT INTO @store@.tensor_metadata (tensor_id, content_hash, dtype, shape, element_count, raw_bytes, chunk_count)
                 SELECT k.tensor_id, k.content_hash, k.dtype, k.shape::bigint[], k.element_count, k.raw_bytes, k.chunk_count
                 FROM unnest($1, $2, $3, $4, $5, $6, $7)
                      AS k(tensor_id, content_hash, dtype, shape, element_count, raw_bytes, chunk_count)
                 ON CONFLICT DO NOTHING RETURNING tensor_id",
                &[
                    column(&ids, |id| to_sql_uuid(*id)).into(),
                    bytes_array(column(tensors, |t| t.identity.content_hash.0.to_vec())),
                    column(tensors, |t| t.identity.dtype.name()).into(),
                    column(tensors, |t| array_text(t.shape.dims())).into(),
                    column(tensors, |t| t.shape.elements() as i64).into(),
                    raw_bytes.into(),
                    column(tensors, |t| t.pieces.len() as i32).into(),
                ],
                |row| Ok(from_sql_uuid(row.get::<SqlUuid>(1)?)),
            )?;
            let inserted: BTreeSet<Uuid> = inserted.into_iter().collect();
            let mut pieces = Vec::new();
            for (id, tensor) in ids.iter().zip(tensors) {
                if inserted.contains(id) {
                    pieces.extend(tensor.pieces.iter().map(|piece| (*id, piece)));
                }
            }
            for batch in pieces.chunks(BATCH_PIECES) {
                in_scratch_memory(|| self.insert_pieces(batch))?;
            }
            Ok(column(&ids, |id| inserted.contains(id).then_some(*id)))
        })
    }

    fn not_stored(&self, name: &str) -> Failure {
        suppressed(
            &self.store,
            "tensor_metadata",
            &format!("tensor \"{name}\""),
        )
    }
}

impl SpiChunks {
    fn insert_pieces(&self, pieces: &[(Uuid, &PieceInfo)]) -> Result<()> {
        let recorded = column(pieces, |(_, info)| RecordedPiece::new(0, info));
        let mut arguments = vec![
            column(pieces, |(id, _)| to_sql_uuid(*id)).into(),
            column(&recorded, |p| p.index as i32).into(),
            column(&recorded, |p| p.hash.0.to_vec()).into(),
            column(&recorded, |p| p.first_element).into(),
            column(&recorded, |p| p.element_count).into(),
        ];
        arguments.extend((0..FIGURES.len()).map(|n| column(&recorded, |p| p.figures[n]).into()));
        arguments.extend((0..COUNTS.len()).map(|n| column(&recorded, |p| p.counts[n]).into()));
        let parameters: Vec<String> = (1..=arguments.len()).map(|n| format!("${n}")).collect();
        self.store.execute(
            &format!(
                "INSERT INTO @store@.tensor_data (tensor_id, chunk_index, chunk_hash, first_element, element_count, {})
                 SELECT * FROM unnest({})",
                zone_map(""),
                parameters.join(", ")
            ),
            &arguments,
        )?;
        Ok(())
    }
}

/// The columns of a zone map, each behind a prefix.
pub fn zone_map(prefix: &str) -> String {
    let figures = FIGURES.iter().map(|(name, _)| name);
    let columns: Vec<String> = figures
        .chain(COUNTS.iter().map(|(name, _)| name))
        .map(|name| format!("{prefix}{name}"))
        .collect();
    columns.join(", ")
}

/// Reads the columns chunk_hash, first_element and element_count, the first ones of the row.
pub fn read_piece(row: &Row<'_>) -> Result<StoredPiece> {
    Ok(StoredPiece {
        hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(1)?)?,
        first_element: row.get::<i64>(2)? as u64,
        element_count: row.get::<i64>(3)? as u64,
    })
}

fn read_recorded(row: &Row<'_>) -> Result<RecordedPiece> {
    let mut piece = RecordedPiece {
        tensor: place(row, 1)?,
        hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(2)?)?,
        index: row.get::<i32>(3)?.into(),
        first_element: row.get(4)?,
        element_count: row.get(5)?,
        figures: [None; FIGURES.len()],
        counts: [None; COUNTS.len()],
    };
    for (n, figure) in (6..).zip(&mut piece.figures) {
        *figure = row.opt(n)?;
    }
    for (n, count) in (6 + FIGURES.len()..).zip(&mut piece.counts) {
        *count = row.opt(n)?;
    }
    Ok(piece)
}

/// Reads a number made by WITH ORDINALITY, counted from 0.
fn place(row: &Row<'_>, n: usize) -> Result<usize> {
    Ok(usize::try_from(row.get::<i64>(n)? - 1).unwrap_or(0))
}

/// Formats dimensions as the text of a bigint[].
fn array_text(dims: &[u64]) -> String {
    let dims: Vec<String> = dims.iter().map(u64::to_string).collect();
    format!("{{{}}}", dims.join(","))
}

fn column<T, R>(rows: &[R], f: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(f).collect()
}
