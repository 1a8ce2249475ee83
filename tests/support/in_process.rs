//! An application in the process of the test. Its type has a name, so that the application of a generic test can be part of
//! a struct.

use std::pin::Pin;

use actix_http::Request;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::test::{TestRequest, read_body};
use actix_web::{Error, HttpResponse};
use futures_util::TryFutureExt as _;

type Answering = Pin<Box<dyn Future<Output = Result<ServiceResponse<BoxBody>, Error>>>>;

/// A service that `actix_web::test::init_service` returned.
pub(crate) struct InProcess(Box<dyn Fn(Request) -> Answering>);

/// A response, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl InProcess {
    pub(crate) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        Self(Box::new(move |request| {
            let response = service.call(request);
            Box::pin(response.map_ok(ServiceResponse::map_into_boxed_body))
        }))
    }

    pub(crate) async fn send(&self, request: TestRequest) -> Answer {
        let response = (self.0)(request.to_request()).await;
        let response = response.unwrap_or_else(|error| {
            let request = TestRequest::default().to_http_request();
            ServiceResponse::new(request, HttpResponse::from_error(error))
        });
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response).await;
        Answer {
            status,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(TestRequest::get().uri(path)).await
    }
}
