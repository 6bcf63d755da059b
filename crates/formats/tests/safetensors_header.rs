//! Reading headers: one test for each rule, each with the error that breaking it gives.
#![allow(clippy::unwrap_used)]

use modelstore_formats::safetensors::{
    Header, LENGTH_BYTES, MAX_HEADER_BYTES, MAX_NAME_BYTES, header_len, parse_header,
};
use modelstore_formats::{Error, ErrorKind, Result};
use modelstore_tensor::DType;

/// The two steps on a whole file.
fn read(file: &[u8]) -> Result<Header> {
    let file_len = file.len() as u64;
    let length = header_len(file, file_len)?;
    parse_header(&file[8..8 + length as usize], file_len)
}

/// A file of this JSON and as many bytes of data.
fn file(json: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let json = json.as_ref();
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json);
    out.resize(out.len() + data, 0);
    out
}

fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

/// What is wrong with a file of these entries.
fn refused(entries: &[&str], data: usize) -> Error {
    let error = read(&file(format!("{{{}}}", entries.join(",")), data)).unwrap_err();
    check_message(&error);
    error
}

/// As [`refused`], for one tensor with these fields.
fn refused_fields(fields: &str, data: usize) -> ErrorKind {
    refused(&[&format!("\"t\":{{{fields}}}")], data).kind()
}

/// PostgreSQL's rules for messages, and no control character that would end or forge a line of the log.
fn check_message(error: &Error) {
    let message = error.to_string();
    assert!(message.starts_with(|c: char| c.is_lowercase()), "{message}");
    assert!(!message.ends_with('.'), "{message}");
    assert!(message.len() < 700, "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
    if let Some(detail) = error.detail() {
        assert!(detail.ends_with('.') && detail.len() < 1000, "{detail}");
        assert!(!detail.contains(char::is_control), "{detail:?}");
    }
}

#[test]
fn a_small_file_is_read() {
    let json = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{},{}}}  "#,
        entry("b", "F32", "[2,3]", "[2,26]"),
        entry("a", "BF16", "[]", "[0,2]"),
    );
    let header = read(&file(&json, 26)).unwrap();
    assert_eq!(header.data_offset, 8 + json.len() as u64);
    assert_eq!(header.metadata.unwrap()["format"], "pt");
    let [a, b] = header.tensors.as_slice() else {
        panic!("two tensors")
    };
    assert_eq!(
        (a.name.as_str(), a.dtype, a.start, a.end),
        ("a", DType::BF16, 0, 2)
    );
    assert_eq!((b.shape.dims(), b.start, b.end), (&[2, 3][..], 2, 26));
}

#[test]
fn no_tensors_is_a_file() {
    let header = read(&file("{}", 0)).unwrap();
    assert_eq!(
        (header.tensors.len(), header.metadata, header.data_offset),
        (0, None, 10)
    );
}

#[test]
fn empty_tensors_keep_their_place_as_listed() {
    let json = format!(
        "{{{},{},{},{}}}",
        entry("y", "F32", "[0]", "[4,4]"),
        entry("full", "F32", "[1]", "[0,4]"),
        entry("x", "F32", "[0,5]", "[4,4]"),
        entry("w", "F32", "[3,0]", "[0,0]"),
    );
    let header = read(&file(json, 4)).unwrap();
    let names: Vec<_> = header.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["w", "full", "y", "x"]);
}

#[test]
fn every_dtype_is_read() {
    for (name, bytes) in [
        ("BOOL", 4),
        ("F4", 2),
        ("F6_E2M3", 3),
        ("F6_E3M2", 3),
        ("U8", 4),
        ("I8", 4),
        ("F8_E5M2", 4),
        ("F8_E4M3", 4),
        ("F8_E8M0", 4),
        ("F8_E4M3FNUZ", 4),
        ("F8_E5M2FNUZ", 4),
        ("I16", 8),
        ("U16", 8),
        ("F16", 8),
        ("BF16", 8),
        ("I32", 16),
        ("U32", 16),
        ("F32", 16),
        ("C64", 32),
        ("F64", 32),
        ("I64", 32),
        ("U64", 32),
    ] {
        let json = format!("{{{}}}", entry("t", name, "[2,2]", &format!("[0,{bytes}]")));
        let header = read(&file(json, bytes)).unwrap();
        assert_eq!(header.tensors[0].dtype.name(), name.to_lowercase());
    }
}

#[test]
fn every_truncation_is_an_error() {
    let whole = file(
        format!(
            "{{\"__metadata__\":{{\"a\":\"b\"}},{}}}",
            entry("t", "F32", "[2]", "[0,8]")
        ),
        8,
    );
    assert!(read(&whole).is_ok());
    for length in 0..whole.len() {
        let error = read(&whole[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "at {length}");
        check_message(&error);
    }
    // The length and the JSON cut, with a file as long as before.
    let json = &whole[8..whole.len() - 8];
    for length in 0..json.len() {
        let error = parse_header(&json[..length], whole.len() as u64).unwrap_err();
        check_message(&error);
    }
}

#[test]
fn every_changed_byte_is_read_or_refused() {
    let whole = file(format!("{{{}}}", entry("t", "F32", "[2]", "[0,8]")), 8);
    for at in 0..whole.len() {
        for byte in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = byte;
            if let Err(error) = read(&changed) {
                check_message(&error);
            }
        }
    }
}

#[test]
fn the_prefix_and_the_file_may_be_too_short() {
    let short = |prefix: &[u8], file_len| header_len(prefix, file_len).unwrap_err().kind();
    assert_eq!(short(&[], 0), ErrorKind::Truncated);
    assert_eq!(short(&[2, 0, 0, 0, 0, 0, 0], 10), ErrorKind::Truncated);
    assert_eq!(short(&[2, 0, 0, 0, 0, 0, 0, 0], 7), ErrorKind::Truncated);
    assert_eq!(short(&[2, 0, 0, 0, 0, 0, 0, 0], 9), ErrorKind::Truncated);
    assert_eq!(header_len(&[2, 0, 0, 0, 0, 0, 0, 0, 99], 10), Ok(2));
}

#[test]
fn a_header_that_is_too_long_is_refused_before_it_is_read() {
    for length in [
        MAX_HEADER_BYTES + 1,
        i64::MAX as u64,
        u64::MAX - 7,
        u64::MAX,
    ] {
        let error = header_len(&length.to_le_bytes(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HeaderTooLong);
        check_message(&error);
    }
    let longest = MAX_HEADER_BYTES.to_le_bytes();
    assert_eq!(header_len(&longest, u64::MAX), Ok(MAX_HEADER_BYTES));
    let short = header_len(&longest, MAX_HEADER_BYTES + LENGTH_BYTES - 1);
    assert_eq!(short.unwrap_err().kind(), ErrorKind::Truncated);
}

#[test]
fn nothing_but_white_space_stands_before_the_brace() {
    for json in [
        "",
        "\u{b}{}",
        " ",
        " []",
        "[]",
        "null",
        "\"\"",
        "\u{feff}{}",
        "\0{}",
    ] {
        let error = read(&file(json, 0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAnObject, "{json:?}");
    }
}

#[test]
fn only_blanks_stand_after_the_brace() {
    assert!(read(&file("{}      ", 0)).is_ok());
    for json in ["{}x", "{}{}", "{}\0\0", "{},", "{}  null"] {
        let error = read(&file(json, 0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidJson, "{json:?}");
        check_message(&error);
    }
}

#[test]
fn text_is_utf8() {
    let error = read(&file(b"{\"\xff\":1}", 0)).unwrap_err();
    assert!(matches!(error, Error::InvalidUtf8 { offset: 2, .. }));
    // A surrogate on its own, which only an escape can write.
    let error = read(&file(r#"{"\ud800":{}}"#, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidJson);
}

#[test]
fn broken_json_is_refused() {
    for json in [
        "{",
        "{\"a\"",
        "{\"a\":",
        "{a:1}",
        "{'a':1}",
        "{\"t\":{]}",
        "{\"a\tb\":1}",
        "{\"t\":{},}",
    ] {
        let error = read(&file(json, 0)).unwrap_err();
        check_message(&error);
        assert!(
            matches!(
                error.kind(),
                ErrorKind::InvalidJson | ErrorKind::MissingField | ErrorKind::WrongType
            ),
            "{json} {error}"
        );
    }
}

#[test]
fn depth_does_not_end_the_stack() {
    for (open, inside) in [
        ("[", r#""t":{"shape":"#),
        ("{\"a\":", r#""t":"#),
        ("[", r#""__metadata__":"#),
        ("[", r#""t":{"x":"#),
    ] {
        let json = format!("{{{inside}{}", open.repeat(1_000_000));
        check_message(&read(&file(json, 0)).unwrap_err());
    }
}

#[test]
fn a_tensor_listed_twice_is_refused() {
    let a = entry("a", "U8", "[1]", "[0,1]");
    let escaped = entry("\\u0061", "U8", "[1]", "[1,2]");
    for second in [&entry("a", "U8", "[1]", "[1,2]"), &escaped, &a] {
        let error = refused(&[&a, &entry("b", "U8", "[0]", "[0,0]"), second], 2);
        assert_eq!(error.kind(), ErrorKind::DuplicateKey);
        assert_eq!(
            error.to_string(),
            "duplicate key \"a\" in safetensors header"
        );
    }
}

#[test]
fn a_field_given_twice_is_refused() {
    for fields in [
        r#""dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]"#,
        r#""dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]"#,
        r#""dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]"#,
    ] {
        assert_eq!(
            refused_fields(fields, 1),
            ErrorKind::DuplicateKey,
            "{fields}"
        );
    }
}

#[test]
fn metadata_given_twice_is_refused() {
    for entries in [
        &[r#""__metadata__":{}"#, r#""__metadata__":{}"#][..],
        &[r#""__metadata__":{"a":"1","a":"1"}"#],
    ] {
        assert_eq!(refused(entries, 0).kind(), ErrorKind::DuplicateKey);
    }
}

#[test]
fn white_space_in_front_and_a_metadata_of_null_are_taken() {
    let json = " \t\r\n{\"__metadata__\":null,\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    let header = read(&file(json, 1)).unwrap();
    assert_eq!(header.metadata, None);
    assert_eq!(header.data_offset, 8 + json.len() as u64);
    assert_eq!(header.tensors[0].name, "a");
    let twice = refused(&[r#""__metadata__":null"#, r#""__metadata__":null"#], 0);
    assert_eq!(twice.kind(), ErrorKind::DuplicateKey);
}

#[test]
fn metadata_is_strings() {
    for value in ["[]", "1", r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":{}}"#] {
        let error = refused(&[&format!("\"__metadata__\":{value}")], 0);
        assert_eq!(error.kind(), ErrorKind::WrongType, "{value}");
        assert!(error.to_string().contains("__metadata__"));
    }
    for value in [r#"{"a":"\u0000"}"#, r#"{"\u0000":"a"}"#] {
        let error = refused(&[&format!("\"__metadata__\":{value}")], 0);
        assert_eq!(error.kind(), ErrorKind::NulCharacter, "{value}");
    }
}

#[test]
fn other_fields_are_refused() {
    let fields = r#""dtype":"U8","shape":[1],"data_offsets":[0,1],"strides":[1]"#;
    assert_eq!(refused_fields(fields, 1), ErrorKind::UnknownField);
}

#[test]
fn all_fields_are_needed() {
    for fields in [
        "",
        r#""shape":[1],"data_offsets":[0,1]"#,
        r#""dtype":"U8","data_offsets":[0,1]"#,
        r#""dtype":"U8","shape":[1]"#,
    ] {
        assert_eq!(
            refused_fields(fields, 1),
            ErrorKind::MissingField,
            "{fields}"
        );
    }
}

#[test]
fn fields_have_their_types() {
    for fields in [
        r#""dtype":1,"shape":[1],"data_offsets":[0,1]"#,
        r#""dtype":null,"shape":[1],"data_offsets":[0,1]"#,
        r#""dtype":"U8","shape":1,"data_offsets":[0,1]"#,
        r#""dtype":"U8","shape":["1"],"data_offsets":[0,1]"#,
        r#""dtype":"U8","shape":[[1]],"data_offsets":[0,1]"#,
        r#""dtype":"U8","shape":[1],"data_offsets":{}"#,
    ] {
        assert_eq!(refused_fields(fields, 1), ErrorKind::WrongType, "{fields}");
    }
    for tensor in [r#""t":1"#, r#""t":null"#, r#""t":["U8",[1],[0,1]]"#] {
        let error = refused(&[tensor], 1);
        assert_eq!(error.kind(), ErrorKind::WrongType, "{tensor}");
        assert!(error.to_string().contains("\"t\""), "{error}");
    }
}

#[test]
fn dtypes_of_other_formats_are_refused() {
    for dtype in [
        "f32",
        "Q4_0",
        "q6_k",
        "FLOAT",
        "",
        "F32 ",
        "F32\\u0000",
        &"x".repeat(100_000),
    ] {
        let error = refused(&[&entry("t", dtype, "[32]", "[0,18]")], 18);
        assert_eq!(error.kind(), ErrorKind::UnknownDtype, "{dtype}");
    }
}

#[test]
fn dimensions_and_offsets_are_whole_numbers() {
    for number in [
        "-1",
        "1.0",
        "1e0",
        "-0",
        "0.5",
        "18446744073709551616",
        "1e300",
    ] {
        let shape = refused(&[&entry("t", "U8", &format!("[{number}]"), "[0,1]")], 1);
        assert_eq!(shape.kind(), ErrorKind::InvalidNumber, "{number}");
        let offsets = refused(&[&entry("t", "U8", "[1]", &format!("[0,{number}]"))], 1);
        assert_eq!(offsets.kind(), ErrorKind::InvalidNumber, "{number}");
    }
}

#[test]
fn shapes_do_not_overflow() {
    for shape in [
        "[18446744073709551615]",
        "[4294967296,4294967296]",
        "[9223372036854775807,2]",
        "[0,9223372036854775807,9223372036854775807]",
    ] {
        let error = refused(&[&entry("t", "U8", shape, "[0,0]")], 0);
        assert_eq!(error.kind(), ErrorKind::InvalidShape, "{shape}");
    }
    let error = refused(&[&entry("t", "F64", "[4611686018427387904]", "[0,0]")], 0);
    assert_eq!(error.kind(), ErrorKind::InvalidShape);
}

#[test]
fn shapes_have_at_most_32_dimensions() {
    let dims = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    let most = format!("{{{}}}", entry("t", "U8", &dims(32), "[0,1]"));
    assert!(read(&file(most, 1)).is_ok());
    for n in [33, 1_000_000] {
        let error = refused(&[&entry("t", "U8", &dims(n), "[0,1]")], 1);
        assert_eq!(error.kind(), ErrorKind::InvalidShape);
        // Reading stopped at the first one too many.
        assert!(error.to_string().contains("rank 33"), "{error}");
    }
}

#[test]
fn parts_of_bytes_are_refused() {
    for (dtype, shape) in [
        ("F4", "[3]"),
        ("F4", "[]"),
        ("F6_E2M3", "[2]"),
        ("F6_E3M2", "[3,3]"),
    ] {
        let error = refused(&[&entry("t", dtype, shape, "[0,2]")], 2);
        assert_eq!(error.kind(), ErrorKind::PartialByte, "{dtype} {shape}");
    }
}

#[test]
fn offsets_are_two() {
    for offsets in [
        "[]",
        "[0]",
        "[0,1,2]",
        &format!("[{}]", vec!["0"; 100_000].join(",")),
    ] {
        let error = refused(&[&entry("t", "U8", "[1]", offsets)], 1);
        assert_eq!(error.kind(), ErrorKind::OffsetCount);
    }
}

#[test]
fn a_tensor_does_not_end_before_its_start() {
    let error = refused(&[&entry("t", "U8", "[1]", "[1,0]")], 1);
    assert_eq!(error.kind(), ErrorKind::OffsetOrder);
}

#[test]
fn offsets_enclose_what_the_shape_needs() {
    for (shape, offsets) in [
        ("[2]", "[0,7]"),
        ("[2]", "[0,9]"),
        ("[]", "[0,0]"),
        ("[0]", "[0,4]"),
    ] {
        let error = refused(&[&entry("t", "F32", shape, offsets)], 9);
        assert_eq!(error.kind(), ErrorKind::WrongLength, "{shape} {offsets}");
    }
}

#[test]
fn there_is_no_hole() {
    let error = refused(&[&entry("t", "U8", "[1]", "[1,2]")], 2);
    assert_eq!(error.kind(), ErrorKind::Hole);
    let error = refused(
        &[
            &entry("a", "U8", "[1]", "[0,1]"),
            &entry("b", "U8", "[1]", "[2,3]"),
        ],
        3,
    );
    assert_eq!(error.kind(), ErrorKind::Hole);
    let error = refused(
        &[
            &entry("a", "U8", "[1]", "[0,1]"),
            &entry("b", "U8", "[0]", "[2,2]"),
        ],
        1,
    );
    assert_eq!(error.kind(), ErrorKind::Hole);
}

#[test]
fn there_is_no_overlap() {
    for (second, shape) in [("[0,2]", "[2]"), ("[1,3]", "[2]"), ("[1,1]", "[0]")] {
        let error = refused(
            &[
                &entry("a", "U8", "[2]", "[0,2]"),
                &entry("b", "U8", shape, second),
            ],
            3,
        );
        assert_eq!(error.kind(), ErrorKind::Overlap, "{second}");
    }
}

#[test]
fn the_last_tensor_ends_the_file() {
    let tensor = entry("t", "U8", "[4]", "[0,4]");
    assert_eq!(refused(&[&tensor], 3).kind(), ErrorKind::Truncated);
    assert_eq!(refused(&[&tensor], 5).kind(), ErrorKind::TrailingBytes);
    assert_eq!(refused(&[], 1).kind(), ErrorKind::TrailingBytes);
}

#[test]
fn offsets_do_not_overflow() {
    let error = refused(
        &[
            &entry(
                "a",
                "U8",
                "[9223372036854775807]",
                "[0,9223372036854775807]",
            ),
            &entry(
                "b",
                "U8",
                "[1]",
                "[9223372036854775807,9223372036854775808]",
            ),
        ],
        1,
    );
    assert_eq!(error.kind(), ErrorKind::OffsetOverflow);
    let end = u64::MAX;
    let error = refused(
        &[&entry("t", "U8", "[1]", &format!("[{},{end}]", end - 1))],
        1,
    );
    assert_eq!(error.kind(), ErrorKind::Hole);
}

#[test]
fn names_are_kept_as_they_are() {
    for name in [
        " ",
        "a/b",
        "..",
        "'; drop table",
        "ümläut",
        "\\n",
        "__metadata",
        "\u{202e}",
    ] {
        let json = format!("{{{}}}", entry(name, "U8", "[0]", "[0,0]"));
        let header = read(&file(json, 0)).unwrap();
        assert_eq!(header.tensors[0].name, name.replace("\\n", "\n"));
    }
}

#[test]
fn names_fit_the_database() {
    let refuse = |name: &str| refused(&[&entry(name, "U8", "[0]", "[0,0]")], 0).kind();
    assert_eq!(refuse(""), ErrorKind::EmptyName);
    assert_eq!(refuse("a\\u0000b"), ErrorKind::NulCharacter);
    assert_eq!(
        refuse(&"é".repeat(MAX_NAME_BYTES / 2 + 1)),
        ErrorKind::NameTooLong
    );
    let longest = entry(&"é".repeat(MAX_NAME_BYTES / 2), "U8", "[0]", "[0,0]");
    assert!(read(&file(format!("{{{longest}}}"), 0)).is_ok());
}

#[test]
fn messages_cut_what_they_quote() {
    let name = "n".repeat(1000);
    let error = refused(&[&entry(&name, "U8", "[1]", "[1,0]")], 1);
    let quoted = format!("\"{}\"", "n".repeat(64));
    assert!(error.to_string().contains(&quoted), "{error}");
    let error = refused(&[&entry("a\\u001b[2J\\n", "nope", "[1]", "[0,1]")], 1);
    assert!(error.to_string().contains(r"a\u{1b}[2J\n"), "{error}");
}

#[test]
fn a_hundred_thousand_tensors_take_well_under_a_second() {
    let entries: Vec<String> = (0..100_000u64)
        .rev()
        .map(|i| {
            let name = format!("model.layers.{i}.mlp.experts.{i}.down_proj.weight");
            entry(
                &name,
                "F32",
                "[2,2]",
                &format!("[{},{}]", i * 16, i * 16 + 16),
            )
        })
        .collect();
    let json = format!("{{{}}}", entries.join(","));
    let file_len = 8 + json.len() as u64 + 1_600_000;
    let started = std::time::Instant::now();
    let header = parse_header(json.as_bytes(), file_len).unwrap();
    let taken = started.elapsed();
    assert_eq!(header.tensors.len(), 100_000);
    // Five times what a slow machine needs without optimisation.
    assert!(taken.as_secs() < 5, "{taken:?}");
}
