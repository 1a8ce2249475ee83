//! The handlers of `/data` and `/data/{item_id}`.

use actix_vitals::problem::Problem;
use actix_web::{HttpResponse, http::header, web::Data};

use super::{
    answers::{JsonResponder, respond},
    body::JsonObject,
    item,
    item_id::ItemId,
    item_json::{item_json, write_item},
    page::{PAGE_BYTES, PageQuery},
    problem::no_item,
};
use crate::store::{self, PageCursor, Store};

/// The bytes of most items in JSON, or more.
const LIKELY_ITEM: usize = 160;

/// Answers with a page of the list, and with a `Link` to the next page if there is more.
pub(super) async fn list_items(
    store: Data<Store>,
    answers: JsonResponder,
    page: PageQuery,
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

/// The items as a JSON array of at most [`PAGE_BYTES`], and the cursor of the next page. The store has counted the bytes of
/// the texts; their escapes in JSON may need more.
fn write_page(page: store::Page) -> (Vec<u8>, Option<PageCursor>) {
    let mut written = Vec::with_capacity(page.items.len() * LIKELY_ITEM + 2);
    written.push(b'[');
    let mut last = None;
    for item in page.items {
        let end = written.len();
        if last.is_some() {
            written.push(b',');
        }
        write_item(&item, &mut written);
        // One byte for the bracket at the end.
        if last.is_some() && written.len() + 1 > PAGE_BYTES {
            written.truncate(end);
            written.push(b']');
            return (written, last);
        }
        last = Some(PageCursor {
            created_at: item.created_at,
            id: item.id,
        });
    }
    written.push(b']');
    (written, page.next)
}

pub(super) async fn create_item(
    store: Data<Store>,
    answers: JsonResponder,
    body: JsonObject,
) -> Result<HttpResponse, Problem> {
    let fields = item::fields(body.0)?;
    // Reserved before the item is written, so that a 503 means that nothing was.
    let room = answers.reserve_for(&fields)?;
    let item = store.create(fields).await?;
    let mut answer = HttpResponse::Created();
    answer.insert_header((header::LOCATION, format!("/data/{}", item.id)));
    Ok(respond(&mut answer, room.hold(item_json(&item))))
}

pub(super) async fn read_item(
    store: Data<Store>,
    answers: JsonResponder,
    id: ItemId,
) -> Result<HttpResponse, Problem> {
    let item = store.find(id.0).await?.ok_or_else(no_item)?;
    let body = answers.hold(item_json(&item))?;
    Ok(respond(&mut HttpResponse::Ok(), body))
}

pub(super) async fn replace_item(
    store: Data<Store>,
    answers: JsonResponder,
    id: ItemId,
    body: JsonObject,
) -> Result<HttpResponse, Problem> {
    let fields = item::fields(body.0)?;
    let room = answers.reserve_for(&fields)?;
    let item = store.replace(id.0, fields).await?.ok_or_else(no_item)?;
    Ok(respond(
        &mut HttpResponse::Ok(),
        room.hold(item_json(&item)),
    ))
}

pub(super) async fn delete_item(
    store: Data<Store>,
    answers: JsonResponder,
    id: ItemId,
) -> Result<HttpResponse, Problem> {
    let item = store.delete(id.0).await?.ok_or_else(no_item)?;
    // The item is deleted already, so this cannot fail with 503.
    let body = answers.charge(item_json(&item));
    Ok(respond(&mut HttpResponse::Ok(), body))
}
