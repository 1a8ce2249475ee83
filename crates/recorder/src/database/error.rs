//! The kinds of database errors: the values of the label `kind`.

/// A kind of database error that needs a reaction of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value that must be unique exists already.
    UniqueViolation,
    /// A referenced row does not exist, or a row is still referenced.
    ForeignKeyViolation,
    /// A required value is missing.
    NotNullViolation,
    /// A value breaks a constraint of the schema.
    CheckViolation,
    /// Concurrent transactions conflict, deadlocks included. The transaction may be retried.
    SerializationFailure,
    /// Another connection holds a lock.
    Busy,
    /// The connection to the server is lost.
    ConnectionLost,
    /// A statement was stopped because it took too long, or because an administrator cancelled it.
    Timeout,
    /// The future of a query was dropped before the database had answered.
    Cancelled,
    /// Everything else.
    Other,
}

impl ErrorKind {
    /// All kinds, in the order of their index.
    pub const ALL: [Self; 10] = [
        Self::UniqueViolation,
        Self::ForeignKeyViolation,
        Self::NotNullViolation,
        Self::CheckViolation,
        Self::SerializationFailure,
        Self::Busy,
        Self::ConnectionLost,
        Self::Timeout,
        Self::Cancelled,
        Self::Other,
    ];

    /// The value of the label `kind`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UniqueViolation => "unique_violation",
            Self::ForeignKeyViolation => "foreign_key_violation",
            Self::NotNullViolation => "not_null_violation",
            Self::CheckViolation => "check_violation",
            Self::SerializationFailure => "serialization_failure",
            Self::Busy => "busy",
            Self::ConnectionLost => "connection_lost",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }

    /// The index of this kind in [`ErrorKind::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}
