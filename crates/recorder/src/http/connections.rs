//! Connections, counted by what became of each: how many there are, and how they ended or why they were turned away.
//!
//! Actix tells when a connection begins, and not how it ends: that is known to who accepts connections by itself.

use std::sync::{Arc, OnceLock};

use vitals_registry::{Counter, Descriptor, Family, Gauge, RegistryBuilder};

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionOutcome {
    /// One side closed it when nothing was under way, or its client left.
    Closed,
    /// Turned away: there were as many connections as there may be.
    RefusedTotal,
    /// Turned away: its address had as many connections as it may have.
    RefusedAddress,
    /// The handshake of TLS failed, or took too long.
    TlsError,
    /// Closed for want of a request.
    Idle,
    /// Closed: the head of a request took too long.
    HeadTimeout,
    /// Closed: the body of a request took too long.
    BodyTimeout,
    /// Closed: the client did not take its answer.
    ResponseTimeout,
    /// Closed: the head of a request had too many headers, or too large ones.
    HeadersTooLarge,
    /// Closed: what came was not HTTP.
    Malformed,
    /// The connection broke.
    Reset,
    /// Closed because of a fault on this side.
    Error,
}

impl ConnectionOutcome {
    /// All there are.
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

    /// What it is called in the label.
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

/// The counts of connections; cheap to clone. Every outcome has its series from the start, at zero.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    active: Arc<Gauge>,
    ended: Arc<[Arc<Counter>; ConnectionOutcome::ALL.len()]>,
}

impl ConnectionMetrics {
    /// Counts a connection among the active ones until the answer is dropped.
    pub fn open(&self) -> OpenConnection {
        self.active.inc();
        OpenConnection {
            connections: self.clone(),
            outcome: ConnectionOutcome::Error,
        }
    }

    /// Counts a connection that was turned away.
    pub fn refused(&self, outcome: ConnectionOutcome) {
        self.count(outcome);
    }

    fn count(&self, outcome: ConnectionOutcome) {
        self.ended[outcome as usize].inc();
    }
}

/// The families that [`ConnectionMetrics`] fills. They have no series, and are not exposed, until somebody counts.
#[derive(Debug)]
pub struct ConnectionFamilies {
    /// By a label that is not shown.
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
                "ConnectionMetrics open now, those that are shaking hands or being closed included.",
                [""],
            )),
            ended: registry.counter(Descriptor::new(
                "http_connections_total",
                "ConnectionMetrics that ended, by what became of them; those that were turned away never were active.",
                ["outcome"],
            )),
            counts: OnceLock::new(),
        }
    }

    /// The counts, which from now on are exposed.
    pub fn counts(&self) -> &ConnectionMetrics {
        self.counts.get_or_init(|| ConnectionMetrics {
            active: self.active.series([""]),
            ended: Arc::new(
                ConnectionOutcome::ALL.map(|outcome| self.ended.series([outcome.label()])),
            ),
        })
    }
}

/// An active connection: counted when it is dropped, as a fault of ours unless it is told otherwise.
#[derive(Debug)]
pub struct OpenConnection {
    connections: ConnectionMetrics,
    outcome: ConnectionOutcome,
}

impl OpenConnection {
    /// Says what became of it.
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
    fn each_connection_is_counted_once_and_where_it_belongs() {
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
    fn every_outcome_stands_at_its_own_place() {
        for (position, outcome) in ConnectionOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, position, "{}", outcome.label());
        }
    }
}
