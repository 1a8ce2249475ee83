//! The OpenMetrics registry.
