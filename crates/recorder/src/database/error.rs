//! Which kind of error the database answered with: the values of the label `kind`.

/// A kind of database error that calls for an answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value that must be unique is there already.
    UniqueViolation,
    /// A row that must be there is not, or is still referred to.
    ForeignKeyViolation,
    /// A value is missing.
    NotNullViolation,
    /// A value is outside of what the schema allows.
    CheckViolation,
    /// Concurrent transactions got in each other's way, deadlocks included; the transaction may be tried again.
    SerializationFailure,
    /// Something is locked by another connection.
    Busy,
    /// The connection to the server is gone.
    ConnectionLost,
    /// The database, or whoever watches over it, stopped a statement that took too long.
    Timeout,
    /// Everything else.
    Other,
}

impl ErrorKind {
    /// All of them, in the order of their index.
    pub const ALL: [Self; 9] = [
        Self::UniqueViolation,
        Self::ForeignKeyViolation,
        Self::NotNullViolation,
        Self::CheckViolation,
        Self::SerializationFailure,
        Self::Busy,
        Self::ConnectionLost,
        Self::Timeout,
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
            Self::Other => "other",
        }
    }

    /// The place of this kind in [`ErrorKind::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}
