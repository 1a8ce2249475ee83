//! `/data`: items are created, listed, read, replaced and deleted.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, Data, ServiceConfig};

use super::answers::{Answers, json, respond};
use super::body::JsonObject;
use super::item;
use super::item_id::ItemId;
use super::page::{PAGE_BYTES, Page};
use super::problem::no_item;
use crate::store::{self, Position, Store};
use actix_vitals::methods::other_methods;
use actix_vitals::problem::Problem;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(
            web::resource("/data")
                .route(web::get().to(list_items))
                .route(web::head().to(list_items))
                .route(web::post().to(create_item))
                .default_service(other_methods("GET, HEAD, OPTIONS, POST")),
        )
        .service(
            web::resource("/data/{item_id}")
                .route(web::get().to(read_item))
                .route(web::head().to(read_item))
                .route(web::put().to(replace_item))
                .route(web::delete().to(delete_item))
                .default_service(other_methods("DELETE, GET, HEAD, OPTIONS, PUT")),
        );
}

/// Answers with a page of the list. Where there is more, a `Link` leads to the next page.
async fn list_items(
    store: Data<Store>,
    answers: Answers,
    page: Page,
) -> Result<HttpResponse, Problem> {
    let (body, next) = store
        .list(page.request(), move |items| {
            let (json, next) = write_page(items);
            answers.hold(json).map(|body| (body, next))
        })
        .await??;
    let mut answer = HttpResponse::Ok();
    if let Some(next) = next {
        answer.insert_header((header::LINK, page.next_link(next)));
    }
    Ok(respond(&mut answer, body))
}

/// The items as a JSON array of at most [`PAGE_BYTES`], and where to go on: escapes may take more than the texts.
fn write_page(page: store::Page) -> (Vec<u8>, Option<Position>) {
    let mut written = vec![b'['];
    let mut last = None;
    for item in page.items {
        let json = json(&item);
        if last.is_some() {
            // A comma before it and a bracket behind it.
            if written.len() + json.len() + 2 > PAGE_BYTES {
                written.push(b']');
                return (written, last);
            }
            written.push(b',');
        }
        written.extend(json);
        last = Some(Position {
            created_at: item.created_at,
            id: item.id,
        });
    }
    written.push(b']');
    (written, page.next)
}

async fn create_item(
    store: Data<Store>,
    answers: Answers,
    body: JsonObject,
) -> Result<HttpResponse, Problem> {
    let fields = item::fields(body.0)?;
    // Before it is written: a 503 must mean that nothing was.
    let room = answers.reserve_for(&fields)?;
    let item = store.create(fields).await?;
    let mut answer = HttpResponse::Created();
    answer.insert_header((header::LOCATION, format!("/data/{}", item.id)));
    Ok(respond(&mut answer, room.hold(json(&item))))
}

async fn read_item(
    store: Data<Store>,
    answers: Answers,
    id: ItemId,
) -> Result<HttpResponse, Problem> {
    let item = store.find(id.0).await?.ok_or_else(no_item)?;
    let body = answers.hold(json(&item))?;
    Ok(respond(&mut HttpResponse::Ok(), body))
}

async fn replace_item(
    store: Data<Store>,
    answers: Answers,
    id: ItemId,
    body: JsonObject,
) -> Result<HttpResponse, Problem> {
    let fields = item::fields(body.0)?;
    let room = answers.reserve_for(&fields)?;
    let item = store.replace(id.0, fields).await?.ok_or_else(no_item)?;
    Ok(respond(&mut HttpResponse::Ok(), room.hold(json(&item))))
}

async fn delete_item(
    store: Data<Store>,
    answers: Answers,
    id: ItemId,
) -> Result<HttpResponse, Problem> {
    let item = store.delete(id.0).await?.ok_or_else(no_item)?;
    // It is gone: no 503 any more.
    let body = answers.charge(json(&item));
    Ok(respond(&mut HttpResponse::Ok(), body))
}
