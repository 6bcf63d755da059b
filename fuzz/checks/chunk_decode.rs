//! Any bytes are a chunk or an error; a part of a chunk decodes as the whole does; any bytes survive encoding.

use modelstore_chunk::{ChunkHash, ChunkHead, Decoder, Encoder, block_index_len, plan_range};
use modelstore_tensor::DType;

/// Panics where a promise does not hold.
pub fn check(input: &[u8]) {
    let mut decoder = Decoder::new();
    decode(&mut decoder, input);
    encode(&mut decoder, input);
}

fn decode(decoder: &mut Decoder, input: &[u8]) {
    let head = match ChunkHead::parse(input) {
        Ok(head) => head,
        // Messages are made of hostile input as well.
        Err(error) => return drop((error.to_string(), error.detail())),
    };
    let raw_len = head.raw_len as usize;
    let mut whole = Vec::new();
    // With a base of zeros a delta decodes to its own bytes, as a part of it does.
    let base = vec![0; raw_len];
    let base = head.base.is_some().then_some(&base[..]);
    if base.is_some() {
        assert!(decoder.decode(input, None, &mut whole).is_err());
    }
    if decoder.decode(input, base, &mut whole).is_err() {
        assert!(whole.is_empty());
        return;
    }
    assert_eq!(whole.len(), raw_len);
    let prefix = &input[..block_index_len(&head)];
    let third = raw_len / 3;
    for range in [
        0..raw_len,
        third..raw_len - third,
        third..third + (raw_len > 0) as usize,
    ] {
        let plan =
            plan_range(prefix, range.start as u32..range.end as u32).expect("the whole was read");
        let mut part = Vec::new();
        decoder
            .decode_range(&plan, &input[plan.fetch()], &mut part)
            .expect("the whole was decoded");
        assert!(part == whole[range]);
    }
}

fn encode(decoder: &mut Decoder, input: &[u8]) {
    let mut encoder = Encoder::new();
    let (mut chunk, mut raw) = (Vec::new(), Vec::new());
    for dtype in [DType::F32, DType::BF16, DType::U8, DType::I64] {
        encoder
            .encode(dtype, input, &mut chunk)
            .expect("small enough");
        assert!(chunk.len() <= input.len() + 64);
        decoder.decode(&chunk, None, &mut raw).expect("was encoded");
        assert!(raw == input);
    }
    if input.is_empty() {
        return;
    }
    let mut base = input.to_vec();
    base.rotate_left(input.len() / 5);
    let hash = ChunkHash::of(&base);
    encoder
        .encode_delta(DType::BF16, input, &base, &hash, usize::MAX, &mut chunk)
        .expect("small enough");
    decoder
        .decode(&chunk, Some(&base), &mut raw)
        .expect("was encoded");
    assert!(raw == input);
}
