//! Types of queries that have many texts: each run is counted under the statement that ran, in whatever order they run.

use std::collections::BTreeMap;

use diesel::connection::CacheSize;
use diesel::debug_query;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Bool, Integer};
use diesel::sqlite::Sqlite;
use proptest::prelude::*;

use super::super::super::fixture::{Fixture, insert, items};
use super::statements;
use crate::context;
use crate::database::sql::{Dialect, read};

/// Where the rows of a boxed query are cut.
#[derive(Clone, Copy, Debug)]
enum Filter {
    All,
    ById,
    ByName,
    Limited,
    Skipping,
    /// Diesel never keeps these prepared, nor announces them.
    OneOf(usize),
    ByHand,
}

type Boxed<'a> = items::BoxedQuery<'a, Sqlite, Integer>;

fn boxed(filter: Filter) -> Boxed<'static> {
    let query = items::table.select(items::id).into_boxed();
    match filter {
        Filter::All => query,
        Filter::ById => query.filter(items::id.eq(1)),
        Filter::ByName => query.filter(items::name.eq("a")),
        Filter::Limited => query.limit(1),
        Filter::Skipping => query.limit(1).offset(1),
        Filter::OneOf(count) => query.filter(items::id.eq_any(vec![7; count])),
        Filter::ByHand => query.filter(sql::<Bool>("name LIKE 'a%'")),
    }
}

/// The statements with their calls.
fn counted(fixture: &Fixture) -> BTreeMap<String, u64> {
    let statements = statements(fixture).into_iter();
    statements.map(|(text, calls, _)| (text, calls)).collect()
}

/// Runs boxed queries of one type one after the other; each with the runs it is to be counted with.
fn select(fixture: &Fixture, connection: &mut SqliteConnection, runs: &[(Filter, u64)]) {
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for &(filter, times) in runs {
        let query = debug_query::<Sqlite, _>(&boxed(filter)).to_string();
        let text = query.split(" -- binds: ").next().unwrap().to_owned();
        *expected
            .entry(read(&text, Dialect::Sqlite).shape)
            .or_default() += times;
        for _ in 0..times {
            boxed(filter).load::<i32>(connection).unwrap();
        }
    }
    assert_eq!(counted(fixture), expected, "{runs:?}");
}

#[test]
fn a_boxed_query_that_changes_its_filter_is_two_statements() {
    for (one, other) in [(8, 8), (10, 600), (1_500, 3), (1, 1)] {
        let fixture = Fixture::new();
        let connection = &mut fixture.connection();
        let mut context = None;
        context::within(&mut context, || {
            select(
                &fixture,
                connection,
                &[(Filter::ById, one), (Filter::ByName, other)],
            );
        });
        let runs: Vec<u64> = (context.unwrap().shapes())
            .map(|(_, runs)| u64::from(runs))
            .collect();
        assert_eq!(runs, [one, other]);
    }
}

#[test]
fn texts_that_are_never_announced_are_counted_each() {
    use Filter::{All, ByHand, ById, Limited, OneOf, Skipping};
    for runs in [
        &[(ById, 10), (OneOf(3), 600)][..],
        &[(OneOf(3), 10), (ById, 600), (OneOf(2), 5)],
        &[(All, 300), (OneOf(1), 20), (OneOf(2), 20), (All, 5)],
        &[(All, 300), (ByHand, 20)],
        &[(Limited, 50), (Skipping, 50), (All, 50), (Limited, 50)],
        &[(ById, 990), (ByHand, 9)],
    ] {
        let fixture = Fixture::new();
        select(&fixture, &mut fixture.connection(), runs);
    }
}

#[test]
fn a_type_with_one_announced_text_may_mistake_31_calls_at_most() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    for filter in [Filter::ById, Filter::ByHand] {
        for _ in 0..2_000 {
            boxed(filter).load::<i32>(connection).unwrap();
        }
    }
    let calls: Vec<u64> = counted(&fixture).into_values().collect();
    assert_eq!(calls.iter().sum::<u64>(), 4_000);
    assert!(calls.iter().all(|calls| calls.abs_diff(2_000) <= 31));
}

#[test]
fn queries_are_distinguished_without_a_statement_cache() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    connection.set_prepared_statement_cache_size(CacheSize::Disabled);
    let runs = [
        (Filter::ById, 1_100),
        (Filter::ByName, 50),
        (Filter::OneOf(2), 50),
        (Filter::ById, 50),
    ];
    select(&fixture, connection, &runs);
}

#[test]
fn turning_the_statement_cache_off_and_on_confuses_no_query() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let find = |connection: &mut SqliteConnection| {
        let query = items::table.find(1).select(items::name);
        query.first::<String>(connection).optional().unwrap()
    };
    for size in [
        CacheSize::Unbounded,
        CacheSize::Disabled,
        CacheSize::Unbounded,
    ] {
        connection.set_prepared_statement_cache_size(size);
        for _ in 0..20 {
            find(connection);
            boxed(Filter::ById).load::<i32>(connection).unwrap();
            boxed(Filter::ByName).load::<i32>(connection).unwrap();
        }
    }
    let calls: Vec<u64> = counted(&fixture).into_values().collect();
    assert_eq!(calls, [60, 60, 60]);
}

#[test]
fn a_statement_that_fails_to_prepare_at_first_is_counted() {
    diesel::table! {
        later (id) {
            id -> Integer,
        }
    }
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let ids = |connection: &mut SqliteConnection| {
        // Diesel announces the text before it prepares it, so each time until it succeeds.
        later::table.select(later::id).load::<i32>(connection)
    };
    for _ in 0..5 {
        ids(connection).unwrap_err();
    }
    diesel::sql_query("CREATE TABLE later (id INTEGER PRIMARY KEY)")
        .execute(connection)
        .unwrap();
    for _ in 0..5 {
        ids(connection).unwrap();
    }
    assert_eq!(
        counted(&fixture)["SELECT `later`.`id` FROM `later`"],
        10,
        "{:?}",
        counted(&fixture)
    );
}

/// A custom query: it carries its own text, and may be kept prepared.
#[derive(Debug)]
struct Custom {
    column: &'static str,
    is_kept: bool,
}

impl QueryFragment<Sqlite> for Custom {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        if !self.is_kept {
            out.unsafe_to_cache_prepared();
        }
        out.push_sql("SELECT ");
        out.push_identifier(self.column)?;
        out.push_sql(" FROM items");
        Ok(())
    }
}

impl QueryId for Custom {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<SqliteConnection> for Custom {}

#[test]
fn queries_of_every_kind_are_counted_under_their_own_text() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    for round in 0..60 {
        for (column, is_kept) in [("id", true), ("name", true), ("id", false), ("name", false)] {
            Custom { column, is_kept }.execute(connection).unwrap();
        }
        // An update that leaves out what is not to be changed.
        let id = (round % 2 == 0).then(|| items::id.eq(99));
        let name = (round % 3 == 0 || round % 2 == 1).then(|| items::name.eq("z"));
        diesel::update(items::table.find(99))
            .set((id, name))
            .execute(connection)
            .unwrap();
        let rows: Vec<_> = (0..=round % 4)
            .map(|row| items::name.eq(format!("{round}.{row}")))
            .collect();
        diesel::insert_into(items::table)
            .values(&rows)
            .execute(connection)
            .unwrap();
        insert(connection, &format!("{round}")).unwrap();
        let column = ["id", "name"][round % 2];
        diesel::sql_query(format!("SELECT {column} FROM items WHERE id = {round}"))
            .execute(connection)
            .unwrap();
    }
    let expected = [
        ("INSERT INTO `items` (`name`) VALUES (?, ...)", 120),
        ("SELECT `id` FROM items", 120),
        ("SELECT `name` FROM items", 120),
        ("SELECT id FROM items WHERE id = ?", 30),
        ("SELECT name FROM items WHERE id = ?", 30),
        ("UPDATE `items` SET `id` = ? WHERE (`items`.`id` = ?)", 20),
        (
            "UPDATE `items` SET `id` = ?, `name` = ? WHERE (`items`.`id` = ?)",
            10,
        ),
        ("UPDATE `items` SET `name` = ? WHERE (`items`.`id` = ?)", 30),
    ];
    let expected = expected.map(|(text, calls)| (text.to_owned(), calls));
    assert_eq!(counted(&fixture), BTreeMap::from(expected));
}

#[test]
fn a_query_that_cannot_be_built_is_not_counted() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let nothing = None::<diesel::dsl::Eq<items::name, &str>>;
    let error = diesel::update(items::table.find(1))
        .set((nothing, nothing))
        .execute(connection)
        .unwrap_err();
    assert!(matches!(error, diesel::result::Error::QueryBuilderError(_)));
    assert_eq!(fixture.queries(), []);
    assert_eq!(fixture.errors(), []);
    assert_eq!(counted(&fixture), BTreeMap::new());
}

#[derive(diesel::MultiConnection)]
enum Several {
    Sqlite(SqliteConnection),
}

#[test]
fn queries_on_a_multi_connection_are_distinguished() {
    let fixture = Fixture::new();
    let mut connection = Several::Sqlite(fixture.connection());
    for round in 0..30 {
        for by_id in [true, false] {
            let mut query = items::table.select(items::id).into_boxed();
            query = if by_id {
                query.filter(items::id.eq(round))
            } else {
                query.filter(items::name.eq("a"))
            };
            query.load::<i32>(&mut connection).unwrap();
        }
        items::table
            .find(round)
            .select(items::name)
            .load::<String>(&mut connection)
            .unwrap();
    }
    let calls: Vec<u64> = counted(&fixture).into_values().collect();
    assert_eq!(calls, [30, 30, 30]);
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(Filter::All),
        Just(Filter::ById),
        Just(Filter::ByName),
        Just(Filter::Limited),
        Just(Filter::Skipping),
        (1..4_usize).prop_map(Filter::OneOf),
        Just(Filter::ByHand),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_texts_is_counted_exactly(
        runs in prop::collection::vec((filter(), 1..40_u64), 1..8),
        is_cached in any::<bool>(),
    ) {
        let fixture = Fixture::new();
        let connection = &mut fixture.connection();
        if !is_cached {
            connection.set_prepared_statement_cache_size(CacheSize::Disabled);
        }
        select(&fixture, connection, &runs);
    }
}
