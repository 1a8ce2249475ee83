//! Metrics of one's own beside those of the recorders: some of the `prometheus` crate, and a collector that is read when
//! somebody scrapes. Prints where it listens.

use std::error::Error;

use actix_vitals::{
    Vitals,
    registry::{Collector, FamilyDescription, FamilyRows, ReadFamily, Unit},
};
use actix_web::{App, HttpServer, web};
use prometheus::{HistogramOpts, HistogramVec};

/// Letters that wait to be sorted.
const LETTERS: ReadFamily = ReadFamily::gauge(
    "post_letters",
    Unit::None,
    "Letters that wait to be sorted.",
);

/// Reads how many letters wait.
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
