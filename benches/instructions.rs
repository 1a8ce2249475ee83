//! One path, so many times, for an instruction counter: `instructions <path> <times>`, run under callgrind. Unlike time,
//! a count of instructions is the same on every run; the difference between two numbers of times, over the difference of
//! the numbers, is what the path costs.

use std::{future::poll_fn, hint::black_box, pin::pin, time::Duration};

use actix_http::Request;
use actix_vitals::{
    registry::{Descriptor, Format, Registry, Unit},
    vitals::{LATENCY_BUCKETS, Vitals},
};
use actix_web::{
    App, Error, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    http::Uri,
    rt::System,
    test::init_service,
    web,
};
use actix_web_prom::PrometheusMetricsBuilder;

fn routes(config: &mut web::ServiceConfig) {
    config.route(
        "/static",
        web::get().to(async || HttpResponse::Ok().body("hello")),
    );
}

/// Serves so many requests, each to the last byte of its answer.
async fn serve<S, B>(service: &S, times: usize)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    for _ in 0..times {
        let mut request = Request::new();
        request.head_mut().uri = Uri::from_static("/static");
        if let Ok(response) = service.call(request).await {
            let mut body = pin!(response.into_body());
            while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                black_box(chunk.is_ok());
            }
        }
    }
}

/// Writes a registry of a hundred latency series out, so many times.
fn scrape(format: Format, times: usize) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = Registry::builder(|| Duration::from_secs(1));
    let descriptor =
        Descriptor::new("latency_seconds", "A latency.", ["endpoint"]).unit(Unit::Seconds);
    let family = builder.histogram(descriptor, &LATENCY_BUCKETS);
    let registry = builder.build()?;
    for endpoint in 0..100 {
        let series = family.series([&format!("/endpoint/{endpoint}")]);
        for observation in 0..50 {
            series.observe(f64::from(observation) * 0.001);
        }
    }
    for _ in 0..times {
        black_box(registry.encode(format));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, times] = &arguments[..] else {
        // `cargo bench` runs every benchmark; this one is for callgrind alone.
        return Ok(());
    };
    let times: usize = times.parse()?;
    let app = || App::new().configure(routes);
    match path.as_str() {
        "bare-request" => {
            System::new().block_on(async {
                serve(&init_service(app()).await, times).await;
            });
        }
        "request" => {
            let vitals = Vitals::builder().build()?;
            System::new().block_on(async {
                serve(&init_service(app().wrap(vitals.http())).await, times).await;
            });
        }
        "peer-request" => {
            let prom = PrometheusMetricsBuilder::new("peer").build()?;
            System::new()
                .block_on(async { serve(&init_service(app().wrap(prom)).await, times).await });
        }
        "text" => scrape(Format::Text, times)?,
        "openmetrics" => scrape(Format::OpenMetrics, times)?,
        "protobuf" => scrape(Format::Protobuf, times)?,
        _ => return Err(format!("no path is called {path}").into()),
    }
    Ok(())
}
