//! Metrics of your own beside the built-in ones: families with typed labels, one of the `prometheus` crate, and a collector
//! that is read at each scrape. Prints the address that it listens on.

use std::error::Error;

use actix_vitals::{
    Vitals, label_set,
    registry::{
        Collector, Counter, Descriptor, FamilyDescription, FamilyRows, FloatGauge, Histogram,
        LabelSet, LabelledFamily, ReadFamily, RegistryBuilder, Unit,
    },
};
use actix_web::{App, HttpServer, web};
use prometheus::IntCounter;
use std::sync::Arc;

/// The kinds of mail. A label has few values, and all are in the code: a path or a name would be a series for each visitor.
#[derive(Clone, Copy)]
enum Kind {
    Letter,
    Parcel,
}

impl AsRef<str> for Kind {
    fn as_ref(&self) -> &str {
        match self {
            Self::Letter => "letter",
            Self::Parcel => "parcel",
        }
    }
}

label_set! {
    /// The labels of sorted mail.
    struct MailLabels {
        kind: Kind,
    }
}

/// The handles of the metrics, which the handlers share.
struct PostMetrics {
    sizes: LabelledFamily<Histogram, MailLabels>,
    sorted: LabelledFamily<Counter, MailLabels>,
    fill: Arc<FloatGauge>,
}

impl PostMetrics {
    fn declare(registry: &mut RegistryBuilder) -> Self {
        Self {
            sizes: registry.histogram(
                MailLabels::descriptor("post_size_centimetres", "Sizes of sorted mail."),
                &[10.0, 30.0, 100.0],
            ),
            sorted: registry.counter(
                MailLabels::descriptor("post_sorted_total", "Mail that was sorted.").max_series(10),
            ),
            fill: registry
                .float_gauge(Descriptor::new(
                    "post_box_fill_ratio",
                    "How full the box is.",
                    [],
                ))
                .get(),
        }
    }
}

/// Letters that wait to be sorted, which are counted elsewhere and read at each scrape.
const LETTERS: ReadFamily = ReadFamily::gauge(
    "post_letters",
    Unit::None,
    "Letters that wait to be sorted.",
);

struct Letters;

impl Collector for Letters {
    fn name(&self) -> &'static str {
        "letters"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        vec![LETTERS.describe()]
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        rows.push(LETTERS.single(3.0));
        Ok(())
    }
}

async fn sort_letter(size: web::Path<f64>, metrics: web::Data<PostMetrics>) -> &'static str {
    let kind = if *size > 30.0 {
        Kind::Parcel
    } else {
        Kind::Letter
    };
    let labels = MailLabels { kind };
    metrics.sorted.series(&labels).inc();
    // If the trace of the request is sampled, it becomes the exemplar of the bucket.
    metrics.sizes.series(&labels).observe(*size);
    metrics.fill.set(0.5);
    "sorted"
}

#[actix_web::main]
#[allow(clippy::print_stdout, reason = "a reader of the output finds the port")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (vitals, metrics) = Vitals::builder()
        .label("region", "eu")
        .build_with(PostMetrics::declare)?;
    vitals.registry().register(Letters)?;
    let stamps = IntCounter::new("post_stamps_total", "Stamps that were sold.")?;
    (vitals.registry()).register_prometheus("stamps", Box::new(stamps.clone()))?;
    stamps.inc();

    let metrics = web::Data::new(metrics);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(metrics.clone())
            .route("/letters/{size}", web::post().to(sort_letter))
            .configure(vitals.ops())
            .wrap(vitals.http())
    });
    let address = std::env::args().nth(1);
    let server = server.bind(address.as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("listening on http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}
