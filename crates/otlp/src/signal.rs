//! What is pushed: metrics, or traces. Each has a path, variables and an answer of its own.

use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceResponse, trace::v1::ExportTraceServiceResponse,
};
use prost::Message as _;

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Metrics,
    Traces,
}

impl Signal {
    pub(crate) const ALL: [Self; 2] = [Self::Metrics, Self::Traces];

    /// Its name in logs, and as the value of a label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }

    /// The path that the specification adds to the base address of a receiver.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/v1/metrics",
            Self::Traces => "/v1/traces",
        }
    }

    /// The data points or spans that the receiver says it has not taken. Whatever else it answers, it has taken all.
    pub(crate) fn rejected(self, answer: &[u8]) -> i64 {
        let rejected = match self {
            Self::Metrics => ExportMetricsServiceResponse::decode(answer)
                .ok()
                .and_then(|answer| Some(answer.partial_success?.rejected_data_points)),
            Self::Traces => ExportTraceServiceResponse::decode(answer)
                .ok()
                .and_then(|answer| Some(answer.partial_success?.rejected_spans)),
        };
        rejected.map_or(0, |rejected| rejected.max(0))
    }
}
