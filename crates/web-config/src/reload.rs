//! Reads configuration files again when they change, and keeps the value that is in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::error::ConfigError;
use crate::files::{ConfigFiles, FilesDigest};
use crate::rules::AccessRules;
use crate::web_config::WebConfig;

/// A source of configuration: reads files into a draft, and turns the draft into a value that can be used.
///
/// The two steps exist because the first one runs at every look at the files, and the second one only after a change.
/// [`WebConfigFile`] is the source for one web configuration file. A server with further files implements its own.
///
/// ```
/// use std::path::PathBuf;
/// use exporter_web_config::{BearerToken, ConfigError, ConfigFiles, ConfigSource, Reloading};
///
/// #[derive(Debug)]
/// struct TokenFile(PathBuf);
///
/// impl ConfigSource for TokenFile {
///     type Draft = Vec<u8>;
///     type Value = BearerToken;
///
///     fn read(&self, files: &mut ConfigFiles) -> Result<Vec<u8>, ConfigError> {
///         let cause = |error| ConfigError::new("--token-file", format!("cannot be read: {error}"));
///         files.read(&self.0).map_err(cause)
///     }
///
///     fn build(&self, draft: Vec<u8>, _: Option<&BearerToken>) -> Result<BearerToken, ConfigError> {
///         BearerToken::parse(&draft).map_err(|reason| ConfigError::new("--token-file", reason))
///     }
/// }
///
/// let missing = Reloading::open(TokenFile("/no/such/file".into()));
/// assert!(missing.unwrap_err().to_string().starts_with("--token-file cannot be read"));
/// ```
pub trait ConfigSource {
    /// The contents of the files.
    type Draft;

    /// The value that is used.
    type Value;

    /// Reads all files through `files`, and parses them.
    fn read(&self, files: &mut ConfigFiles) -> Result<Self::Draft, ConfigError>;

    /// Builds the value. `previous` is the value that it replaces; an error keeps that one.
    fn build(
        &self,
        draft: Self::Draft,
        previous: Option<&Self::Value>,
    ) -> Result<Self::Value, ConfigError>;
}

/// One web configuration file as a [`ConfigSource`] of [`AccessRules`].
///
/// After the start, it rejects changes that would need a restart: see [`AccessRules::check_replaces`].
///
/// ```
/// use exporter_web_config::{Reloading, WebConfigFile};
///
/// let missing = Reloading::open(WebConfigFile::new("/no/such/web.yml"));
/// let error = missing.unwrap_err().to_string();
/// assert!(error.starts_with("/no/such/web.yml cannot be read"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfigFile(PathBuf);

impl WebConfigFile {
    /// The file at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl ConfigSource for WebConfigFile {
    type Draft = WebConfig;
    type Value = AccessRules;

    fn read(&self, files: &mut ConfigFiles) -> Result<WebConfig, ConfigError> {
        WebConfig::read(&self.0, files)
    }

    fn build(
        &self,
        draft: WebConfig,
        previous: Option<&AccessRules>,
    ) -> Result<AccessRules, ConfigError> {
        let rules = AccessRules::new(draft, None, previous)?;
        if let Some(previous) = previous {
            rules.check_replaces(previous).map_err(|change| {
                let reason = format!("{change}, which needs a restart");
                ConfigError::new(self.0.display().to_string(), reason)
            })?;
        }
        Ok(rules)
    }
}

/// A value from configuration files, which is replaced when the files change.
///
/// Nothing happens by itself: the server calls [`reload`](Self::reload), for example each second, or at a signal.
///
/// ```
/// use exporter_web_config::{Reloading, WebConfigFile};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("web.yml");
/// # std::fs::write(&path, "")?;
///
/// let web = Reloading::open(WebConfigFile::new(&path))?;
/// assert!(web.current().rate_limit().is_none());
/// assert_eq!(web.reload(false)?, false);
///
/// std::fs::write(&path, "rate_limit: { interval: 1s, burst: 5 }")?;
/// assert_eq!(web.reload(false)?, true);
/// assert!(web.current().rate_limit().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reloading<S: ConfigSource> {
    source: S,
    current: RwLock<Arc<S::Value>>,
    digest: Mutex<FilesDigest>,
}

impl<S: ConfigSource> Reloading<S> {
    /// Reads the files for the first time. Blocks.
    pub fn open(source: S) -> Result<Self, ConfigError> {
        let mut files = ConfigFiles::new();
        let draft = source.read(&mut files)?;
        let value = source.build(draft, None)?;
        Ok(Self {
            source,
            current: RwLock::new(Arc::new(value)),
            digest: Mutex::new(files.digest()),
        })
    }

    /// The value in use. A connection or request takes it once, and keeps it to its end.
    pub fn current(&self) -> Arc<S::Value> {
        Arc::clone(&self.current.read())
    }

    /// Where the files are.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Reads the files again. If they changed, or if `force` is set, it builds a new value and replaces the current one.
    ///
    /// Returns whether the value was replaced. Blocks: on Tokio, call it in `spawn_blocking`. Calls at the same time run one
    /// after another.
    ///
    /// # Errors
    ///
    /// The changed files cannot be used. The current value stays in use, and the error is returned once for each change.
    pub fn reload(&self, force: bool) -> Result<bool, ConfigError> {
        let mut known = self.digest.lock();
        let mut files = ConfigFiles::new();
        let draft = self.source.read(&mut files);
        let digest = files.digest();
        if *known == digest && !force {
            return Ok(false);
        }
        *known = digest;
        let value = self.source.build(draft?, Some(&self.current()))?;
        *self.current.write() = Arc::new(value);
        Ok(true)
    }
}
