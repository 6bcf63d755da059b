//! Adds a file to a model. Its content tells what it is: weights, an index of shards, or a file that is kept as it is.

use crate::error::{Code, Failure, Result};
use crate::formats::folder::card::{CARD_FILE, Card};
use crate::formats::folder::config::{self, CONFIG_FILE, Config};
use crate::formats::folder::other_form;
use crate::formats::safetensors::files::{Format, check_place};
use crate::formats::safetensors::import::{FileIn, Imported, StoredBody, import_files};
use crate::formats::safetensors::shards::{self, MAX_INDEX_BYTES, record_index};
use crate::io::Source;
use crate::model::architecture;
use crate::names;
use crate::pg::arguments::uuid;
use crate::store::Store;
use modelstore_chunk::Memory;
use modelstore_formats::safetensors::{ShardIndex, is_index, is_index_name, parse_index};
use uuid::Uuid;

/// A file whose format has been recognised.
pub struct Sniffed<'a> {
    name: &'a str,
    /// What it is.
    pub content: Content<'a>,
    /// The config, if it is `config.json`.
    pub config: Option<Config>,
    /// The card, if it is `README.md`.
    pub card: Option<Card>,
}

/// What a file is.
pub enum Content<'a> {
    /// The index of shards: its bytes, and what they say.
    Index(Vec<u8>, ShardIndex),
    /// Weights, or a file that is kept as it is.
    File(FileIn<'a>),
}

impl<'a> Sniffed<'a> {
    /// Recognises a source. A file named `*.safetensors` or `*.safetensors.index.json` that is something else is an error.
    pub fn open(name: &'a str, source: &'a mut dyn Source) -> Result<Sniffed<'a>> {
        names::check_file(name)?;
        let config = match name {
            CONFIG_FILE => Some(Config::read(source)?),
            _ => None,
        };
        let card = match name {
            CARD_FILE => Some(Card::read(source)?),
            _ => None,
        };
        let content = match index(name, source)? {
            Some((bytes, index)) => Content::Index(bytes, index),
            None => Content::File(FileIn::open_any(name, source)?),
        };
        let is_text = matches!(&content, Content::File(file) if file.format == Format::File);
        Ok(Sniffed {
            name,
            content,
            config,
            card: card.filter(|_| is_text),
        })
    }

    /// A safetensors file whose chunks are stored.
    pub fn stored(name: &'a str, body: StoredBody) -> Result<Sniffed<'a>> {
        names::check_file(name)?;
        // Whatever it is, it is neither JSON nor an index.
        if name == CONFIG_FILE {
            return Err(config::invalid("It is a safetensors file."));
        }
        if is_index(name, &body.head) {
            parse_index(&body.head)?;
        }
        Ok(Sniffed {
            name,
            content: Content::File(FileIn::stored(name, body)),
            config: None,
            card: None,
        })
    }
}

fn index(name: &str, source: &mut dyn Source) -> Result<Option<(Vec<u8>, ShardIndex)>> {
    // A larger one is refused only if its name promises an index.
    let may_be = is_index_name(name) && (source.len() <= MAX_INDEX_BYTES || is_index(name, b""));
    if !may_be {
        return Ok(None);
    }
    let bytes = shards::read_text(source)?;
    if !is_index(name, &bytes) {
        return Ok(None);
    }
    let index = parse_index(&bytes)?;
    Ok(Some((bytes, index)))
}

/// Adds a file to a model that `shards::lock` has taken.
pub fn add(store: &Store, model: Uuid, file: Sniffed<'_>) -> Result<Imported> {
    let name = file.name;
    check_place(store, model, name)?;
    let content = match file.content {
        Content::Index(bytes, index) if other_form::is_index(store, model, name, &index)? => {
            let mut source = Memory(&bytes);
            let file = FileIn::whole(name, &mut source)?;
            return Ok(import_files(store, model, vec![file])?.0);
        }
        Content::File(mut file) if file.format == Format::Safetensors => {
            if let Some(of) = other_form::of_model(store, model, name, &file.header)? {
                file.keep_whole()?;
                other_form::tell(name, &of);
            }
            Content::File(file)
        }
        content => content,
    };
    let is_of_weights = match &content {
        Content::Index(..) => true,
        Content::File(file) => file.format == Format::Safetensors,
    };
    if is_of_weights {
        require_no_draft(store, model)?;
    }
    let (has_weights, mut imported) = match content {
        Content::Index(bytes, index) => {
            record_index(store, model, name, &bytes, &index)?;
            let nothing = Imported {
                model,
                ..Imported::default()
            };
            (true, nothing)
        }
        Content::File(file) => {
            let has_weights = file.format == Format::Safetensors;
            (has_weights, import_files(store, model, vec![file])?.0)
        }
    };
    let has_config = match file.config {
        Some(config) => config.set(store, model)?,
        None => false,
    };
    if let Some(card) = file.card {
        card.set(store, model)?;
    }
    if has_weights || has_config && architecture::has_weights(store, model)? {
        architecture::describe(store, model)?;
    }
    if has_weights {
        imported.parameters = architecture::parameters(store, model, name)?;
        store.execute(
            "UPDATE @store@.models m SET status = 'ready'
             WHERE model_id = $1 AND status = 'registered'
               AND EXISTS (SELECT FROM @store@.model_weights w WHERE w.model_id = m.model_id)",
            &[uuid(model)],
        )?;
    }
    Ok(imported)
}

/// The tensors of a draft get their file from `finish_model`: with a file of others, the model would be finished without
/// them.
fn require_no_draft(store: &Store, model: Uuid) -> Result<()> {
    let has_tensors = store.row(
        "SELECT EXISTS (SELECT FROM @store@.model_weights WHERE model_id = $1 AND file_name IS NULL)",
        &[uuid(model)],
        |row| row.get::<bool>(1),
    )?;
    if has_tensors != Some(true) {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("model {model} is a draft that has tensors"),
    )
    .detail("Its weights come by put_tensor, or from files, but not from both.")
    .hint(format!("SELECT modelstore.finish_model('{model}');")))
}
