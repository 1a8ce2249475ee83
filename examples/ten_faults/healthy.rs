//! The healthy twin of each fault: the same work, done well. None of them is suspected of anything.

use std::collections::HashMap;

use actix_web::{Result, web};
use diesel::{
    Connection as _, ExpressionMethods as _, JoinOnDsl as _, OptionalExtension as _, QueryDsl as _,
    QueryResult, RunQueryDsl as _, sql_query,
};

use super::{
    Db, REMOTE_CALL, Shop, ask,
    schema::{customers, orders, settings, stock},
};

/// Adds a route for each twin.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/missing-index/{code}", web::get().to(an_index))
        .route("/loop", web::get().to(one_query))
        .route("/template", web::get().to(a_template_with_its_data))
        .route("/identical", web::get().to(one_read))
        .route("/convoy", web::put().to(a_short_lock))
        .route("/idle", web::get().to(no_transaction_meanwhile))
        .route("/sort", web::get().to(a_sort_by_an_index))
        .route("/flipped/{id}", web::get().to(a_plan_that_stays))
        .route("/leak", web::post().to(a_returned_connection))
        .route("/function/{code}", web::get().to(a_fast_function));
}

async fn an_index(shop: Shop, code: web::Path<i32>) -> Result<web::Json<Vec<i32>>> {
    let found = ask(&shop, move |connection| {
        let orders = orders::table.filter(orders::code.eq(*code));
        orders.select(orders::id).load(connection)
    });
    Ok(web::Json(found.await?))
}

async fn one_query(shop: Shop) -> Result<web::Json<Vec<String>>> {
    let names = ask(&shop, |connection| {
        let latest = orders::table
            .inner_join(customers::table.on(customers::id.eq(orders::customer)))
            .filter(orders::id.between(99_971, 100_000));
        latest.select(customers::name).load(connection)
    });
    Ok(web::Json(names.await?))
}

async fn a_template_with_its_data(shop: Shop) -> Result<String> {
    let page = ask(&shop, |connection| {
        let latest = latest_customers(connection)?;
        let known = customers::table.filter(customers::id.eq_any(&latest));
        let names: HashMap<i32, String> = known.load(connection)?.into_iter().collect();
        let rows = latest.iter().filter_map(|customer| names.get(customer));
        let rows: Vec<_> = rows.map(|name| format!("<li>{name}</li>")).collect();
        Ok(rows.concat())
    });
    page.await
}

fn latest_customers(connection: &mut Db) -> QueryResult<Vec<i32>> {
    let latest = orders::table.order(orders::id.desc()).limit(30);
    latest.select(orders::customer).load(connection)
}

async fn one_read(shop: Shop) -> Result<web::Json<Vec<String>>> {
    let prices = ask(&shop, |connection| {
        let currency = settings::table.find("currency").select(settings::value);
        let currency: String = currency.first(connection)?;
        let latest = latest_customers(connection)?.into_iter();
        Ok(latest
            .map(|customer| format!("{customer} {currency}"))
            .collect())
    });
    Ok(web::Json(prices.await?))
}

async fn a_short_lock(shop: Shop) -> Result<&'static str> {
    actix_web::rt::time::sleep(REMOTE_CALL).await;
    ask(&shop, |connection| {
        connection.transaction(|connection| {
            diesel::update(stock::table.find(2))
                .set(stock::amount.eq(stock::amount - 1))
                .execute(connection)
        })
    })
    .await?;
    Ok("sold")
}

async fn no_transaction_meanwhile(shop: Shop) -> Result<&'static str> {
    ask(&shop, |connection| {
        connection.transaction(|connection| {
            let amount = stock::table.find(2).select(stock::amount);
            amount.first::<i32>(connection)
        })
    })
    .await?;
    actix_web::rt::time::sleep(REMOTE_CALL * 4).await;
    Ok("shipped")
}

async fn a_sort_by_an_index(shop: Shop) -> Result<web::Json<usize>> {
    let sorted = ask(&shop, |connection| {
        let some = orders::table.filter(orders::code.between(100, 300));
        let sorted = some.order(orders::code);
        sorted
            .select((orders::code, orders::id))
            .load::<(i32, i32)>(connection)
    });
    Ok(web::Json(sorted.await?.len()))
}

async fn a_plan_that_stays(shop: Shop, id: web::Path<i32>) -> Result<web::Json<Option<i32>>> {
    let found = ask(&shop, move |connection| {
        let order = orders::table.find(*id).select(orders::code);
        order.first(connection).optional()
    });
    Ok(web::Json(found.await?))
}

async fn a_returned_connection(shop: Shop) -> Result<&'static str> {
    ask(&shop, |connection| {
        customers::table
            .select(customers::id)
            .first::<i32>(connection)
    })
    .await?;
    Ok("imported")
}

async fn a_fast_function(shop: Shop, code: web::Path<i32>) -> Result<&'static str> {
    ask(&shop, move |connection| {
        sql_query(format!("SELECT abs({code})")).execute(connection)
    })
    .await?;
    Ok("priced")
}
