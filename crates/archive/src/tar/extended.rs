//! The extended header of pax: records of a length, a key and a value.

/// The records that are understood; others are about times, owners and attributes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The name of the entry.
    pub path: Option<Vec<u8>>,
    /// Bytes of its content.
    pub size: Option<u64>,
    /// Whether the content is a sparse file of GNU tar, which is not what the entry has.
    pub is_sparse: bool,
}

impl Records {
    /// Reads records; `None` if they are malformed.
    pub fn parse(mut bytes: &[u8]) -> Option<Records> {
        let mut records = Records::default();
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ')?;
            let length = decimal(&bytes[..space])?;
            let length = usize::try_from(length).ok()?;
            // The length counts itself and the newline.
            let record = bytes.get(space + 1..length)?;
            bytes = &bytes[length..];
            let record = record.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                // An empty value takes a global one back; there is none.
                b"path" => records.path = (!value.is_empty()).then(|| value.to_vec()),
                b"size" => records.size = Some(decimal(value)?),
                _ => records.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Some(records)
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok())?
}

/// Appends a record.
pub fn write(out: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for len in (0..120).chain([987, 988, 989, 990, 991, 9_980, 99_990]) {
            let mut out = Vec::new();
            let value = "ü".repeat(len);
            write(&mut out, "path", &value);
            write(&mut out, "size", "17");
            let records = Records::parse(&out).expect("records");
            assert_eq!(records.path.unwrap_or_default(), value.as_bytes());
            assert_eq!(records.size, Some(17));
        }
    }

    #[test]
    fn malformed_records_are_none() {
        for bytes in [
            "x",
            "5",
            "9 path=a",
            "8 path=a\n",
            "9 patha=\n1",
            "0 a=b\n",
            "1 a=b\n",
            "-9 path=a\n",
            "11 size=-1\n",
            "30 size=99999999999999999999999\n",
            "18446744073709551616 a=b\n",
            "7 patha\n",
            " 9 path=a\n",
            "9 path=a\n9 path=b",
        ] {
            assert_eq!(Records::parse(bytes.as_bytes()), None, "{bytes:?}");
        }
        assert_eq!(Records::parse(b""), Some(Records::default()));
        let sparse = Records::parse(b"22 GNU.sparse.major=1\n").expect("records");
        assert!(sparse.is_sparse);
    }
}
