//! Why a profile cannot be taken.

/// A profile cannot be taken. Its text is for operators: it says what is missing and how to allow it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The program was built without this kind of profile, or its system has none.
    #[error("{0}")]
    Unavailable(String),
    /// The system does not let the process sample itself.
    #[error("{0}")]
    Denied(String),
    /// The profile was ended before its time was over.
    #[error("The profile was ended early.")]
    Stopped,
}
