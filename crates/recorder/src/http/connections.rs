//! Connections, counted by how each ended or why it was rejected.
//!
//! Actix reports when a connection begins, but not how it ends. Only a server with an accept loop of its own can fill
//! these families.

use std::sync::{Arc, OnceLock};

use vitals_registry::{Counter, Descriptor, Family, Gauge, RegistryBuilder};

/// How a connection ended: the values of the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionOutcome {
    /// One side closed it between requests, or the client left.
    Closed,
    /// Rejected: the server had as many connections as it allows.
    RefusedTotal,
    /// Rejected: the client's address had as many connections as it may have.
    RefusedAddress,
    /// The TLS handshake failed or took too long.
    TlsError,
    /// Closed because no request came in time.
    Idle,
    /// Closed because the head of a request took too long.
    HeadTimeout,
    /// Closed because the body of a request took too long.
    BodyTimeout,
    /// Closed because the client did not read its answer in time.
    ResponseTimeout,
    /// Closed because a request had too many headers, or too large ones.
    HeadersTooLarge,
    /// Closed because the client did not send HTTP.
    Malformed,
    /// The connection broke.
    Reset,
    /// Closed because of an error of the server.
    Error,
}

impl ConnectionOutcome {
    /// All outcomes, in the order of their discriminants.
    const ALL: [Self; 12] = [
        Self::Closed,
        Self::RefusedTotal,
        Self::RefusedAddress,
        Self::TlsError,
        Self::Idle,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::ResponseTimeout,
        Self::HeadersTooLarge,
        Self::Malformed,
        Self::Reset,
        Self::Error,
    ];

    /// The value of the label `outcome`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::RefusedTotal => "refused_total",
            Self::RefusedAddress => "refused_address",
            Self::TlsError => "tls_error",
            Self::Idle => "idle",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Malformed => "malformed",
            Self::Reset => "reset",
            Self::Error => "error",
        }
    }
}

/// Counts connections. Cheap to clone. Each outcome has a series from the start, at zero.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    active: Arc<Gauge>,
    ended: Arc<[Arc<Counter>; ConnectionOutcome::ALL.len()]>,
}

impl ConnectionMetrics {
    /// Counts a connection as active until the returned value is dropped.
    pub fn open(&self) -> OpenConnection {
        self.active.inc();
        OpenConnection {
            connections: self.clone(),
            outcome: ConnectionOutcome::Error,
        }
    }

    /// Counts a connection that was rejected before it was active.
    pub fn refused(&self, outcome: ConnectionOutcome) {
        self.count(outcome);
    }

    fn count(&self, outcome: ConnectionOutcome) {
        self.ended[outcome as usize].inc();
    }
}

/// The families that [`ConnectionMetrics`] fills. They have no series, and are not exposed, before
/// [`counts`](Self::counts) is called.
#[derive(Debug)]
pub struct ConnectionFamilies {
    active: Family<Gauge, 1>,
    ended: Family<Counter, 1>,
    counts: OnceLock<ConnectionMetrics>,
}

impl ConnectionFamilies {
    /// Declares them.
    pub fn declare(registry: &mut RegistryBuilder) -> Self {
        Self {
            active: registry.gauge(Descriptor::new(
                "http_connections_active",
                "Connections open now, including those in a TLS handshake or being closed.",
                [""],
            )),
            ended: registry.counter(Descriptor::new(
                "http_connections_total",
                "Connections that ended or were rejected, by outcome; rejected ones were never active.",
                ["outcome"],
            )),
            counts: OnceLock::new(),
        }
    }

    /// Returns the counts, which are exposed from now on.
    pub fn counts(&self) -> &ConnectionMetrics {
        self.counts.get_or_init(|| ConnectionMetrics {
            active: self.active.series([""]),
            ended: Arc::new(
                ConnectionOutcome::ALL.map(|outcome| self.ended.series([outcome.label()])),
            ),
        })
    }
}

/// An active connection. It is counted when it is dropped: with the outcome of [`end`](Self::end), or as an error.
#[derive(Debug)]
pub struct OpenConnection {
    connections: ConnectionMetrics,
    outcome: ConnectionOutcome,
}

impl OpenConnection {
    /// Ends the connection with this outcome.
    pub fn end(mut self, outcome: ConnectionOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.active.dec();
        self.connections.count(self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use vitals_registry::Registry;

    #[test]
    fn each_connection_is_counted_once_by_its_outcome() {
        let mut registry = Registry::builder(|| Duration::ZERO);
        let families = ConnectionFamilies::declare(&mut registry);
        assert!(families.active.is_empty() && families.ended.is_empty());
        let connections = families.counts();

        let ended = connections.open();
        let panicked = connections.open();
        assert_eq!(families.active.series([""]).value(), 2);
        ended.end(ConnectionOutcome::Idle);
        drop(panicked);
        connections.refused(ConnectionOutcome::RefusedTotal);

        assert_eq!(families.active.series([""]).value(), 0);
        let mut counted = Vec::new();
        families.ended.for_each(|[outcome], count| {
            counted.push((outcome.to_owned(), count.value()));
        });
        assert_eq!(counted.len(), ConnectionOutcome::ALL.len());
        counted.retain(|(_, count)| *count > 0);
        counted.sort();
        let expected = ["error", "idle", "refused_total"].map(|outcome| (outcome.to_owned(), 1));
        assert_eq!(counted, expected);
    }

    #[test]
    fn each_outcome_is_at_the_index_of_its_discriminant() {
        for (position, outcome) in ConnectionOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, position, "{}", outcome.label());
        }
    }
}
