//! How the parts of the monitoring are put together by the settings of a [`Builder`].
//!
//! The order matters. Families are declared first, in the order in which they are exposed, the adopter's last. Then the
//! collectors are registered, and then the recorders get what they share. A push starts last, so that it pushes all of it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg(feature = "ops")]
use vitals_console as ops;
#[cfg(feature = "otlp-plain")]
use vitals_otlp::{OtlpError, OtlpPush, OtlpSettings, PushFamilies, TraceSource};
#[cfg(feature = "jemalloc")]
use vitals_recorder::allocator;
use vitals_recorder::{clock, context, jobs, panics, process};
#[cfg(feature = "database")]
use vitals_recorder::{database, repetition::RepetitionDetector};
#[cfg(feature = "http")]
use vitals_recorder::{
    http, memory, naming::LATENCY_BUCKETS, ops_endpoints::OpsEndpoints, runtime,
};
use vitals_registry::{Fault, Registry, RegistryBuilder, RegistryError};

use super::{BuildError, Builder};
#[cfg(feature = "http")]
use crate::handle::Requests;
use crate::handle::{Vitals, VitalsInner};

/// How many labels a service may have.
const MOST_LABELS: usize = 16;

/// The longest value of such a label, in bytes.
const LONGEST_LABEL: usize = 256;

impl Builder {
    /// Declares every family and sets up the recorders.
    ///
    /// # Errors
    ///
    /// Fails if the latency buckets are not ascending or not finite, if there are too many labels, if a label is invalid, too
    /// long or used by a family, if jemalloc was built without statistics, or if a certificate of the push cannot be used.
    pub fn build(self) -> Result<Vitals, BuildError> {
        let (vitals, ()) = self.build_with(|_| ())?;
        Ok(vitals)
    }

    /// Does what [`build`](Self::build) does, and declares metrics of your own: returns the monitoring, and what `declare`
    /// returns.
    ///
    /// Your families have all that the built-in ones have: every format, native histograms, a budget of series, a unit and a
    /// help text. A histogram takes its exemplars from the request that the code works for, if its trace is sampled.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use actix_vitals::{
    ///     LATENCY_BUCKETS, Vitals, label_set,
    ///     registry::{Counter, Descriptor, Histogram, LabelSet, LabelledFamily, RegistryBuilder, Unit},
    /// };
    ///
    /// label_set! {
    ///     /// The labels of an order.
    ///     struct OrderLabels {
    ///         kind: &'static str,
    ///         country: &'static str,
    ///     }
    /// }
    ///
    /// struct ShopMetrics {
    ///     orders: LabelledFamily<Counter, OrderLabels>,
    ///     payment: Arc<Histogram>,
    /// }
    ///
    /// impl ShopMetrics {
    ///     fn declare(registry: &mut RegistryBuilder) -> Self {
    ///         let payment = Descriptor::new("shop_payment_seconds", "Time to pay an order.", []);
    ///         Self {
    ///             orders: registry.counter(
    ///                 OrderLabels::descriptor("shop_orders_total", "Orders that were taken.").max_series(500),
    ///             ),
    ///             payment: registry.histogram(payment.unit(Unit::Seconds), &LATENCY_BUCKETS).get(),
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (vitals, metrics) = Vitals::builder().build_with(ShopMetrics::declare)?;
    /// metrics.orders.series(&OrderLabels { kind: "book", country: "eu" }).inc();
    /// metrics.payment.observe(0.25);
    /// assert_eq!(vitals.value("shop_orders_total", &[("kind", "book")]), Some(1.0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails for the reasons of [`build`](Self::build), and if a family of yours is not valid or its name is taken.
    pub fn build_with<T>(
        self,
        declare: impl FnOnce(&mut RegistryBuilder) -> T,
    ) -> Result<(Vitals, T), BuildError> {
        let mut registry = self.registry()?;
        clock::prepare();
        #[cfg(feature = "http")]
        let ops_endpoints =
            OpsEndpoints::new(self.requests.ops_endpoints.iter().map(String::as_str));
        #[cfg(feature = "http")]
        let http = http::HttpFamilies::declare(
            &mut registry,
            self.naming,
            http::Renaming::new(self.requests.rename.clone(), ops_endpoints.clone()),
            self.requests
                .families
                .with_queries(cfg!(feature = "database")),
            self.buckets_or(self.naming.http_buckets()),
        );
        #[cfg(feature = "http")]
        let connections = http::ConnectionFamilies::declare(&mut registry);
        #[cfg(feature = "http")]
        let memory = memory::AnswerMemory::declare(&mut registry, self.requests.answer_memory);
        #[cfg(feature = "database")]
        let database = self.declare_database(&mut registry);
        #[cfg(feature = "http")]
        let runtime = runtime::Runtime::declare(&mut registry, self.buckets_or(&LATENCY_BUCKETS));
        let panics = panics::Panics::declare(&mut registry);
        let jobs = jobs::JobFamilies::declare(&mut registry, cfg!(feature = "database"));
        #[cfg(feature = "otlp-plain")]
        let push = (self.otlp).map(|otlp| (otlp, PushFamilies::declare(&mut registry)));
        registry.current_span(context::current_span);
        let declared = declare(&mut registry);
        let registry = registry.build()?;

        #[cfg(feature = "database")]
        register_database(&registry, &database)?;
        registry.register(process::Process::new())?;
        #[cfg(feature = "http")]
        registry.register(runtime.clone())?;
        #[cfg(feature = "http")]
        registry.register(memory.clone())?;
        #[cfg(feature = "jemalloc")]
        if self.jemalloc {
            register_allocator(&registry)?;
        }

        #[cfg(feature = "database")]
        let repetitions = Some(Arc::new(RepetitionDetector::new(
            Arc::new(database.statements().clone()),
            database.statements().suspicions().clone(),
        )));
        #[cfg(not(feature = "database"))]
        let repetitions = None;
        let jobs = Arc::new(jobs::Jobs::new(jobs, repetitions.clone()));
        #[cfg(feature = "http")]
        let requests = Requests {
            recorder: Arc::new(http::RequestRecorder::new(
                http,
                repetitions,
                ops_endpoints.clone(),
                self.requests,
            )),
            connections,
            runtime,
            memory,
        };
        #[cfg(feature = "ops")]
        let ops = ops::Ops::new(
            &registry,
            self.ops,
            watched(
                &requests,
                ops_endpoints,
                #[cfg(feature = "database")]
                &database,
            ),
        );
        check_labels(&self.labels, &registry)?;
        #[cfg_attr(
            not(feature = "otlp-plain"),
            expect(unused_mut, reason = "a push is started last")
        )]
        let mut inner = VitalsInner {
            registry,
            panics,
            jobs,
            #[cfg(feature = "http")]
            requests,
            #[cfg(feature = "database")]
            database,
            #[cfg(feature = "ops")]
            ops,
            #[cfg(feature = "otlp-plain")]
            push: None,
        };
        // Last: from here on, what is pushed is complete.
        #[cfg(feature = "otlp-plain")]
        inner.start_push(push)?;
        let inner = Arc::new(inner);
        Ok((Vitals { inner }, declared))
    }

    #[cfg(feature = "database")]
    fn declare_database(&self, registry: &mut RegistryBuilder) -> database::Database {
        let buckets = self.buckets_or(self.naming.database_buckets());
        let families = database::DatabaseFamilies::declare(registry, self.naming, buckets);
        database::Database::new(families, self.database).with_plans(!self.no_plans)
    }

    /// The latency buckets of the settings, or else these.
    #[cfg(any(feature = "http", feature = "database"))]
    fn buckets_or<'a>(&'a self, default: &'a [f64]) -> &'a [f64] {
        self.latency_buckets.as_deref().unwrap_or(default)
    }

    /// The registry with its settings, before any family is declared.
    fn registry(&self) -> Result<RegistryBuilder, BuildError> {
        let mut registry = Registry::builder(since_epoch)
            .on_overflow(warn_of_overflow)
            .on_fault(warn_of_fault)
            .created(self.created);
        if let Some(series) = self.max_series {
            registry = registry.max_series(series);
        }
        if let Some(buckets) = self.native_buckets {
            registry = registry.native_buckets(buckets);
        }
        if self.labels.len() > MOST_LABELS {
            return Err(BuildError::TooManyLabels(self.labels.len()));
        }
        for (name, value) in &self.labels {
            if value.len() > LONGEST_LABEL {
                return Err(BuildError::LongLabel(name.clone()));
            }
            registry = registry.constant_label(name, value);
        }
        Ok(registry)
    }
}

/// Rejects labels of the service that a family has, whether the family is declared or read at the scrape.
///
/// The registry itself rejects only labels of declared families: an adopter's collector keeps its own labels.
fn check_labels(labels: &[(String, String)], registry: &Registry) -> Result<(), RegistryError> {
    let described = registry.describe().into_iter();
    let described = described.map(|family| (family.name, family.labels));
    for (family, names) in described {
        if let Some((label, _)) = labels.iter().find(|(name, _)| names.contains(name)) {
            let label = label.clone();
            return Err(RegistryError::DuplicateLabel { family, label });
        }
    }
    Ok(())
}

/// The time since the Unix epoch, for the creation times of series.
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(feature = "database")]
fn register_database(
    registry: &Registry,
    database: &database::Database,
) -> Result<(), RegistryError> {
    registry.register(database.levels().clone())?;
    registry.register(database.fullness())
}

#[cfg(feature = "jemalloc")]
fn register_allocator(registry: &Registry) -> Result<(), BuildError> {
    let allocator = allocator::Allocator::new();
    let allocator = allocator.map_err(|error| BuildError::Jemalloc(error.to_string()))?;
    Ok(registry.register(allocator)?)
}

/// What the ops endpoints show.
#[cfg(feature = "ops")]
fn watched(
    requests: &Requests,
    endpoints: OpsEndpoints,
    #[cfg(feature = "database")] database: &database::Database,
) -> ops::Watched {
    ops::Watched {
        http: Arc::clone(&requests.recorder),
        endpoints,
        #[cfg(feature = "database")]
        database: Some(database.clone()),
        #[cfg(not(feature = "database"))]
        database: None,
        runtime: requests.runtime.clone(),
        memory: requests.memory.clone(),
    }
}

#[cfg(feature = "otlp-plain")]
impl VitalsInner {
    fn start_push(&mut self, push: Option<(OtlpSettings, PushFamilies)>) -> Result<(), OtlpError> {
        if let Some((settings, families)) = push {
            let (runtime, traces) = (runtime_context(), self.traces());
            let registry = &self.registry;
            let push =
                OtlpPush::start(&settings, registry, &families, since_epoch, runtime, traces);
            self.push = Some(push?);
        }
        Ok(())
    }

    /// The kept requests, with the texts of their statements. `None` if none are kept.
    #[cfg(feature = "http")]
    fn traces(&self) -> Option<TraceSource> {
        #[cfg(feature = "database")]
        let database = Some(self.database.clone());
        #[cfg(not(feature = "database"))]
        let database = None;
        let kept = self.requests.recorder.kept();
        (kept.limit() > 0).then(|| TraceSource::new(kept.clone(), database))
    }

    #[cfg(not(feature = "http"))]
    #[expect(clippy::unused_self, reason = "as with `http`")]
    fn traces(&self) -> Option<TraceSource> {
        None
    }
}

/// The runtime that this code runs in, if it does: a collector may use it.
#[cfg(feature = "otlp-plain")]
fn runtime_context() -> Option<vitals_recorder::collection::Enter> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    Some(Arc::new(move |read| {
        let _context = runtime.enter();
        read();
    }))
}

fn warn_of_overflow(family: &str) {
    tracing::warn!(
        family,
        "series budget used up: further label sets are counted in the `overflow` series, and in vitals_series_overflow_total"
    );
}

fn warn_of_fault(collector: &str, fault: &Fault) {
    let kind = fault.kind();
    if let Some(family) = fault.family() {
        tracing::warn!(collector, family, "a family of metrics {kind}");
    } else {
        // The text comes from the collector, so it is limited like the message of a panic.
        let detail = fault.detail().map(str::to_owned);
        let detail = detail.map(|detail| panics::message(&detail));
        tracing::warn!(collector, detail, "a collector of metrics {kind}");
    }
}
