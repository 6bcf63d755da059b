//! Recognises other formats that were passed as safetensors, by their first bytes. They are kept as files of a model, but
//! not under a name that ends in `.safetensors`.
//!
//! Called only for a file that is not valid safetensors: its first eight bytes can have any value.

use crate::error::Error;
use crate::model_delta::MAGIC;

/// Bytes that suffice to recognise a format.
pub const IDENTIFYING_BYTES: u64 = 512;

/// Prefixes that no other format has, the format's name, and what to do.
const SIGNATURES: [(&[u8], &str, &str); 16] = [
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer",
        "The model itself is not in this file: fetch it with git lfs pull, or download it again.",
    ),
    (b"GGUF", "a GGUF file", USE_ORIGINAL),
    // The magic is a number: "ggjt", "ggmf", "ggml" and "ggla" backwards.
    (b"tjgg", "a GGML file", USE_ORIGINAL),
    (b"fmgg", "a GGML file", USE_ORIGINAL),
    (b"lmgg", "a GGML file", USE_ORIGINAL),
    (b"algg", "a GGML file", USE_ORIGINAL),
    (b"\x93NUMPY", "a NumPy array", SAVE_NUMPY),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file",
        "Load it with the framework that wrote it and write it with safetensors.",
    ),
    (b"\x1f\x8b", "a gzip archive", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (b"BZh", "a bzip2 archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (
        MAGIC,
        "a model delta",
        "Apply it to its base with modelstore.apply_delta.",
    ),
    (
        b"%PDF-",
        "a PDF document",
        "Download the model's own files.",
    ),
];

const USE_ORIGINAL: &str =
    "It holds tensors of another format: use the safetensors files that it was made from.";
const UNPACK: &str = "Unpack it first, and import the .safetensors files in it.";
const SAVE_NUMPY: &str = "Load it with numpy and write it with safetensors.numpy.save_file.";
const SAVE_TORCH: &str = "Load it where its code is trusted, with torch.load(…, weights_only=True), and write it with safetensors.torch.save_file.";
const ADD_AS_FILE: &str =
    "It holds no tensors: add it under its own name with modelstore.add_file.";
const DOWNLOAD: &str = "A download often leaves such a page in place of a model that needs a login: download it again.";

/// Returns the error for a file of another format, from its first [`IDENTIFYING_BYTES`] bytes; `None` if the format is
/// unknown.
pub fn other_format(first: &[u8], file_len: u64) -> Option<Error> {
    let (format, advice) = identify(first, file_len)?;
    Some(Error::OtherFormat { format, advice })
}

fn identify(first: &[u8], file_len: u64) -> Option<(&'static str, &'static str)> {
    let known = SIGNATURES
        .iter()
        .find(|(start, ..)| first.starts_with(start));
    if let Some((_, format, advice)) = known {
        return Some((format, advice));
    }
    if first.starts_with(b"PK\x03\x04") {
        return Some(zip(first));
    }
    if is_pickle(first) {
        return Some(("a Python pickle", SAVE_TORCH));
    }
    if is_onnx(first) {
        return Some(("an ONNX model", USE_ORIGINAL));
    }
    if first.starts_with(b"\x0a\x0e\x0a\x05<unk>") {
        return Some(("a SentencePiece model", ADD_AS_FILE));
    }
    if first.get(4..8) == Some(b"TFL3") {
        return Some(("a TensorFlow Lite model", USE_ORIGINAL));
    }
    if first.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", UNPACK));
    }
    text(first, file_len)
}

/// Describes a ZIP archive by the name of its first entry.
fn zip(first: &[u8]) -> (&'static str, &'static str) {
    let length = first
        .get(26..28)
        .map_or(0, |b| usize::from(b[0]) | usize::from(b[1]) << 8);
    let name = first.get(30..30 + length).unwrap_or_default();
    if name.ends_with(b"/data.pkl") || name.ends_with(b"/byteorder") || name == b"data.pkl" {
        ("a PyTorch checkpoint", SAVE_TORCH)
    } else if name.ends_with(b".npy") {
        ("a NumPy archive", SAVE_NUMPY)
    } else {
        ("a ZIP archive", UNPACK)
    }
}

/// Protocols 2 to 5 begin with their number. A header length of 640 to 1408 bytes does too, but is followed by zeros.
fn is_pickle(first: &[u8]) -> bool {
    matches!(first, [0x80, 2..=5, rest @ ..] if rest.iter().take(6).any(|b| *b != 0))
}

/// A protobuf that begins with a small version of the format and the name of the program that wrote it, as all exporters
/// do.
fn is_onnx(first: &[u8]) -> bool {
    let [8, 1..=20, 0x12, length, rest @ ..] = first else {
        return false;
    };
    let Some((name, next)) = rest.split_at_checked(usize::from(*length)) else {
        return false;
    };
    // Then the version of that program, its domain, the graph or the sets of operators.
    !name.is_empty()
        && name.iter().all(|b| b.is_ascii_graphic() || *b == b' ')
        && matches!(next.first(), Some(0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42))
}

/// Recognises text in place of a model: a web page, or JSON.
fn text(first: &[u8], file_len: u64) -> Option<(&'static str, &'static str)> {
    let first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    let text = first.trim_ascii_start();
    let lower = text
        .iter()
        .take(16)
        .map(u8::to_ascii_lowercase)
        .collect::<Vec<u8>>();
    if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") {
        return Some(("an HTML page", DOWNLOAD));
    }
    if lower.starts_with(b"<?xml") {
        return Some(("an XML document", DOWNLOAD));
    }
    let (open, rest) = text.split_first()?;
    let next = rest.trim_ascii_start().first();
    let json = match open {
        b'{' => matches!(next, Some(b'"' | b'}')),
        b'[' => next.is_some_and(|b| matches!(b, b'{' | b'[' | b'"' | b']' | b'-' | b'0'..=b'9')),
        _ => false,
    };
    // A header without its length, or a JSON file that accompanies a model.
    (json && !first.iter().take(8.min(file_len as usize)).any(|b| *b == 0)).then_some((
        "JSON",
        "A safetensors file begins with the length of its header. An index of shards is given under its own name, which has .index. in it and ends in .json.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(first: &[u8]) -> Option<&'static str> {
        identify(first, first.len() as u64).map(|(format, _)| format)
    }

    #[test]
    fn every_kind_is_told() {
        let zip = |name: &str| {
            let mut file = b"PK\x03\x04".to_vec();
            file.resize(26, 0);
            file.extend((name.len() as u32).to_le_bytes());
            file.extend(name.as_bytes());
            file
        };
        let tar = || {
            let mut file = vec![0; 512];
            file[..4].copy_from_slice(b"a.py");
            file[257..265].copy_from_slice(b"ustar\x0000");
            file
        };
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n".to_vec(),
                "a Git LFS pointer",
            ),
            (b"<!DOCTYPE html><html>".to_vec(), "an HTML page"),
            (b"\n  <HTML lang=en>".to_vec(), "an HTML page"),
            (b"<?xml version=\"1.0\"?>".to_vec(), "an XML document"),
            (b"{\"a\": 1}".to_vec(), "JSON"),
            (b"{ \n \"weight_map\": {}}".to_vec(), "JSON"),
            (b"\xef\xbb\xbf{}".to_vec(), "JSON"),
            (b"[1, 2]".to_vec(), "JSON"),
            (
                b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(),
                "a Python pickle",
            ),
            (
                b"\x80\x04\x95\x10\0\0\0\0\0\0\0}".to_vec(),
                "a Python pickle",
            ),
            (zip("archive/data.pkl"), "a PyTorch checkpoint"),
            (zip("weights.npy"), "a NumPy archive"),
            (zip("model.safetensors"), "a ZIP archive"),
            (b"PK\x03\x04".to_vec(), "a ZIP archive"),
            (b"GGUF\x03\0\0\0".to_vec(), "a GGUF file"),
            (b"\x93NUMPY\x01\0v\0".to_vec(), "a NumPy array"),
            (b"\x1f\x8b\x08\0".to_vec(), "a gzip archive"),
            (b"\x89HDF\r\n\x1a\n".to_vec(), "an HDF5 file"),
            (b"MSDELTA\x01".to_vec(), "a model delta"),
            (b"tjgg\x01\0\0\0".to_vec(), "a GGML file"),
            (
                b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:\xff\x01".to_vec(),
                "an ONNX model",
            ),
            (
                b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0".to_vec(),
                "a SentencePiece model",
            ),
            (b"\x1c\0\0\0TFL3\x14\0".to_vec(), "a TensorFlow Lite model"),
            (tar(), "a tar archive"),
        ];
        for (file, expected) in cases {
            assert_eq!(format(&file), Some(expected), "{file:?}");
        }
    }

    #[test]
    fn what_may_be_a_header_is_left_alone() {
        for length in [
            0u64,
            2,
            123,
            640,
            1408,
            0x7b22,
            0x5b31,
            100_000_000,
            u64::MAX,
        ] {
            let mut file = length.to_le_bytes().to_vec();
            file.extend(b"{\"a\":1}");
            assert_eq!(format(&file), None, "{length}");
        }
        assert_eq!(format(b""), None);
        assert_eq!(format(b"{"), None);
        assert_eq!(format(b"[x"), None);
        // Other protobufs.
        assert_eq!(format(b"\x08\x07\x12\x07pytor"), None);
        assert_eq!(format(b"\x08\x07\x12\x02\x01\x02\x1a"), None);
        assert_eq!(format(b"\x08\x07\x12\x00\x1a"), None);
    }
}
