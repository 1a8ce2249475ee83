//! The faults. A comment marks the line that is to be named for each: `fault: …`, or
//! `fault below: …` in the line before.

use std::thread;

use actix_vitals::block;
use actix_web::{Result, error, web};
use diesel::{
    Connection as _, ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, QueryResult,
    RunQueryDsl as _, sql_query,
};

use super::{
    Db, Kept, REMOTE_CALL, Shop, ask,
    schema::{customers, events, orders, settings, stock},
};

/// Adds a route for each fault.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/missing-index/{note}", web::get().to(missing_index))
        .route("/loop", web::get().to(n_plus_one_in_a_loop))
        .route("/template", web::get().to(n_plus_one_in_a_template))
        .route("/identical", web::get().to(identical_reads))
        .route("/convoy", web::put().to(lock_convoy))
        .route("/idle", web::get().to(idle_transaction))
        .route("/sort", web::get().to(sort_that_spills))
        .route("/flipped/{shop}", web::get().to(flipped_plan))
        .route("/leak", web::post().to(leak))
        .route("/function/{code}", web::get().to(slow_function));
}

/// No index has the column of the filter.
async fn missing_index(shop: Shop, note: web::Path<String>) -> Result<web::Json<Vec<i32>>> {
    let found = ask(&shop, move |connection| {
        let orders = orders::table.filter(orders::note.eq(note.into_inner()));
        orders.select(orders::id).load(connection) // fault: missing index
    });
    Ok(web::Json(found.await?))
}

/// The customer of each order is a query of its own.
async fn n_plus_one_in_a_loop(shop: Shop) -> Result<web::Json<Vec<String>>> {
    let names = ask(&shop, |connection| {
        let latest: Vec<i32> = latest_customers(connection)?;
        let mut names = Vec::new();
        for customer in latest {
            let name = customers::table.find(customer).select(customers::name);
            names.push(name.first(connection)?); // fault: N+1 in a loop
        }
        Ok(names)
    });
    Ok(web::Json(names.await?))
}

fn latest_customers(connection: &mut Db) -> QueryResult<Vec<i32>> {
    let latest = orders::table.order(orders::id.desc()).limit(30);
    latest.select(orders::customer).load(connection)
}

/// An order in a page. The template asks for what it shows.
struct OrderRow {
    customer: i32,
}

impl OrderRow {
    fn render(&self, connection: &mut Db) -> QueryResult<String> {
        let customer = customers::table.filter(customers::id.eq(self.customer));
        let name: String = customer.select(customers::name).first(connection)?; // fault: N+1 in a template
        Ok(format!("<li>{name}</li>"))
    }
}

/// A template runs a query for each row.
async fn n_plus_one_in_a_template(shop: Shop) -> Result<String> {
    let page = ask(&shop, |connection| {
        let latest = latest_customers(connection)?;
        let rows = latest.into_iter().map(|customer| OrderRow { customer });
        rows.map(|row| row.render(connection)).collect()
    });
    page.await
}

/// Each row asks for the same setting.
async fn identical_reads(shop: Shop) -> Result<web::Json<Vec<String>>> {
    let prices = ask(&shop, |connection| {
        let mut prices = Vec::new();
        for customer in latest_customers(connection)? {
            let currency = settings::table.find("currency").select(settings::value);
            let currency: String = currency.first(connection)?; // fault: identical reads
            prices.push(format!("{customer} {currency}"));
        }
        Ok(prices)
    });
    Ok(web::Json(prices.await?))
}

/// Each order locks the same row while the bank is asked.
async fn lock_convoy(shop: Shop) -> Result<&'static str> {
    ask(&shop, |connection| {
        connection.transaction(|connection| {
            diesel::update(stock::table.find(1))
                .set(stock::amount.eq(stock::amount - 1))
                .execute(connection)?; // fault: lock convoy
            thread::sleep(REMOTE_CALL);
            Ok(())
        })
    })
    .await?;
    Ok("sold")
}

/// A transaction is open while the shipping company is asked.
async fn idle_transaction(shop: Shop) -> Result<&'static str> {
    // fault below: idle transaction
    ask(&shop, |connection| {
        connection.transaction(|connection| {
            let amount = stock::table.find(2).select(stock::amount);
            let amount: i32 = amount.first(connection)?;
            thread::sleep(REMOTE_CALL * 4);
            Ok(amount)
        })
    })
    .await?;
    Ok("shipped")
}

/// All rows are sorted, by a column without an index.
async fn sort_that_spills(shop: Shop) -> Result<web::Json<usize>> {
    let sorted = ask(&shop, |connection| {
        let all = orders::table.order(orders::note);
        all.select((orders::note, orders::id))
            .load::<(String, i32)>(connection) // fault: sort that spills
    });
    Ok(web::Json(sorted.await?.len()))
}

/// The plan changes when the table has many rows.
async fn flipped_plan(shop: Shop, id: web::Path<i32>) -> Result<web::Json<Option<i32>>> {
    let found = ask(&shop, move |connection| {
        let events = events::table.filter(events::kind.eq(1));
        let events = events.filter(events::shop.eq(*id)).select(events::id);
        events.first(connection).optional() // fault: flipped plan
    });
    Ok(web::Json(found.await?))
}

/// A connection is never returned.
async fn leak(shop: Shop, kept: Kept) -> Result<&'static str> {
    let connection = block(move || shop.get().ok()).await?; // fault: leak
    let connection = connection.ok_or_else(|| error::ErrorServiceUnavailable("no connection"))?;
    if let Ok(mut kept) = kept.lock() {
        kept.push(connection);
    }
    Ok("imported")
}

/// The database calls a function that takes its time.
async fn slow_function(shop: Shop, code: web::Path<i32>) -> Result<&'static str> {
    ask(&shop, move |connection| {
        let priced = sql_query(format!("SELECT price({code})"));
        priced.execute(connection) // fault: slow function
    })
    .await?;
    Ok("priced")
}
