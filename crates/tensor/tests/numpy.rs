//! Slices, casts and decimals against numpy and ml_dtypes, and dequantising against gguf: `data/generate.py`.

#![allow(clippy::expect_used)]

use modelstore_tensor::{DType, Shape, Tensor, convert, slice, text};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rows(name: &str) -> Vec<Value> {
    serde_json::from_slice(&data(name)).expect("JSON")
}

fn integers(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_u64().expect("an integer"))
        .collect()
}

#[test]
fn slices_select_what_numpy_selects() {
    let rows = rows("numpy_slices.json");
    assert!(rows.len() > 1500);
    for row in rows {
        let dims = integers(&row[0]);
        let text = row[1].as_str().expect("a slice");
        let shape = Shape::new(&dims).expect("a shape");
        let selection = slice::parse(text).and_then(|s| s.resolve(&shape));
        let answer = &row[2];
        if answer.is_null() {
            assert!(selection.is_err(), "{dims:?}[{text}]");
            continue;
        }
        let selection = selection.unwrap_or_else(|e| panic!("{dims:?}[{text}]: {e}"));
        let taken: Vec<u64> = selection
            .runs()
            .flat_map(|(first, count)| first..first + count)
            .collect();
        let expected = integers(&answer[1]);
        assert_eq!(
            (selection.shape.dims(), &taken),
            (&integers(&answer[0])[..], &expected),
            "{dims:?}[{text}]"
        );
        let bounds = expected
            .iter()
            .min()
            .zip(expected.iter().max())
            .map(|(a, b)| (*a, b + 1));
        assert_eq!(selection.bounds(), bounds, "{dims:?}[{text}]");
        assert_eq!(
            selection.is_contiguous(),
            selection.runs().count() <= 1 || expected.windows(2).all(|w| w[0] + 1 == w[1])
        );
        let source: Vec<u8> = (0..shape.elements())
            .flat_map(|i| (i as u16).to_le_bytes())
            .collect();
        let tensor = Tensor::new(DType::U16, shape, source).expect("fits");
        let mut out = Vec::new();
        slice::gather(&selection, &tensor.view(), &mut out).expect("whole elements");
        assert_eq!(
            out,
            expected
                .iter()
                .flat_map(|&i| (i as u16).to_le_bytes())
                .collect::<Vec<u8>>()
        );
    }
}

#[test]
fn casts_round_as_numpy_rounds() {
    let source = data("cast_source.f32");
    let shape = Shape::new(&[source.len() as u64 / 4]).expect("a shape");
    let source = Tensor::new(DType::F32, shape.clone(), source).expect("fits");
    for dtype in [DType::F16, DType::BF16, DType::F8E4M3, DType::F8E5M2] {
        let expected =
            Tensor::new(dtype, shape.clone(), data(&format!("cast_{dtype}.bin"))).expect("fits");
        let ours = convert::cast(&source.view(), dtype).expect("floats");
        let width = dtype.block_bytes() as usize;
        let values = convert::to_f64_vec(&expected.view()).expect("numeric");
        let pairs = ours.data().chunks(width).zip(expected.data().chunks(width));
        for (i, (ours, theirs)) in pairs.enumerate() {
            // Which NaN it is differs between numpy and ml_dtypes.
            if !values[i].is_nan()
                || convert::to_f64_vec(
                    &Tensor::new(dtype, Shape::default(), ours.to_vec())
                        .expect("fits")
                        .view(),
                )
                .is_ok_and(|v| !v[0].is_nan())
            {
                assert_eq!(
                    ours,
                    theirs,
                    "{dtype} of {:?}",
                    &source.data()[i * 4..][..4]
                );
            }
        }
    }
}

#[test]
fn decimals_are_the_shortest() {
    for row in rows("decimals.json") {
        let dtype = DType::from_name(row[0].as_str().expect("a dtype")).expect("known");
        let code = row[1].as_u64().expect("a code").to_le_bytes();
        let bytes = code[..dtype.block_bytes() as usize].to_vec();
        let tensor = Tensor::new(dtype, Shape::default(), bytes).expect("fits");
        let mut printed = String::new();
        text::format(&tensor.view(), &mut printed).expect("a string takes all");
        let expected: f64 = format!("{}e{}", row[2], row[3]).parse().expect("a number");
        let number: f64 = printed
            .split_once(':')
            .expect("a dtype")
            .1
            .parse()
            .expect("a number");
        assert_eq!(number, expected, "{printed}");
    }
}

#[test]
fn blocks_dequantise_as_gguf_does() {
    for dtype in DType::ALL
        .iter()
        .filter(|d| d.kind() == modelstore_tensor::dtype::Kind::Quantised)
    {
        let blocks = data(&format!("ggml_{dtype}.bin"));
        let expected = data(&format!("ggml_{dtype}.f32"));
        let shape = Shape::new(&[2, dtype.block_elements()]).expect("a shape");
        let tensor = Tensor::new(*dtype, shape, blocks).expect("fits");
        let ours: Vec<u8> = convert::to_f32_vec(&tensor.view())
            .expect("numeric")
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        assert_eq!(ours, expected, "{dtype}");
        assert_eq!(
            convert::cast(&tensor.view(), DType::F32)
                .expect("numeric")
                .data(),
            expected,
            "{dtype}"
        );
    }
}
