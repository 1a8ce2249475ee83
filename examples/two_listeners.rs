//! The service on one public listener, and all ops endpoints on another.
//! Prints both addresses, that of the ops listener last.

use actix_vitals::{Vitals, ops::OpsSettings};
use actix_web::{App, HttpServer, web};

#[actix_web::main]
#[allow(
    clippy::print_stdout,
    reason = "a reader of the output finds the ports"
)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vitals = Vitals::builder().ops(OpsSettings::everything()).build()?;
    let monitor = vitals.http();
    let service = HttpServer::new(move || {
        App::new()
            .route("/hello/{name}", web::get().to(async || "hello"))
            .wrap(monitor.clone())
    })
    .h1_allow_half_closed(false);
    let operations = HttpServer::new(move || App::new().configure(vitals.ops())).workers(1);

    let mut addresses = std::env::args().skip(1);
    let mut next = |otherwise: &str| addresses.next().unwrap_or_else(|| otherwise.to_owned());
    let service = service.bind(next("127.0.0.1:8080"))?;
    let operations = operations.bind(next("127.0.0.1:9100"))?;
    println!("listening on http://{}", service.addrs()[0]);
    println!("ops listening on http://{}", operations.addrs()[0]);
    tokio::try_join!(service.run(), operations.run())?;
    Ok(())
}
