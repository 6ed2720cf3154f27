use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// The program itself ([`crate::Loader::set`]), by the reason it gave.
    Program(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) | Self::Program(name) => f.write_str(name),
        }
    }
}

/// One mistake in the configuration. Its text names the key and never repeats a value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, dotted from the root; empty when a whole file is unreadable.
    pub path: String,
    /// Who set the key; `None` when the default stands.
    pub source: Option<Source>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with `key` of the section `at`.
    #[must_use]
    pub fn new(at: &str, key: &str, message: impl Into<String>) -> Self {
        Self { path: join(at, key), source: None, message: message.into(), hint: None }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_str(), &self.source) {
            ("", Some(source)) => write!(f, "{source}")?,
            (path, Some(source)) => write!(f, "{path} ({source})")?,
            (path, None) => f.write_str(path)?,
        }
        write!(f, ": {}", self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {} {plural}:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Errors {}

/// The checks of a section that its types cannot express.
pub trait Validate {
    /// Appends everything that is wrong with the section that stands at `at`.
    fn validate(&self, at: &str, problems: &mut Vec<Problem>);
}

/// The path of `key` below `at`.
pub(crate) fn join(at: &str, key: &str) -> String {
    if at.is_empty() || key.is_empty() { format!("{at}{key}") } else { format!("{at}.{key}") }
}
