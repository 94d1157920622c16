//! Hashes of files of gigabytes, computed while a model is opened and loaded.

use std::sync::{Arc, LazyLock};
use std::thread;

use crate::EngineError;

type Found = Result<String, EngineError>;

/// A SHA-256 of files, in hexadecimal. A thread of its own computes it; whoever needs it waits. Clones are the same one.
#[derive(Clone)]
pub struct FileHash(Arc<LazyLock<Found, Compute>>);

type Compute = Box<dyn FnOnce() -> Found + Send>;

impl FileHash {
    /// Begins to compute one. What nobody waits for ends with the process.
    pub(super) fn begin(compute: impl FnOnce() -> Found + Send + 'static) -> Self {
        let compute: Compute = Box::new(compute);
        let hash = Self(Arc::new(LazyLock::new(compute)));
        let own = hash.clone();
        // Where no thread can be started, whoever waits computes it.
        let _ = thread::Builder::new().name("sha256".to_owned()).spawn(move || {
            LazyLock::force(&own.0);
        });
        hash
    }

    /// One that is known already.
    pub fn known(sha256: impl Into<String>) -> Self {
        let found = Ok(sha256.into());
        let compute: Compute = Box::new(|| found);
        Self(Arc::new(LazyLock::new(compute)))
    }

    /// Waits for it; an error is that of a file that could not be read.
    pub fn wait(&self) -> Result<&str, EngineError> {
        LazyLock::force(&self.0).as_deref().map_err(EngineError::repeated)
    }
}

impl std::fmt::Debug for FileHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileHash")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn it_is_computed_beside_and_once_and_each_who_waits_gets_it() {
        let (go, told) = channel::<()>();
        let mut begun = 0;
        let hash = FileHash::begin(move || {
            begun += 1;
            told.recv().map_err(|_| EngineError::invalid("nobody told", "report this"))?;
            Ok(format!("hash {begun}"))
        });
        // Nobody who began it waits.
        go.send(()).unwrap();
        let waiting: Vec<_> =
            (0..4).map(|_| hash.clone()).map(|hash| thread::spawn(move || hash.wait().unwrap().to_owned())).collect();
        assert!(waiting.into_iter().all(|one| one.join().unwrap() == "hash 1"));
        assert_eq!(FileHash::known("ab").wait().unwrap(), "ab");
    }

    #[test]
    fn an_error_is_told_to_each_who_waits() {
        let hash =
            FileHash::begin(|| Err(EngineError::invalid("b has gone from m", "leave the folder alone during a run")));
        for _ in 0..2 {
            assert_eq!(
                hash.wait().unwrap_err().to_string(),
                "b has gone from m\nhint: leave the folder alone during a run"
            );
        }
    }
}
