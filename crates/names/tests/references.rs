//! What each text means, and that a reference built from its parts is read back.
#![allow(missing_docs, clippy::unwrap_used)]

use modelstore_names::reference::parse_uuid;
use modelstore_names::{
    CheckpointReference, Error, ModelReference, RESERVED, Step, Which, nearest,
};
use proptest::prelude::*;
use uuid::Uuid;

fn named<'a>(name: &'a str, which: Which<'a>) -> ModelReference<'a> {
    ModelReference::Named { name, which }
}

#[test]
fn models() {
    let parse = ModelReference::parse;
    assert_eq!(parse("minilm"), Ok(named("minilm", Which::Newest)));
    assert_eq!(
        parse("org/mini lm:1.0"),
        Ok(named("org/mini lm", Which::Version("1.0")))
    );
    assert_eq!(
        parse("minilm@production"),
        Ok(named("minilm", Which::Alias("production")))
    );
    for wrong in [
        "", ":1", "m:", "m@", "@a", "m#1", "m:1:2", "m:1@a", "m@a:1", "#", ":",
    ] {
        assert_eq!(parse(wrong), Err(Error::Model(wrong.into())), "{wrong}");
    }
}

#[test]
fn checkpoints() {
    let parse = CheckpointReference::parse;
    let of = |model, step| Ok(CheckpointReference::Of { model, step });
    assert_eq!(parse("m#0"), of(named("m", Which::Newest), Step::Number(0)));
    assert_eq!(
        parse("m:2#9223372036854775807"),
        of(named("m", Which::Version("2")), Step::Number(i64::MAX))
    );
    assert_eq!(
        parse("m@a#latest"),
        of(named("m", Which::Alias("a")), Step::Latest)
    );
    assert_eq!(parse("m#best"), of(named("m", Which::Newest), Step::Best));
    let id = "0190163d-8694-739b-aea5-966c26f8ad90";
    let of_id = format!("{id}#3");
    assert_eq!(
        parse(&of_id),
        of(
            ModelReference::Id(Uuid::parse_str(id).unwrap()),
            Step::Number(3)
        )
    );
    for (wrong, error) in [
        ("m", Error::NoStep("m".into())),
        ("m:1", Error::NoStep("m:1".into())),
        ("", Error::Checkpoint("".into())),
        ("#1", Error::Checkpoint("#1".into())),
        ("m:#1", Error::Checkpoint("m:#1".into())),
        ("m#", Error::Step("".into())),
        ("m#-1", Error::Step("-1".into())),
        ("m#+1", Error::Step("+1".into())),
        ("m#1#2", Error::Step("1#2".into())),
        ("m#Latest", Error::Step("Latest".into())),
        (
            "m#9223372036854775808",
            Error::Step("9223372036854775808".into()),
        ),
    ] {
        assert_eq!(parse(wrong), Err(error), "{wrong}");
    }
}

/// The forms in PostgreSQL's documentation of type uuid, and what it refuses.
#[test]
fn uuids() {
    let id = Uuid::parse_str("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").unwrap();
    for form in [
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
    ] {
        assert_eq!(parse_uuid(form), Some(id), "{form}");
    }
    for wrong in [
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
        "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
        "a0eebc99--9c0b4ef8bb6d6bb9bd380a11",
        "a0eebc9-99c0b4ef8bb6d6bb9bd380a11",
        "g0eebc999c0b4ef8bb6d6bb9bd380a11",
        "",
    ] {
        assert_eq!(parse_uuid(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn parts_are_read_back(name in "[^:@#]{1,20}", part in "[^:@#]{1,20}", step in 0i64..) {
        prop_assume!(parse_uuid(&name).is_none());
        for (text, which) in [
            (name.clone(), Which::Newest),
            (format!("{name}:{part}"), Which::Version(&part)),
            (format!("{name}@{part}"), Which::Alias(&part)),
        ] {
            let model = named(&name, which);
            prop_assert_eq!(ModelReference::parse(&text), Ok(model));
            let checkpoint = format!("{text}#{step}");
            let step = Step::Number(step);
            prop_assert_eq!(CheckpointReference::parse(&checkpoint), Ok(CheckpointReference::Of { model, step }));
        }
    }

    #[test]
    fn any_text_has_one_meaning_or_an_error(text in ".{0,40}") {
        if let Ok(ModelReference::Named { name, which }) = ModelReference::parse(&text) {
            prop_assert!(!name.is_empty() && !name.contains(RESERVED));
            let again = match which {
                Which::Newest => name.to_owned(),
                Which::Version(version) => format!("{name}:{version}"),
                Which::Alias(alias) => format!("{name}@{alias}"),
            };
            prop_assert_eq!(again, text.clone());
        }
        let _ = CheckpointReference::parse(&text);
    }

    #[test]
    fn a_name_is_nearest_to_itself(name in "[a-z/-]{3,20}", others in prop::collection::vec("[a-z/-]{3,20}", 0..5)) {
        let candidates = others.iter().map(String::as_str).chain([name.as_str()]);
        prop_assert_eq!(nearest(&name, candidates, 1), [name.as_str()]);
    }
}

#[test]
fn misspelt_names() {
    let models = ["all-MiniLM-L6-v2", "bert-base-uncased", "gpt2", "minilm"];
    let find = |wanted| nearest(wanted, models, 3);
    assert_eq!(find("minlm"), ["minilm"]);
    assert_eq!(find("mniilm"), ["minilm"]);
    assert_eq!(find("MINILM"), ["minilm", "all-MiniLM-L6-v2"]);
    assert_eq!(find("gtp2"), ["gpt2"]);
    assert_eq!(find("bert-base-cased"), ["bert-base-uncased"]);
    assert_eq!(find("llama"), [""; 0]);
    assert_eq!(nearest("x", ["y", "z"], 1), ["y"]);
    assert_eq!(nearest(&"m".repeat(300), ["minilm"], 3), [""; 0]);
}
