//! Writing headers: what is written reads back, and is what the Python package writes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use modelstore_formats::ErrorKind;
use modelstore_formats::safetensors::{Header, build_header, header_len, parse_header};
use modelstore_tensor::{DType, Shape};
use proptest::prelude::*;

const GOLDEN: &[u8] = include_bytes!("data/golden.safetensors");

type Tensor = (String, DType, Shape);

fn tensor(name: &str, dtype: DType, dims: &[u64]) -> Tensor {
    (name.into(), dtype, Shape::new(dims).unwrap())
}

fn read_golden() -> Header {
    let file_len = GOLDEN.len() as u64;
    let length = header_len(GOLDEN, file_len).unwrap();
    parse_header(&GOLDEN[8..8 + length as usize], file_len).unwrap()
}

fn refused(tensors: &[Tensor], metadata: Option<&BTreeMap<String, String>>) -> ErrorKind {
    build_header(tensors, metadata).unwrap_err().kind()
}

#[test]
fn the_golden_file_is_read() {
    let header = read_golden();
    assert_eq!(header.metadata.as_ref().unwrap()["format"], "np");
    let listed: Vec<_> = header
        .tensors
        .iter()
        .map(|t| (t.name.as_str(), t.dtype, t.shape.dims()))
        .collect();
    let expected: [(&str, DType, &[u64]); 11] = [
        ("wide", DType::U64, &[1]),
        ("scalar", DType::I64, &[]),
        ("double", DType::F64, &[1, 1]),
        ("complex", DType::C64, &[1]),
        ("alpha.weight", DType::F32, &[4]),
        ("empty", DType::F32, &[0, 3]),
        ("zeta.weight", DType::F32, &[2, 3]),
        ("half", DType::F16, &[2]),
        ("quote\"back\\slash/tab\tümläut", DType::I16, &[2]),
        ("byte", DType::U8, &[1]),
        ("mask", DType::Bool, &[3]),
    ];
    assert_eq!(listed, expected);
    let zeta = &header.tensors[6];
    let from = (header.data_offset + zeta.start) as usize;
    assert_eq!(GOLDEN[from + 20..from + 24], 5f32.to_le_bytes());
}

#[test]
fn the_golden_header_is_written_again() {
    let header = read_golden();
    let mut tensors: Vec<Tensor> = header
        .tensors
        .iter()
        .map(|t| (t.name.clone(), t.dtype, t.shape.clone()))
        .collect();
    tensors.reverse();
    let (written, order) = build_header(&tensors, header.metadata.as_ref()).unwrap();
    assert_eq!(written, GOLDEN[..header.data_offset as usize]);
    assert_eq!(order, (0..11).rev().collect::<Vec<_>>());
}

#[test]
fn larger_elements_come_first_and_then_names() {
    let tensors = [
        tensor("b", DType::F32, &[1]),
        tensor("c", DType::U8, &[3]),
        tensor("a", DType::F32, &[1]),
        tensor("d", DType::F64, &[1]),
    ];
    let (written, order) = build_header(&tensors, None).unwrap();
    assert_eq!(order, [3, 2, 0, 1]);
    assert_eq!(written.len() % 8, 0);
}

#[test]
fn no_tensors_is_a_file() {
    let (written, order) = build_header(&[], None).unwrap();
    assert_eq!(written, b"\x08\0\0\0\0\0\0\0{}      ");
    assert!(order.is_empty());
}

#[test]
fn names_that_cannot_be_read_back_are_not_written() {
    assert_eq!(
        refused(&[tensor("", DType::U8, &[])], None),
        ErrorKind::EmptyName
    );
    assert_eq!(
        refused(&[tensor("a\0", DType::U8, &[])], None),
        ErrorKind::NulCharacter
    );
    assert_eq!(
        refused(&[tensor(&"x".repeat(2000), DType::U8, &[])], None),
        ErrorKind::NameTooLong
    );
    assert_eq!(
        refused(&[tensor("__metadata__", DType::U8, &[])], None),
        ErrorKind::ReservedName
    );
    let twice = [tensor("a", DType::U8, &[]), tensor("a", DType::F32, &[])];
    assert_eq!(refused(&twice, None), ErrorKind::DuplicateKey);
    let metadata = BTreeMap::from([("a".into(), "\0".into())]);
    assert_eq!(refused(&[], Some(&metadata)), ErrorKind::NulCharacter);
}

#[test]
fn dtypes_of_other_formats_are_not_written() {
    assert_eq!(
        refused(&[tensor("q", DType::Q4_0, &[32])], None),
        ErrorKind::UnsupportedDtype
    );
}

#[test]
fn sizes_that_fit_no_file_are_not_written() {
    assert_eq!(
        refused(&[tensor("t", DType::F4, &[3])], None),
        ErrorKind::PartialByte
    );
    assert_eq!(
        refused(&[tensor("t", DType::F64, &[1 << 62])], None),
        ErrorKind::InvalidShape
    );
    let half = 1 << 62;
    let two = [
        tensor("a", DType::U8, &[half]),
        tensor("b", DType::U8, &[half]),
    ];
    assert_eq!(refused(&two, None), ErrorKind::OffsetOverflow);
}

fn any_tensor() -> impl Strategy<Value = Tensor> {
    let opaque_and_plain: Vec<DType> = DType::ALL
        .iter()
        .copied()
        .filter(|d| d.block_elements() < 32)
        .collect();
    let name = prop_oneof!["[a-c]{1,2}(\\.[0-9]{1,2}){0,3}", "[^\\x00]{1,12}"];
    let dims = prop::collection::vec(0u64..5, 0..5);
    (name, prop::sample::select(opaque_and_plain), dims).prop_map(|(name, dtype, mut dims)| {
        if dtype.block_elements() > 1 {
            dims.push(dtype.block_elements());
        }
        tensor(&name, dtype, &dims)
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        tensors in prop::collection::vec(any_tensor(), 0..20),
        metadata in prop::option::of(prop::collection::btree_map("[^\\x00]{0,8}", "[^\\x00]{0,8}", 0..4)),
    ) {
        let mut names = BTreeSet::new();
        let tensors: Vec<Tensor> = tensors.into_iter().filter(|t| names.insert(t.0.clone())).collect();
        let (written, order) = build_header(&tensors, metadata.as_ref()).unwrap();
        let data: u64 = tensors.iter().map(|(_, d, s)| s.byte_len(*d).unwrap()).sum();
        let file_len = written.len() as u64 + data;
        let length = header_len(&written, file_len).unwrap();
        prop_assert_eq!(length + 8, written.len() as u64);
        let header = parse_header(&written[8..], file_len).unwrap();
        prop_assert_eq!(&header.metadata, &metadata);
        let read: Vec<_> = header.tensors.iter().map(|t| (&t.name, t.dtype, &t.shape)).collect();
        let expected: Vec<_> = order.iter().map(|&i| (&tensors[i].0, tensors[i].1, &tensors[i].2)).collect();
        prop_assert_eq!(read, expected);
        let mut shuffled = tensors.clone();
        shuffled.reverse();
        prop_assert_eq!(build_header(&shuffled, metadata.as_ref()).unwrap().0, written);
    }
}
