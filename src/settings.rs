//! The settings of the extension. Each is read through one function that returns the right Rust type.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CString;

static STORE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"store"));
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(2);
static CHECKPOINT_CHECKS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"finite,shape,parameters"));
static TRUST_STORE_OWNER: GucSetting<bool> = GucSetting::<bool>::new(false);
static NOTIFY: GucSetting<bool> = GucSetting::<bool>::new(true);
static MASK_BUFFERS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static CHUNK_KILOBYTES: GucSetting<i32> = GucSetting::<i32>::new(1024);

/// Defines every setting and reserves the prefix.
pub fn define() {
    GucRegistry::define_string_guc(
        c"modelstore.store",
        c"Schema of the store that functions act on.",
        c"modelstore.create_store(name) creates one. Functions quote the name and find their tables in it whatever search_path says. Default: store.",
        &STORE,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"modelstore.threads",
        c"Worker threads that hash, encode and decode chunks for one session.",
        c"Workers never touch the database; the session's own process reads and writes. Raise it where imports or exports wait for the processor, lower it where many sessions work at once. Default: 2.",
        &THREADS,
        1,
        64,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"modelstore.chunk_size",
        c"Raw size of the chunks that new tensors are cut into.",
        c"Larger chunks mean fewer rows, smaller ones finer deduplication. Tensors already stored keep their chunks. Default: 1MB.",
        &CHUNK_KILOBYTES,
        256,
        4096,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_string_guc(
        c"modelstore.checkpoint_checks",
        c"Checks that a checkpoint must pass before it is stored.",
        c"A list of finite (no NaN, no infinity), shape (names, shapes and dtypes as in the checkpoint before or the model) and parameters (as many as the model's config says); empty for none. create_checkpoint's checks argument overrides it. Default: finite,shape,parameters.",
        &CHECKPOINT_CHECKS,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"modelstore.trust_store_owner",
        c"Whether code of the owner of a store may run as the current role.",
        c"Triggers, rules, policies, defaults and constraints of a store's tables run as whoever uses them. Unless this is on, a store of another role is used only if they call nothing but a few functions of PostgreSQL and of pg_modelstore. Default: off.",
        &TRUST_STORE_OWNER,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"modelstore.mask_buffers",
        c"Names of tensors that may hold -inf in a checkpoint.",
        c"A list of last parts of names, such as future_bias for blocks.0.attn.future_bias. Names that end with mask, and masked_bias, need no entry. NaN and +inf are refused there too. Default: empty.",
        &MASK_BUFFERS,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"modelstore.notify",
        c"Whether a new checkpoint notifies the channel modelstore_checkpoint.",
        c"A transaction that has notified cannot be prepared: turn it off for PREPARE TRANSACTION. Default: on.",
        &NOTIFY,
        GucContext::Userset,
        GucFlags::default(),
    );
    reserve_prefix();
}

#[allow(unsafe_code)]
fn reserve_prefix() {
    // SAFETY: called from _PG_init on the main thread with a constant C string.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"modelstore".as_ptr()) }
}

/// Returns `modelstore.store`: the schema of the current store, not quoted.
pub fn store() -> String {
    STORE
        .get()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Returns `modelstore.trust_store_owner`.
pub fn trust_store_owner() -> bool {
    TRUST_STORE_OWNER.get()
}

/// Returns the items of `modelstore.checkpoint_checks`.
pub fn checkpoint_checks() -> Vec<String> {
    items(&CHECKPOINT_CHECKS)
}

/// Returns the items of `modelstore.mask_buffers`.
pub fn mask_buffers() -> Vec<String> {
    items(&MASK_BUFFERS)
}

fn items(setting: &GucSetting<Option<CString>>) -> Vec<String> {
    let list = setting.get().map(|s| s.to_string_lossy().into_owned());
    list.unwrap_or_default()
        .split(',')
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// Returns `modelstore.notify`.
pub fn notify() -> bool {
    NOTIFY.get()
}

/// Returns `modelstore.threads`.
pub fn threads() -> usize {
    usize::try_from(THREADS.get()).unwrap_or(1).max(1)
}

/// Returns `modelstore.chunk_size` in bytes.
pub fn chunk_bytes() -> u64 {
    u64::try_from(CHUNK_KILOBYTES.get()).unwrap_or(1024) * 1024
}
