//! What is printed reads back; what is wrong is named with its place.

use super::*;
use crate::{DType, Error, Shape, Tensor, TensorView};
use proptest::prelude::*;

mod shortest;

fn print(tensor: &Tensor) -> String {
    let mut out = String::new();
    format(&tensor.view(), &mut out).expect("a string takes all");
    out
}

fn reprint(text: &str) -> String {
    print(&parse(text).unwrap_or_else(|e| panic!("{text}: {e}")))
}

#[test]
fn forms() {
    for (text, printed) in [
        ("[[1,2],[3,4]]", "f32:[[1,2],[3,4]]"),
        (" [ [ 1 , 2 ] ,\n[3,4] ] ", "f32:[[1,2],[3,4]]"),
        ("BF16 : [1]", "bf16:[1]"),
        ("3.5", "f32:3.5"),
        ("f64():3.5", "f64:3.5"),
        ("i8 ( 2 , 1 ) : [[1],[-128]]", "i8:[[1],[-128]]"),
        ("[]", "f32(0):[]"),
        ("[[],[]]", "f32(2,0):[]"),
        ("f32(2,0):[[],[]]", "f32(2,0):[]"),
        ("f32(0,3):[]", "f32(0,3):[]"),
        ("[[[1]],[[2]]]", "f32:[[[1]],[[2]]]"),
        (
            "u64:[18446744073709551615,+0]",
            "u64:[18446744073709551615,0]",
        ),
        ("i64:-9223372036854775808", "i64:-9223372036854775808"),
        (
            "bool:[t,F,true,FALSE,1,0]",
            "bool:[true,false,true,false,true,false]",
        ),
        ("f16:[0.1,65504,-0,1e-7]", "f16:[0.1,65500,-0,1e-7]"),
        ("bf16:[0.1,3e38,1e-40,100]", "bf16:[0.1,3e38,1e-40,100]"),
        ("f8_e4m3:[448,0.1,-0.001953125]", "f8_e4m3:[450,0.1,-0.002]"),
        (
            "[1e15,1e16,1e-5,9.9e-6,-0,.5,5.]",
            "f32:[1000000000000000,1e16,0.00001,9.9e-6,-0,0.5,5]",
        ),
        (
            "[inf,-Infinity,NAN,-nan]",
            "f32:[Infinity,-Infinity,NaN,nan(0xffc00000)]",
        ),
        (
            "[nan(0x7fc00001),NaN(0x7F800001)]",
            "f32:[nan(0x7fc00001),nan(0x7f800001)]",
        ),
        ("f8_e4m3:[nan,-nan]", "f8_e4m3:[NaN,nan(0xff)]"),
        (
            "f8_e5m2:[nan,nan(0x7d),inf]",
            "f8_e5m2:[NaN,nan(0x7d),Infinity]",
        ),
        ("f64:nan(0xfff8000000000000)", "f64:nan(0xfff8000000000000)"),
        ("f4(2,4):\\x0123ABcd", "f4(2,4):\\x0123abcd"),
        ("q8_0(0,32):\\x", "q8_0(0,32):\\x"),
        ("bool(2):\\x0102", "bool(2):\\x0102"),
        ("i16(1):\\x0100", "i16:[1]"),
    ] {
        assert_eq!(reprint(text), printed, "{text}");
        assert_eq!(reprint(printed), printed, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    use Error::*;
    let invalid = |token: &str, dtype, position| InvalidElement {
        token: token.into(),
        dtype,
        position,
    };
    let beyond = |token: &str, dtype, position| ElementOutOfRange {
        token: token.into(),
        dtype,
        position,
    };
    let unexpected = |text: &str, token: &str, at: usize| {
        let error = parse(text).expect_err(text);
        let right = matches!(&error, UnexpectedToken { found, position, .. } if found == token && *position == at);
        assert!(right, "{text}: {error:?}");
    };
    for (text, error) in [
        ("", EmptyText),
        (" \n", EmptyText),
        ("[1,x]", invalid("x", DType::F32, 4)),
        ("[é, 1,x]", invalid("é", DType::F32, 2)),
        ("i8:[1.0]", invalid("1.0", DType::I8, 5)),
        ("i8:[1e2]", invalid("1e2", DType::I8, 5)),
        ("i8:[128]", beyond("128", DType::I8, 5)),
        ("u8:-1", beyond("-1", DType::U8, 4)),
        (
            "u64:99999999999999999999",
            beyond("99999999999999999999", DType::U64, 5),
        ),
        ("f16:65520", beyond("65520", DType::F16, 5)),
        ("1e39", beyond("1e39", DType::F32, 1)),
        ("f64:-1e999", beyond("-1e999", DType::F64, 5)),
        ("f8_e4m3:inf", beyond("inf", DType::F8E4M3, 9)),
        ("f8_e4m3:465", beyond("465", DType::F8E4M3, 9)),
        ("nan(0x7f800000)", invalid("nan(0x7f800000)", DType::F32, 1)),
        (
            "nan(0x17fc00000)",
            invalid("nan(0x17fc00000)", DType::F32, 1),
        ),
        ("nan(0x)", invalid("nan(0x)", DType::F32, 1)),
        ("bool:2", invalid("2", DType::Bool, 6)),
        (
            "[[1,2],[3]]",
            RaggedBrackets {
                position: 10,
                expected: 2,
                actual: 1,
            },
        ),
        (
            "[[1],2]",
            UnevenNesting {
                found: "2".into(),
                position: 6,
                expected: 2,
                actual: 1,
            },
        ),
        (
            "[1,[2]]",
            UnevenNesting {
                found: "[".into(),
                position: 4,
                expected: 1,
                actual: 2,
            },
        ),
        (
            "[1] 2",
            TrailingText {
                found: "2".into(),
                position: 5,
            },
        ),
        ("f33:1", UnknownDType("f33".into())),
        (
            "f32(2):[1]",
            StatedShape {
                stated: "(2)".into(),
                actual: "(1)".into(),
            },
        ),
        (
            "f32(99999999999999999999):[]",
            DimensionOutOfRange {
                token: "99999999999999999999".into(),
                position: 5,
            },
        ),
        ("f4:\\x00", ShapeRequired { dtype: DType::F4 }),
        (
            "f4(2):\\x0000",
            WrongLength {
                shape: "(2)".into(),
                dtype: DType::F4,
                expected: 1,
                actual: 2,
            },
        ),
    ] {
        assert_eq!(parse(text), Err(error), "{text}");
    }
    unexpected("[1,,2]", ",", 4);
    unexpected("[1,]", "]", 4);
    unexpected("[1 2]", "2", 4);
    unexpected("]", "]", 1);
    unexpected("f32(-1):[]", "-1", 5);
    unexpected("f32(1:[]", ":", 6);
    unexpected("f32(1x):[1]", "x", 6);
    unexpected("f4(2):[1,2]", "[", 7);
    assert!(matches!(parse("f4(2):\\x0"), Err(UnterminatedText { .. })));
}

#[test]
fn deep_and_cut_texts_end_early() {
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    assert_eq!(parse(&deep(32)).map(|t| t.shape().rank()), Ok(32));
    assert_eq!(parse(&deep(33)), Err(Error::TextTooDeep { position: 33 }));
    assert_eq!(
        parse(&"[".repeat(100_000)),
        Err(Error::TextTooDeep { position: 33 })
    );
    let text = "bf16(2,2):[[1,2],[3,4]]";
    for end in 11..text.len() {
        assert!(
            matches!(parse(&text[..end]), Err(Error::UnterminatedText { .. })),
            "{end}"
        );
    }
    assert!(parse(&format!("f32({}):[]", "1,".repeat(40))).is_err());
    assert!(parse(&format!("f32({}0):[]", "4294967296,".repeat(3))).is_err());
}

/// Any dtype, a small shape of it and bytes to fill it.
fn any_tensor() -> impl Strategy<Value = Tensor> {
    let dims = prop::collection::vec(0u64..5, 0..5);
    (prop::sample::select(DType::ALL), dims).prop_flat_map(|(dtype, mut dims)| {
        if let Some(last) = dims.last_mut() {
            *last *= dtype.block_elements();
        } else if dtype.block_elements() > 1 {
            dims.push(dtype.block_elements());
        }
        let shape = Shape::new(&dims).expect("small");
        let bytes = shape.byte_len(dtype).expect("small") as usize;
        prop::collection::vec(any::<u8>(), bytes..=bytes)
            .prop_map(move |data| Tensor::new(dtype, shape.clone(), data).expect("fits"))
    })
}

proptest! {
    #[test]
    fn any_bits_round_trip(tensor in any_tensor()) {
        let text = print(&tensor);
        prop_assert_eq!(parse(&text), Ok(tensor), "{}", text);
    }

    #[test]
    fn the_layout_round_trips(tensor in any_tensor()) {
        let bytes = crate::layout::write(&tensor.view());
        let view: TensorView<'_> = crate::layout::read(&bytes).expect("valid");
        prop_assert_eq!(view, tensor.view());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]0-9,.:()eE+a-fnixt_8-9 \\\\-]{0,40}") {
        if let Ok(tensor) = parse(&text) {
            prop_assert_eq!(parse(&print(&tensor)), Ok(tensor));
        }
    }

    #[test]
    fn any_slice_text_is_read_or_refused(text in "[0-9:,.\\[\\]+N -]{0,20}") {
        if let Ok(slice) = crate::slice::parse(&text) {
            let _ = slice.resolve(&Shape::new(&[3, 4, 5]).expect("small"));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(view) = crate::layout::read(&bytes) {
            prop_assert_eq!(crate::layout::write(&view), bytes);
        }
    }
}

/// What jsonb shows, read as a double, is the element; what it cannot show is quoted.
#[test]
fn json_of_small_floats_is_exact() {
    let json = |text: &str| {
        let mut out = String::new();
        format_json(&parse(text).expect("a tensor").view(), &mut out).expect("a string takes all");
        out
    };
    assert_eq!(
        json("f16:[65504,0.1,-0]"),
        r#"[65504,0.0999755859375,"-0"]"#
    );
    assert_eq!(
        json("bf16:[[0.26953125],[nan]]"),
        r#"[[0.26953125],["NaN"]]"#
    );
    assert_eq!(json("f16:[nan(0x7e01)]"), r#"["nan(0x7e01)"]"#);
    assert_eq!(json("[0.1,-inf,1e-30]"), r#"[0.1,"-Infinity",1e-30]"#);
    assert_eq!(
        json("c64(1):\\x0123456789abcdef"),
        r#""\\x0123456789abcdef""#
    );
    assert_eq!(json("u64:18446744073709551615"), "18446744073709551615");
    assert_eq!(json("bool:[true]"), "[true]");
    assert_eq!(json("f32(3,0):[]"), "[]");
    for code in 0..=u16::MAX {
        for (dtype, value) in [
            (DType::F16, half::f16::from_bits(code).to_f64()),
            (DType::BF16, half::bf16::from_bits(code).to_f64()),
        ] {
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let data = code.to_le_bytes();
            let scalar = TensorView::new(dtype, Shape::new(&[]).expect("a shape"), &data);
            let mut out = String::new();
            format_json(&scalar.expect("fits"), &mut out).expect("a string takes all");
            assert_eq!(out.parse(), Ok(value), "{dtype} {code:#06x}");
            let back = parse(&format!("{dtype}:{out}")).expect("a tensor");
            assert_eq!(back.data(), data, "{dtype} {code:#06x}");
        }
    }
}

#[test]
fn reading_and_writing_look_up_now_and_then() {
    let many = format!("f32:[{}1]", "0,".repeat(100_000));
    let mut checks = 0;
    let tensor = parse_checked(&many, &mut || checks += 1).expect("a tensor");
    assert!(checks >= 6, "{checks}");
    checks = 0;
    crate::convert::cast_checked(&tensor.view(), DType::F64, &mut || checks += 1).expect("casts");
    assert!(checks >= 1);
    let hexadecimal = format!("c64(500000):\\x{}", "00".repeat(4_000_000));
    checks = 0;
    parse_checked(&hexadecimal, &mut || checks += 1).expect("a tensor");
    assert!(checks >= 8, "{checks}");
}
