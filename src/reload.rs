//! Files that are read again while the service runs.
//!
//! They are read once a second, and what they hold is compared: times of change are too coarse, and a link that is turned to
//! another file, as Kubernetes does, has none of its own. What can't be used is told in the log once, and what was there before
//! stays. Knows nothing of what the files hold.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a file at most.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

type Parse<T> = dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync;

/// What is made of some files together, as they are now.
pub(crate) struct Reloaded<T> {
    /// For the log.
    what: &'static str,
    paths: Vec<PathBuf>,
    parse: Box<Parse<T>>,
    current: watch::Sender<Arc<T>>,
    seen: watch::Sender<Seen>,
}

/// What the files held when they were last looked at, by its hash; `None` when they could not be read.
type Seen = Option<[u8; 32]>;

impl<T> Reloaded<T> {
    /// Reads the files for the first time.
    pub(crate) fn open(
        what: &'static str,
        paths: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let contents = read(&paths)?;
        let first = parse(&contents).map_err(|problem| format!("{}: {problem}", shown(&paths)))?;
        Ok(Self {
            what,
            paths,
            parse: Box::new(parse),
            current: watch::Sender::new(Arc::new(first)),
            seen: watch::Sender::new(Some(fingerprint(&contents))),
        })
    }

    /// What counts now.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.borrow())
    }

    /// Reads the files again.
    fn look(&self) -> Look<T> {
        let contents = read(&self.paths);
        let seen = contents.as_deref().ok().map(fingerprint);
        if self.seen.send_replace(seen) == seen {
            return Look::Same;
        }
        let made = contents.and_then(|contents| {
            (self.parse)(&contents).map_err(|problem| format!("{}: {problem}", shown(&self.paths)))
        });
        match made {
            Ok(made) => Look::Changed(Arc::new(made)),
            Err(problem) => {
                self.refuse(&problem);
                Look::Unusable
            }
        }
    }

    fn take(&self, made: Arc<T>) {
        self.current.send_replace(made);
        tracing::info!(what = self.what, files = %shown(&self.paths), "read again");
    }

    fn refuse(&self, problem: &str) {
        tracing::error!(what = self.what, %problem, "can't be used: what was there before still counts");
    }
}

/// What a look at the files found.
enum Look<T> {
    /// What was there before.
    Same,
    /// Something else, which can be used.
    Changed(Arc<T>),
    /// Something else, which can't.
    Unusable,
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Reloaded({})", shown(&self.paths))
    }
}

/// Looks at the files every second until `shutdown`.
pub(crate) async fn watch<T>(reloaded: Option<&Reloaded<T>>, shutdown: &CancellationToken) {
    if let Some(reloaded) = reloaded {
        watch_checked(reloaded, shutdown, |_| std::future::ready(Ok(()))).await;
    }
}

/// As [`watch`], and takes what changed only when `check` lets it. What it refuses is told once, and checked again every second
/// until it is taken or the files change: it may be right later.
pub(crate) async fn watch_checked<T, F: Future<Output = Result<(), String>>>(
    reloaded: &Reloaded<T>,
    shutdown: &CancellationToken,
    check: impl Fn(Arc<T>) -> F,
) {
    let mut watch = Watch::new(reloaded);
    while !is_cancelled_after(INTERVAL, shutdown).await {
        watch.round(&check).await;
    }
}

/// One file's watch, between its rounds.
struct Watch<'a, T> {
    reloaded: &'a Reloaded<T>,
    /// What changed and is not taken yet.
    waiting: Option<Arc<T>>,
    /// Why it is not, as it was told.
    told: Option<String>,
}

impl<'a, T> Watch<'a, T> {
    fn new(reloaded: &'a Reloaded<T>) -> Self {
        Self {
            reloaded,
            waiting: None,
            told: None,
        }
    }

    async fn round<F: Future<Output = Result<(), String>>>(&mut self, check: &impl Fn(Arc<T>) -> F) {
        match self.reloaded.look() {
            Look::Same => {}
            Look::Changed(made) => {
                self.waiting = Some(made);
                self.told = None;
            }
            Look::Unusable => self.waiting = None,
        }
        let Some(made) = self.waiting.take() else {
            return;
        };
        match check(Arc::clone(&made)).await {
            Ok(()) => self.reloaded.take(made),
            Err(problem) => {
                if self.told.as_ref() != Some(&problem) {
                    self.reloaded.refuse(&problem);
                    self.told = Some(problem);
                }
                self.waiting = Some(made);
            }
        }
    }
}

async fn is_cancelled_after(pause: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => true,
        () = tokio::time::sleep(pause) => false,
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths.iter().map(|path| read_one(path)).collect()
}

fn read_one(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;

    let cannot = |error: std::io::Error| format!("can't read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut contents = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut contents)
        .map_err(cannot)?;
    if contents.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display()));
    }
    Ok(contents)
}

fn fingerprint(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for content in contents {
        hasher.update((content.len() as u64).to_be_bytes());
        hasher.update(content);
    }
    hasher.finalize().into()
}

fn shown(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(contents: &[Vec<u8>]) -> Result<u32, String> {
        let text = String::from_utf8_lossy(&contents[0]);
        text.trim().parse().map_err(|_| "it is no number".to_owned())
    }

    async fn round(watch: &mut Watch<'_, u32>, highest: u32) -> u32 {
        let check = |number: Arc<u32>| {
            let checked = if *number <= highest {
                Ok(())
            } else {
                Err("too high".to_owned())
            };
            std::future::ready(checked)
        };
        watch.round(&check).await;
        *watch.reloaded.current()
    }

    #[tokio::test]
    async fn what_is_broken_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        assert!(Reloaded::open("number", vec![path.clone()], number).is_err());
        std::fs::write(&path, "1").unwrap();
        let reloaded = Reloaded::open("number", vec![path.clone()], number).unwrap();
        let mut watch = Watch::new(&reloaded);
        std::fs::write(&path, "2").unwrap();
        assert_eq!(*reloaded.current(), 1, "not before it looks");
        assert_eq!(round(&mut watch, 9).await, 2);
        std::fs::write(&path, "two").unwrap();
        assert_eq!(round(&mut watch, 9).await, 2);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(round(&mut watch, 9).await, 2);
        std::fs::write(&path, "3").unwrap();
        assert_eq!(round(&mut watch, 9).await, 3);
    }

    #[tokio::test]
    async fn what_is_refused_is_taken_once_it_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let reloaded = Reloaded::open("number", vec![path.clone()], number).unwrap();
        let mut watch = Watch::new(&reloaded);
        std::fs::write(&path, "2").unwrap();
        assert_eq!(round(&mut watch, 1).await, 1);
        assert_eq!(round(&mut watch, 1).await, 1);
        assert_eq!(round(&mut watch, 2).await, 2, "the file is as it was");
        std::fs::write(&path, "3").unwrap();
        assert_eq!(round(&mut watch, 2).await, 2);
        std::fs::write(&path, "broken").unwrap();
        assert_eq!(round(&mut watch, 2).await, 2);
        assert_eq!(round(&mut watch, 3).await, 2, "what is gone again is never taken");
    }
}
