//! Metrics of one's own beside those of the recorders: some of the `prometheus` crate, and a collector that is read when
//! somebody scrapes. Prints where it listens.

use std::error::Error;

use actix_vitals::{
    Vitals,
    registry::{Collector, FamilyDescription, Kind, Unit},
};
use actix_web::{App, HttpServer, web};
use prometheus::{HistogramOpts, HistogramVec, proto};

/// How many letters wait, as the post office knows it.
struct Letters;

impl Collector for Letters {
    fn name(&self) -> &'static str {
        "letters"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        vec![FamilyDescription {
            name: "post_letters".to_owned(),
            kind: Kind::Gauge,
            unit: Unit::None,
            help: "Letters that wait to be sorted.".to_owned(),
            labels: Vec::new(),
        }]
    }

    fn collect(
        &self,
        rows: &mut Vec<proto::MetricFamily>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let waiting = prometheus::Gauge::new("post_letters", "Letters that wait to be sorted.")?;
        waiting.set(3.0);
        rows.extend(prometheus::core::Collector::collect(&waiting));
        Ok(())
    }
}

async fn sort_letter(size: web::Path<f64>, sizes: web::Data<HistogramVec>) -> &'static str {
    // The values of a label are from a list of ours: a path or a name would be a series for each visitor.
    let kind = if *size > 30.0 { "parcel" } else { "letter" };
    sizes.with_label_values(&[kind]).observe(*size);
    "sorted"
}

#[actix_web::main]
#[allow(clippy::print_stdout, reason = "a reader of the output finds the port")]
async fn main() -> Result<(), Box<dyn Error>> {
    let vitals = Vitals::builder().label("region", "eu").build()?;
    vitals.registry().register(Letters)?;
    let options = HistogramOpts::new("post_size_centimetres", "Sizes of what was sorted.");
    let sizes = HistogramVec::new(options.buckets(vec![10.0, 30.0, 100.0]), &["kind"])?;
    (vitals.registry()).register_prometheus("post", Box::new(sizes.clone()))?;

    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(sizes.clone()))
            .route("/letters/{size}", web::post().to(sort_letter))
            .configure(vitals.ops())
            .wrap(vitals.http())
    });
    let address = std::env::args().nth(1);
    let server = server.bind(address.as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("listening on http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}
