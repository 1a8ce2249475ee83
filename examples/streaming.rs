//! Server-sent events. An unbounded stream is counted when it starts, is left out of the latency, and has its own gauge and
//! duration. Prints the address that it listens on.

use std::time::Duration;

use actix_vitals::Vitals;
use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::stream;

/// Sends one event a second until the client leaves.
async fn get_seconds() -> HttpResponse {
    let events = stream::unfold(0_u64, async |second| {
        tokio::time::sleep(Duration::from_millis(u64::from(second > 0) * 1000)).await;
        let event = web::Bytes::from(format!("data: {second}\n\n"));
        Some((Ok::<_, actix_web::Error>(event), second + 1))
    });
    // This content type is recognised as a stream. Mark others with `actix_vitals::http::Stream`.
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .streaming(Box::pin(events))
}

#[actix_web::main]
#[allow(clippy::print_stdout, reason = "a reader of the output finds the port")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vitals = Vitals::builder().build()?;
    let server = HttpServer::new(move || {
        App::new()
            .route("/seconds", web::get().to(get_seconds))
            .configure(vitals.ops())
            .wrap(vitals.http())
    });
    let address = std::env::args().nth(1);
    let server = server.bind(address.as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("listening on http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}
