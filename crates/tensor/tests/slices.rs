//! Slices against a slow obvious reference: an element is taken when each of its indices is.

#![allow(clippy::expect_used)]

use modelstore_tensor::{DType, Error, Shape, Tensor, slice};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Item {
    Index(i64),
    Range(Option<i64>, Option<i64>, Option<i64>),
}

impl Item {
    fn text(&self) -> String {
        let number = |n: &Option<i64>| n.map_or(String::new(), |n| n.to_string());
        match self {
            Item::Index(i) => i.to_string(),
            Item::Range(a, b, None) => format!("{}:{}", number(a), number(b)),
            Item::Range(a, b, c) => format!("{}:{}:{}", number(a), number(b), number(c)),
        }
    }

    fn takes(&self, index: i64, size: i64) -> bool {
        let from_end = |i: i64| if i < 0 { i + size } else { i };
        match *self {
            Item::Index(i) => from_end(i) == index,
            Item::Range(start, stop, step) => {
                let start = from_end(start.unwrap_or(0)).max(0);
                index >= start
                    && index < from_end(stop.unwrap_or(size))
                    && (index - start) % step.unwrap_or(1) == 0
            }
        }
    }
}

fn item() -> impl Strategy<Value = Item> {
    let bound = || prop::option::of(-7i64..7);
    prop_oneof![
        1 => (-4i64..4).prop_map(Item::Index),
        3 => (bound(), bound(), prop::option::of(1i64..4)).prop_map(|(a, b, c)| Item::Range(a, b, c)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agree_with_the_reference(dims in prop::collection::vec(0u64..5, 0..5), items in prop::collection::vec(item(), 0..5)) {
        let text: Vec<String> = items.iter().map(Item::text).collect();
        let text = if text.is_empty() { "...".into() } else { text.join(",") };
        let shape = Shape::new(&dims).expect("small");
        let resolved = slice::parse(&text).expect("valid").resolve(&shape);
        let fits = items.len() <= dims.len()
            && items.iter().zip(&dims).all(|(item, &n)| {
                !matches!(item, Item::Index(_)) || (0..n as i64).any(|i| item.takes(i, n as i64))
            });
        prop_assert_eq!(resolved.is_ok(), fits, "{}", text);
        let Ok(selection) = resolved else { return Ok(()) };
        let taken = |mut element: u64| {
            dims.iter().enumerate().rev().all(|(axis, &n)| {
                let index = (element % n) as i64;
                element /= n;
                items.get(axis).is_none_or(|item| item.takes(index, n as i64))
            })
        };
        let expected: Vec<u64> = (0..shape.elements()).filter(|&e| taken(e)).collect();
        let runs: Vec<(u64, u64)> = selection.runs().collect();
        let elements: Vec<u64> = runs.iter().flat_map(|&(first, count)| first..first + count).collect();
        prop_assert_eq!(&elements, &expected, "{}", text);
        prop_assert_eq!(selection.shape.elements(), expected.len() as u64);
        prop_assert!(runs.iter().all(|&(_, count)| count > 0));
        prop_assert_eq!(selection.bounds(), expected.first().zip(expected.last()).map(|(a, b)| (*a, b + 1)));
    }
}

fn gather(dtype: DType, dims: &[u64], text: &str) -> Result<Vec<u8>, Error> {
    let shape = Shape::new(dims)?;
    let bytes = shape.byte_len(dtype)?;
    let tensor = Tensor::new(dtype, shape, (0..bytes).map(|i| i as u8).collect())?;
    let selection = slice::parse(text)?.resolve(tensor.shape())?;
    let mut out = vec![99];
    slice::gather(&selection, &tensor.view(), &mut out).inspect_err(|_| assert_eq!(out, [99]))?;
    Ok(out.split_off(1))
}

#[test]
fn groups_are_taken_whole_or_not_at_all() {
    let partial = |dtype| Err(Error::SlicePartialBlock { dtype });
    assert_eq!(gather(DType::F4, &[3, 4], "1:"), Ok(vec![2, 3, 4, 5]));
    assert_eq!(gather(DType::F4, &[3, 4], ":, 2:"), Ok(vec![1, 3, 5]));
    assert_eq!(gather(DType::F4, &[3, 4], ":, 1:3"), partial(DType::F4));
    assert_eq!(gather(DType::F4, &[3, 4], "0, 0"), partial(DType::F4));
    assert_eq!(gather(DType::F4, &[3, 4], "0:0"), Ok(vec![]));
    assert_eq!(
        gather(DType::Q8_0, &[3, 64], "1, 32:").map(|d| (d.len(), d[0])),
        Ok((34, 102))
    );
    assert_eq!(
        gather(DType::Q8_0, &[3, 64], "1, :16"),
        partial(DType::Q8_0)
    );
    assert_eq!(gather(DType::C64, &[2], "1"), Ok((8..16).collect()));
}

#[test]
fn a_selection_is_for_one_shape() {
    let shape = |dims: &[u64]| Shape::new(dims).expect("small");
    let selection = slice::parse("0")
        .and_then(|s| s.resolve(&shape(&[2, 3])))
        .expect("valid");
    let other = Tensor::new(DType::U8, shape(&[3, 2]), vec![0; 6]).expect("fits");
    assert_eq!(
        slice::gather(&selection, &other.view(), &mut Vec::new()),
        Err(Error::SelectionShape {
            expected: "(2,3)".into(),
            actual: "(3,2)".into()
        })
    );
}
