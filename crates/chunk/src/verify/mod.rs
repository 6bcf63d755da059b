//! Decodes everything and compares it with its hashes.

mod zone;

pub use zone::{COUNTS, FIGURES, RecordedPiece, wrong_order};

use modelstore_tensor::stats::Stats;
use uuid::Uuid;

use crate::port::{Session, StoredTensor, TensorStore};
use crate::read::{ChunkStream, Wanted};
use crate::write::FileHashes;
use crate::{ChunkHash, ContentHasher};

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the tensor or of the file, or another object.
    pub object: String,
    /// The tensor.
    pub tensor: Option<Uuid>,
    /// The chunk.
    pub chunk: Option<ChunkHash>,
    /// What is wrong.
    pub text: String,
}

/// The record of a file whose tensors follow its header, without gaps.
#[derive(Clone, Debug)]
pub struct RecordedFile {
    /// Its name.
    pub name: String,
    /// All bytes before the tensors.
    pub header: Vec<u8>,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Vec<u8>,
    /// BLAKE3-256 of the file.
    pub blake3: Vec<u8>,
    /// Its [`manifest_hash`].
    pub manifest_hash: Vec<u8>,
}

/// Computes BLAKE3-256 of a header and of the hashes of the following chunks, in order. With the chunks' own hashes it
/// proves as much as a hash of the whole file, and is checked without reading a chunk.
pub fn manifest_hash<'a>(header: &[u8], chunks: impl Iterator<Item = &'a ChunkHash>) -> ChunkHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    chunks.for_each(|chunk| {
        hasher.update(chunk.as_bytes());
    });
    ChunkHash(*hasher.finalize().as_bytes())
}

/// Called with each decoded chunk: what it was read for, its raw bytes and their statistics.
type Decoded<'a, T> = dyn FnMut(T, &[u8], Option<&Stats>) + 'a;

/// Counts of what was verified, and the problems.
pub struct Verifier<'a, S, C> {
    store: &'a mut S,
    session: &'a C,
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
    /// Number of decoded tensors.
    pub tensors: u64,
    /// Number of decoded chunks.
    pub chunks: u64,
    /// Number of their raw bytes.
    pub bytes: u64,
}

impl<'a, S: TensorStore, C: Session<Error = S::Error>> Verifier<'a, S, C> {
    /// Creates a verifier.
    pub fn new(store: &'a mut S, session: &'a C) -> Verifier<'a, S, C> {
        Verifier {
            store,
            session,
            problems: Vec::new(),
            tensors: 0,
            chunks: 0,
            bytes: 0,
        }
    }

    /// Adds a problem.
    pub fn report(
        &mut self,
        object: &str,
        tensor: Option<Uuid>,
        chunk: Option<&ChunkHash>,
        text: String,
    ) {
        self.problems.push(Problem {
            object: object.to_owned(),
            tensor,
            chunk: chunk.copied(),
            text,
        });
    }

    /// Checks a file: its chunks, and the hashes over the whole file, which also cover the tensors. Only if these do
    /// not match, checks each tensor separately to name the wrong one.
    pub fn file(&mut self, file: &RecordedFile, tensors: &[StoredTensor]) -> Result<(), S::Error> {
        let before = self.problems.len();
        let ids: Vec<Uuid> = tensors.iter().map(|t| t.id).collect();
        let pieces = self.store.recorded_pieces(&ids)?;
        let (mut hashes, mut bytes) = (FileHashes::new(), file.header.len() as u64);
        hashes.update(&file.header);
        let wrong = self.pieces(tensors, &pieces, &mut |raw| {
            hashes.update(raw);
            bytes += raw.len() as u64;
        })?;
        self.tensors += tensors.len() as u64;
        // They come tensor after tensor.
        let of = |place: usize| {
            let start = pieces.partition_point(|p| p.tensor < place);
            &pieces[start..pieces.partition_point(|p| p.tensor <= place)]
        };
        for (place, tensor) in tensors.iter().enumerate() {
            let problem = match tensor.clone().check() {
                Ok(_) => wrong_order(tensor, of(place).iter()),
                Err(e) => Some(e.to_string()),
            };
            if let Some(problem) = problem {
                self.report(&tensor.label, Some(tensor.id), None, problem);
            }
        }
        let (sha256, blake3) = hashes.finish();
        if self.problems.len() == before && (bytes != file.bytes || blake3[..] != file.blake3[..]) {
            let counted = (self.tensors, self.chunks, self.bytes);
            let problem = if bytes == file.bytes {
                "file does not match its BLAKE3 hash".to_owned()
            } else {
                format!("file has {bytes} bytes, not {}", file.bytes)
            };
            self.report(&file.name, None, None, problem);
            for tensor in tensors {
                self.tensor(tensor)?;
            }
            (self.tensors, self.chunks, self.bytes) = counted;
            return Ok(());
        }
        if self.problems.len() == before && sha256[..] != file.sha256[..] {
            let problem = "file does not match its SHA-256 hash".to_owned();
            self.report(&file.name, None, None, problem);
        }
        self.problems.extend(wrong);
        Ok(())
    }

    /// Checks a tensor: its chunks with their zone maps, its size and its hash.
    pub fn tensor(&mut self, tensor: &StoredTensor) -> Result<(), S::Error> {
        self.tensors += 1;
        let pieces = self.store.recorded_pieces(&[tensor.id])?;
        let problem = match tensor.clone().check() {
            Ok(_) => wrong_order(tensor, pieces.iter()),
            Err(e) => Some(e.to_string()),
        };
        if let Some(problem) = problem {
            self.report(&tensor.label, Some(tensor.id), None, problem);
            return Ok(());
        }
        let (mut hasher, before) = (ContentHasher::new(), self.problems.len());
        let mut bytes = 0;
        // The hash of a tensor of one chunk is the chunk's, which has been checked.
        let single = match pieces.as_slice() {
            [only] => Some(only.hash),
            _ => None,
        };
        let tensors = std::slice::from_ref(tensor);
        let wrong = self.pieces(tensors, &pieces, &mut |raw| {
            if single.is_none() {
                hasher.update(raw);
            }
            bytes += raw.len() as u64;
        })?;
        if self.problems.len() == before {
            let content_hash = single.unwrap_or_else(|| hasher.finish());
            let problem = if bytes != tensor.raw_bytes {
                Some(format!(
                    "tensor has {bytes} bytes, not {}",
                    tensor.raw_bytes
                ))
            } else if content_hash != tensor.content_hash {
                Some("tensor does not match its BLAKE3 hash".to_owned())
            } else {
                None
            };
            if let Some(problem) = problem {
                self.report(&tensor.label, Some(tensor.id), None, problem);
            }
        }
        self.problems.extend(wrong);
        Ok(())
    }

    /// Checks chunks that no tensor uses: a delta may need them.
    pub fn unused(&mut self, chunks: Vec<ChunkHash>) -> Result<(), S::Error> {
        let wanted = chunks.into_iter().map(|hash| Wanted {
            hash,
            of: ("(no tensor)", None, None),
            figures_of: None,
        });
        self.decode(wanted.collect(), &mut |_: Option<usize>, _, _| ())
    }

    /// Decodes the pieces of tensors and passes the raw bytes on; returns the problems of zone maps.
    fn pieces(
        &mut self,
        tensors: &[StoredTensor],
        pieces: &[RecordedPiece],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<Vec<Problem>, S::Error> {
        let wanted = pieces.iter().enumerate().filter_map(|(at, piece)| {
            let tensor = tensors.get(piece.tensor)?;
            Some(Wanted {
                hash: piece.hash,
                of: (tensor.label.as_str(), Some(tensor.id), Some(at)),
                figures_of: Some(tensor.dtype),
            })
        });
        let mut wrong = Vec::new();
        self.decode(wanted.collect(), &mut |at, raw, figures| {
            each(raw);
            let piece = at.and_then(|at: usize| pieces.get(at));
            if let Some(piece) = piece
                && let Some(text) = piece.wrong_figures(figures)
            {
                wrong.push(Problem {
                    object: tensors[piece.tensor].label.clone(),
                    tensor: Some(tensors[piece.tensor].id),
                    chunk: Some(piece.hash),
                    text,
                });
            }
        })?;
        Ok(wrong)
    }

    fn decode<T>(
        &mut self,
        wanted: Vec<Wanted<(&str, Option<Uuid>, T)>>,
        each: &mut Decoded<'_, T>,
    ) -> Result<(), S::Error> {
        let mut stream = ChunkStream::new(&mut *self.store, self.session, wanted)?;
        while let Some(chunk) = stream.next_chunk()? {
            self.chunks += 1;
            let (label, tensor, of) = chunk.of;
            match chunk.raw {
                Ok((raw, figures)) => {
                    self.bytes += raw.len() as u64;
                    each(of, &raw, figures.as_ref());
                    stream.recycle(raw);
                }
                Err(e) => self.problems.push(Problem {
                    object: label.to_owned(),
                    tensor,
                    chunk: Some(chunk.hash),
                    text: e.about(label)?,
                }),
            }
        }
        Ok(())
    }
}
