//! `README.md`: a file of a model, and its card: what hubs show of a model and search for.

use crate::error::{Result, warning};
use crate::io::Source;
use crate::pg::arguments::{maybe_text, text, uuid};
use crate::store::Store;
use modelstore_formats::model_card::{
    FrontMatter, MAX_FRONT_MATTER_BYTES, MAX_WORDS_BYTES, read, split, words,
};
use pgrx::JsonB;
use uuid::Uuid;

/// The file with the card, in the folder of the model itself.
pub const CARD_FILE: &str = "README.md";

/// What is read of it. Any file can have the name.
const MAX_READ_BYTES: u64 = (MAX_FRONT_MATTER_BYTES + 2 * MAX_WORDS_BYTES) as u64;

/// A card that has been read as far as that is possible.
#[derive(Default)]
pub struct Card {
    front_matter: Option<FrontMatter>,
    words: String,
    /// Why something was not read.
    problem: Option<String>,
}

impl Card {
    /// Reads a card. Whatever is wrong with it, the file is a file that can be kept.
    pub fn read(source: &mut dyn Source) -> Result<Card> {
        let is_cut = source.len() > MAX_READ_BYTES;
        let mut bytes = Vec::new();
        source.read_at(0, source.len().min(MAX_READ_BYTES) as usize, &mut bytes)?;
        let text = match str::from_utf8(&bytes) {
            Ok(text) => text,
            // The last character is cut.
            Err(e) if is_cut && e.error_len().is_none() => {
                str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default()
            }
            Err(e) => {
                return Ok(Card {
                    problem: Some(format!("file is not UTF-8: {e}")),
                    ..Card::default()
                });
            }
        };
        let (found, text) = split(text);
        let mut card = Card::default();
        match found.map(|(line, front_matter)| read(front_matter, line)) {
            Some(Ok(front_matter)) => card.front_matter = Some(front_matter),
            Some(Err(e)) => card.problem = Some(e.to_string()),
            None if is_cut && text.trim_start().starts_with("---") => {
                card.problem = Some(format!("more than {MAX_FRONT_MATTER_BYTES} bytes"));
            }
            None => {}
        }
        card.words = words(text);
        Ok(card)
    }

    /// Makes it the card of a model. Sets the license and the tags that it names; what it could not read, it says.
    pub fn set(&self, store: &Store, model: Uuid) -> Result<()> {
        if let Some(problem) = &self.problem {
            warning(&format!(
                "front matter of file \"{CARD_FILE}\" was not read: {problem}"
            ));
        }
        let found = self.front_matter.as_ref();
        store.execute(
            "UPDATE @store@.models SET card = $2, card_words = to_tsvector('pg_catalog.english', $3),
                 license = CASE WHEN $2 ? 'license' THEN $4 ELSE license END,
                 tags = CASE WHEN $2 ? 'tags' THEN $5 ELSE tags END
             WHERE model_id = $1",
            &[
                uuid(model),
                found.map(|found| JsonB(found.fields.clone())).into(),
                text(&self.words),
                maybe_text(found.and_then(|found| found.license.as_deref())),
                found.map(|found| found.tags.clone()).unwrap_or_default().into(),
            ],
        )?;
        Ok(())
    }
}

/// Takes away what the card of a model, which is deleted, has set.
pub fn clear(store: &Store, model: Uuid) -> Result<()> {
    store.execute(
        "UPDATE @store@.models SET card = NULL, card_words = NULL,
             license = CASE WHEN card ? 'license' THEN NULL ELSE license END,
             tags = CASE WHEN card ? 'tags' THEN '{}' ELSE tags END
         WHERE model_id = $1",
        &[uuid(model)],
    )?;
    Ok(())
}
