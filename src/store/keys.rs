//! Where the encryption keys come from, and what they are now.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::sealing::SealingKeys;
use super::{Store, rotation};
use crate::reload::{self, Reloaded};

/// The encryption keys: fixed, or of a file that is read again while the service runs. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Fixed(SealingKeys),
    File(Arc<Reloaded<SealingKeys>>),
}

impl KeyRing {
    /// Keys that stay as they are.
    #[must_use]
    pub fn fixed(keys: SealingKeys) -> Self {
        Self {
            source: Source::Fixed(keys),
        }
    }

    /// The keys of a file, which are read as [`SealingKeys::parse`] does. The message of an error never holds a key.
    pub fn file(path: &Path) -> Result<Self, String> {
        let reloaded = Reloaded::open("encryption keys", vec![PathBuf::from(path)], |contents| {
            let text = contents.first().map(Vec::as_slice).unwrap_or_default();
            SealingKeys::parse(std::str::from_utf8(text).map_err(|_| "it is not text")?)
        })?;
        Ok(Self {
            source: Source::File(Arc::new(reloaded)),
        })
    }

    /// The keys as they are now.
    #[must_use]
    pub fn current(&self) -> SealingKeys {
        match &self.source {
            Source::Fixed(keys) => keys.clone(),
            Source::File(reloaded) => (*reloaded.current()).clone(),
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(formatter)
    }
}

impl Store {
    /// Reads the file of the keys again as it changes, until `shutdown`. Keys that lack one that something is sealed with, or
    /// have another one by its name, are not taken.
    pub async fn watch_keys(&self, shutdown: CancellationToken) {
        let Source::File(reloaded) = &self.inner.keys.source else {
            return;
        };
        let check = |keys: Arc<SealingKeys>| {
            let store = self.clone();
            async move {
                store.check_keys(&keys).await?;
                tracing::info!(writes = keys.writing_id(), ?keys, "the encryption keys are others");
                Ok(())
            }
        };
        reload::watch_checked(reloaded, &shutdown, check).await;
    }

    async fn check_keys(&self, keys: &SealingKeys) -> Result<(), String> {
        if let Some(id) = keys.contradiction(&self.inner.keys.current()) {
            return Err(format!("the key {id} is another than it was: give a new key a new id"));
        }
        let in_use = rotation::keys_in_use(&self.reader()).await;
        let in_use = in_use.map_err(|error| format!("what they must open can't be looked up: {error}"))?;
        lacking(keys, in_use).map_or(Ok(()), Err)
    }
}

/// What is wrong with keys, if one that is in use is not among them.
pub(super) fn lacking(keys: &SealingKeys, in_use: Vec<rotation::KeyInUse>) -> Option<String> {
    let lacking = in_use.into_iter().find(|used| !keys.has(&used.key_id))?;
    Some(format!(
        "the key {} is not among them, and {} has rows that are sealed with it: keep it until `affiliate-billing rotate-keys` \
         says that it may be dropped",
        lacking.key_id, lacking.table
    ))
}
