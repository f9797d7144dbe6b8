//! Pages of lists (AIP-158): sizes, and opaque keyset tokens that are signed and bound to their list and filter.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Billing, canonical};
use crate::domain::error::{Error, Reason, Result};
use crate::store::hashing::HashKeys;

/// Rows of a page when the caller names no number.
pub const DEFAULT_PAGE_SIZE: u32 = 50;
/// Rows of a page at most; more is clamped.
pub const MAX_PAGE_SIZE: u32 = 1000;
const SIGNATURE_BYTES: usize = 16;
const PURPOSE: &str = "page_token";

/// What a caller asks for: how many rows, and after which token.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// Rows at most, already clamped.
    pub size: u32,
    /// Token of the page before; empty for the first page.
    pub token: String,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Token of the next page; empty on the last one.
    pub next_token: String,
}

#[derive(Serialize, Deserialize)]
struct Token<K> {
    /// What the list was asked for.
    filter: Vec<u8>,
    /// Key of the last row of the page before.
    after: K,
}

impl PageRequest {
    /// Checks a page size from outside: 0 is the default, more than [`MAX_PAGE_SIZE`] is clamped.
    pub fn parse(size: i32, token: String) -> std::result::Result<Self, &'static str> {
        let size = u32::try_from(size).map_err(|_| "must not be negative")?;
        let size = if size == 0 {
            DEFAULT_PAGE_SIZE
        } else {
            size.min(MAX_PAGE_SIZE)
        };
        Ok(Self { size, token })
    }

    /// One row more than the page has, to see whether there is a next one.
    pub(crate) fn limit(&self) -> u64 {
        u64::from(self.size) + 1
    }
}

impl<T> Page<T> {
    /// The same page of something else.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(convert).collect(),
            next_token: self.next_token,
        }
    }
}

impl Billing {
    /// The key after which a page begins; `None` for the first one.
    pub(crate) fn read_token<K: DeserializeOwned>(
        &self,
        list: &str,
        filter: &impl Serialize,
        page: &PageRequest,
    ) -> Result<Option<K>> {
        read_token(self.store.hash_keys(), list, filter, page)
    }

    /// Cuts the one row too many off, and makes the token of the next page from the last row that stays.
    pub(crate) fn page_of<T, K: Serialize>(
        &self,
        list: &str,
        filter: &impl Serialize,
        page: &PageRequest,
        mut items: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>> {
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let more = items.len() > size;
        items.truncate(size);
        let next_token = match items.last() {
            Some(last) if more => self.token_after(list, filter, key(last))?,
            _ => String::new(),
        };
        Ok(Page { items, next_token })
    }

    /// The token of the page that begins after a key.
    pub(crate) fn token_after<K: Serialize>(&self, list: &str, filter: &impl Serialize, after: K) -> Result<String> {
        token_after(self.store.hash_keys(), list, filter, after)
    }
}

/// What [`Billing::read_token`] does, with these keys.
pub(crate) fn read_token<K: DeserializeOwned>(
    keys: &HashKeys,
    list: &str,
    filter: &impl Serialize,
    page: &PageRequest,
) -> Result<Option<K>> {
    if page.token.is_empty() {
        return Ok(None);
    }
    let bytes = BASE64.decode(&page.token).map_err(|_| invalid())?;
    let (signature, content) = bytes.split_first_chunk::<SIGNATURE_BYTES>().ok_or_else(invalid)?;
    let token: Token<K> = serde_json::from_slice(content).map_err(|_| invalid())?;
    let signed = keys.signed_by_any(PURPOSE, content, signature)?;
    if !signed || token.filter != fingerprint(list, filter)? {
        return Err(invalid());
    }
    Ok(Some(token.after))
}

/// What [`Billing::token_after`] does, with these keys.
pub(crate) fn token_after<K: Serialize>(
    keys: &HashKeys,
    list: &str,
    filter: &impl Serialize,
    after: K,
) -> Result<String> {
    let content = canonical(&Token {
        filter: fingerprint(list, filter)?,
        after,
    })?;
    let mut bytes = keys.keyed_hash(PURPOSE, &content)?.bytes;
    bytes.truncate(SIGNATURE_BYTES);
    bytes.extend(content);
    Ok(BASE64.encode(bytes))
}

/// A short hash of which list with which filter; the signature protects it.
fn fingerprint(list: &str, filter: &impl Serialize) -> Result<Vec<u8>> {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    hash.update(list.as_bytes());
    hash.update([0]);
    hash.update(canonical(filter)?);
    Ok(hash.finalize().iter().take(8).copied().collect())
}

fn invalid() -> Error {
    Error::refused_field(
        Reason::InvalidPageToken,
        "page_token",
        "this page token is damaged, or of another list or filter: begin again without one",
    )
}
