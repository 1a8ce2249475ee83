//! `/data`: items are created, listed, read, replaced and deleted.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, Data, ServiceConfig};

use super::body::JsonObject;
use super::item;
use super::item_id::ItemId;
use super::page::Page;
use super::problem::no_item;
use crate::service::store::{Item, Store};
use crate::vitals::methods::other_methods;
use crate::vitals::problem::Problem;

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

async fn list_items(store: Data<Store>, page: Page) -> Result<HttpResponse, Problem> {
    let items = store.list(page.skip, page.limit).await?;
    Ok(HttpResponse::Ok().json(items))
}

async fn create_item(store: Data<Store>, body: JsonObject) -> Result<HttpResponse, Problem> {
    let item = store.create(item::fields(body.0)?).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/data/{}", item.id)))
        .json(item))
}

async fn read_item(store: Data<Store>, id: ItemId) -> Result<HttpResponse, Problem> {
    found(store.find(id.0).await?)
}

async fn replace_item(
    store: Data<Store>,
    id: ItemId,
    body: JsonObject,
) -> Result<HttpResponse, Problem> {
    found(store.replace(id.0, item::fields(body.0)?).await?)
}

async fn delete_item(store: Data<Store>, id: ItemId) -> Result<HttpResponse, Problem> {
    found(store.delete(id.0).await?)
}

fn found(item: Option<Item>) -> Result<HttpResponse, Problem> {
    let item = item.ok_or_else(no_item)?;
    Ok(HttpResponse::Ok().json(item))
}
