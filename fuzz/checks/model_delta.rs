//! The input is a whole model delta: what its manifest promises holds, and a manifest that is read is written again.

use modelstore_chunk::{ChunkHead, MAX_CHUNK_BYTES};
use modelstore_formats::Result;
use modelstore_formats::model_delta::{
    Layout, Manifest, PREFIX_BYTES, build_prefix, manifest_len, parse_manifest,
};
use modelstore_formats::safetensors::{Header, LENGTH_BYTES, parse_header};

/// Panics where a promise does not hold.
pub fn check(file: &[u8]) {
    let (manifest, header, layout) = match read(file) {
        Ok(read) => read,
        Err(error) => {
            // Whatever the input, the message is short and is one line.
            let message = error.to_string();
            assert!(message.len() < 1000 && !message.contains(char::is_control));
            let _ = (error.kind(), error.detail());
            return;
        }
    };
    assert_eq!(manifest.weights.len(), header.tensors.len());
    assert_eq!(manifest.weights.len(), layout.first_chunks.len());
    // From the end of the headers on every byte is in one chunk, and every byte of a tensor as well.
    let mut at = layout.first_chunks.first().copied();
    for ((weight, tensor), &first) in manifest
        .weights
        .iter()
        .zip(&header.tensors)
        .zip(&layout.first_chunks)
    {
        assert_eq!(weight.name, tensor.name);
        assert_eq!(at, Some(first));
        let Some(chunks) = &weight.chunks else {
            assert!(weight.base.is_some());
            continue;
        };
        let (mut end, mut raw) = (first, 0);
        for chunk in chunks {
            assert!((1..=MAX_CHUNK_BYTES).contains(&chunk.raw_bytes.into()));
            let start = end;
            end += u64::from(chunk.stored_bytes);
            raw += u64::from(chunk.raw_bytes);
            let _ = ChunkHead::parse(&file[start as usize..end as usize]);
        }
        assert_eq!(raw, tensor.end - tensor.start);
        at = Some(end);
    }
    if let Some(at) = at {
        assert_eq!(at, file.len() as u64);
    }
}

/// The four steps on a whole file.
fn read(file: &[u8]) -> Result<(Manifest, Header, Layout)> {
    let file_len = file.len() as u64;
    let header_offset = PREFIX_BYTES + manifest_len(file, file_len)?;
    let manifest = parse_manifest(&file[PREFIX_BYTES as usize..header_offset as usize])?;
    write_again(&manifest);
    let json = header_offset + LENGTH_BYTES;
    let length = manifest.header_len(&file[header_offset as usize..], header_offset, file_len)?;
    let header = &file[json as usize..(json + length) as usize];
    let header = parse_header(header, manifest.file_bytes)?;
    let layout = manifest.check(&header, header_offset, file_len)?;
    Ok((manifest, header, layout))
}

fn write_again(manifest: &Manifest) {
    let prefix = build_prefix(manifest).expect("was read");
    let length = manifest_len(&prefix, prefix.len() as u64).expect("was written");
    assert_eq!(PREFIX_BYTES + length, prefix.len() as u64);
    let again = parse_manifest(&prefix[PREFIX_BYTES as usize..]).expect("was written");
    assert!(again == *manifest);
}
