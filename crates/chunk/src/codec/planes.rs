//! Splits a block into planes, stores each in the cheapest way, and decodes them.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, ParamSwitch, Strategy};

use super::{PlaneEntry, PlaneKind, estimate, shuffle};
use crate::{Error, Result};

/// Planes with a higher order-0 entropy are not compressed.
const HOPELESS_BITS: f32 = 7.8;
/// Compression must reach this ratio to be worth decoding.
const WORTHWHILE: f64 = 0.98;
/// Bytes of a plane on which a search for repetition is tried.
const PROBE: usize = 8 << 10;

/// What to try on a plane, decided once per chunk for each of its planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Huffman coding alone: in weights, a match costs more than the bytes it saves.
    Entropy,
    /// Also search for repetition.
    Match,
}

/// Compresses planes; owns the zstd contexts and buffers.
pub(super) struct PlaneEncoder {
    entropy: CCtx<'static>,
    matching: CCtx<'static>,
    planes: Vec<u8>,
    packed: Vec<u8>,
}

impl PlaneEncoder {
    pub fn new() -> PlaneEncoder {
        let mut entropy = CCtx::create();
        // A step so large that nothing is searched, and the smallest tables, as they are cleared for every plane.
        configure(
            &mut entropy,
            &[
                CParameter::CompressionLevel(-1),
                CParameter::Strategy(Strategy::ZSTD_fast),
                CParameter::HashLog(6),
                CParameter::TargetLength(128 << 10),
                CParameter::LiteralCompressionMode(ParamSwitch::Enable),
            ],
        );
        let mut matching = CCtx::create();
        configure(&mut matching, &[CParameter::CompressionLevel(1)]);
        PlaneEncoder {
            entropy,
            matching,
            planes: Vec::new(),
            packed: Vec::new(),
        }
    }

    /// Splits one block, or its changed elements; [`PlaneEncoder::append`] then stores the planes.
    pub fn split(&mut self, width: u8, rotated: bool, raw: &[u8]) {
        if self.planes.len() < raw.len() {
            self.planes.resize(raw.len(), 0);
            self.packed.resize(raw.len(), 0);
        }
        shuffle::split(width, rotated, raw, &mut self.planes[..raw.len()]);
    }

    /// Decides what to try on a plane of the block that was split last.
    fn method(&mut self, plane: usize, plane_len: usize) -> Method {
        let start = plane * plane_len;
        let sample = &self.planes[start..start + plane_len.min(PROBE)];
        let matched = pack(&mut self.matching, sample, &mut self.packed);
        // Huffman coding spends at least one bit on every byte.
        let bits = estimate::bits_per_byte(sample).max(1.0);
        let alone = (bits / 8.0 * sample.len() as f32) as usize;
        match matched {
            Some(len) if len < alone - alone / 16 => Method::Match,
            _ => Method::Entropy,
        }
    }

    /// Decides what to try on each plane of the block that was split last.
    pub fn methods(&mut self, width: u8, plane_len: usize) -> [Method; 8] {
        let mut methods = [Method::Entropy; 8];
        for (plane, method) in methods.iter_mut().enumerate().take(width.into()) {
            *method = self.method(plane, plane_len);
        }
        methods
    }

    /// Appends one plane of the block that was split last.
    pub fn append(
        &mut self,
        plane: usize,
        plane_len: usize,
        method: Method,
        out: &mut Vec<u8>,
    ) -> PlaneEntry {
        let start = plane * plane_len;
        let bytes = &self.planes[start..start + plane_len];
        if estimate::is_constant(bytes) {
            out.push(bytes[0]);
            return PlaneEntry {
                kind: PlaneKind::Constant,
                len: 1,
            };
        }
        let packed = match method {
            Method::Match => pack(&mut self.matching, bytes, &mut self.packed),
            Method::Entropy if estimate::bits_per_byte(bytes) < HOPELESS_BITS => {
                pack(&mut self.entropy, bytes, &mut self.packed)
            }
            Method::Entropy => None,
        };
        match packed {
            Some(len) => {
                out.extend_from_slice(&self.packed[..len]);
                PlaneEntry {
                    kind: PlaneKind::Zstd,
                    len,
                }
            }
            None => {
                out.extend_from_slice(bytes);
                PlaneEntry {
                    kind: PlaneKind::Raw,
                    len: plane_len,
                }
            }
        }
    }
}

/// Sets parameters that every build of zstd has; a refused one would cost only space.
fn configure(context: &mut CCtx<'static>, parameters: &[CParameter]) {
    for &parameter in parameters {
        let set = context.set_parameter(parameter);
        debug_assert!(set.is_ok(), "zstd refused {parameter:?}");
    }
}

/// Compresses unless that is not worth it. An error of zstd counts as not worth it.
fn pack(context: &mut CCtx<'static>, bytes: &[u8], packed: &mut [u8]) -> Option<usize> {
    let room = ((bytes.len() as f64 * WORTHWHILE) as usize).min(packed.len());
    context.compress2(&mut packed[..room], bytes).ok()
}

/// One block of a chunk, as stored.
pub(super) struct StoredBlock<'a> {
    /// Its index in the chunk.
    pub number: usize,
    /// Its raw length, in whole elements.
    pub raw_len: usize,
    /// Whether its elements are rotated.
    pub rotated: bool,
    /// Its part of the index, one entry per plane.
    pub entries: &'a [PlaneEntry],
    /// Its part of the payload.
    pub bytes: &'a [u8],
}

/// Decompresses planes; owns the zstd context and a buffer.
pub(super) struct PlaneDecoder {
    context: DCtx<'static>,
    planes: Vec<u8>,
}

impl PlaneDecoder {
    pub fn new() -> PlaneDecoder {
        PlaneDecoder {
            context: DCtx::create(),
            planes: Vec::new(),
        }
    }

    /// Decodes the raw bytes `skip..skip + out.len()` of a block, which are whole elements.
    pub fn decode(&mut self, block: &StoredBlock<'_>, skip: usize, out: &mut [u8]) -> Result<()> {
        let StoredBlock {
            number,
            raw_len,
            rotated,
            entries,
            bytes: stored,
        } = *block;
        let width = entries.len();
        let plane_len = raw_len / width;
        if self.planes.len() < raw_len {
            self.planes.resize(raw_len, 0);
        }
        let wanted = skip / width..(skip + out.len()) / width;
        let mut views: [&[u8]; 8] = [&[]; 8];
        let mut rest = &mut self.planes[..raw_len];
        let mut at = 0;
        for (plane, entry) in entries.iter().enumerate() {
            let bytes = stored
                .get(at..at + entry.len)
                .ok_or_else(|| crate::header::truncated(at + entry.len, stored))?;
            at += entry.len;
            let (buffer, tail) = rest.split_at_mut(plane_len);
            rest = tail;
            let whole: &[u8] = match entry.kind {
                PlaneKind::Raw => bytes,
                PlaneKind::Constant => {
                    buffer.fill(bytes[0]);
                    buffer
                }
                PlaneKind::Zstd => match self.context.decompress(buffer, bytes) {
                    Ok(len) if len == plane_len => buffer,
                    _ => {
                        return Err(Error::Plane {
                            block: number,
                            plane,
                        });
                    }
                },
                // Blocks with such an entry are decoded by the sparse decoder.
                PlaneKind::Sparse => return Err(Error::Sparse { block: number }),
            };
            views[plane] = &whole[wanted.clone()];
        }
        shuffle::merge(rotated, &views[..width], out);
        Ok(())
    }
}
