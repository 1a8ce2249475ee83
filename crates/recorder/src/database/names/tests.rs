//! Tests the names of pools, and from when on their queries have the label `pool`.

use std::time::Duration;

use super::*;
use crate::database::metrics::{QueryWriters, TransactionOutcome};
use crate::database::sql::Operation;
use crate::naming::Naming;
use vitals_registry::{Format, Registry};

struct Fixture {
    names: PoolNames,
    families: DatabaseFamilies,
    registry: Registry,
}

impl Fixture {
    fn new(naming: Naming) -> Self {
        let mut builder = Registry::builder(|| Duration::from_secs(1));
        let families = DatabaseFamilies::declare(&mut builder, naming, &[0.001, 1.0]);
        Self {
            names: PoolNames::default(),
            families,
            registry: builder.build().unwrap(),
        }
    }

    fn take(&self, wanted: &str) -> NamedPool {
        self.names.take(wanted, "sqlite", &self.families)
    }

    /// The series of `db_queries_total` for selects, each with its value.
    fn selects(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        self.families
            .queries
            .for_each(|[_, operation, pool], counter| {
                if operation.eq_ignore_ascii_case("select") {
                    found.push((pool.to_owned(), counter.value()));
                }
            });
        found.sort();
        found
    }

    fn text(&self) -> String {
        String::from_utf8(self.registry.encode(Format::Text)).unwrap()
    }
}

/// Counts a query of a new connection.
fn select(pool: &NamedPool) {
    select_on(&mut QueryWriters::default(), pool);
}

/// Counts a query of the connection with these writers.
fn select_on(connection: &mut QueryWriters, pool: &NamedPool) {
    connection.query(
        &pool.metrics,
        Operation::Select,
        0.001,
        crate::context::Attribution::Attributed,
    );
}

fn row(pool: &str, queries: u64) -> (String, u64) {
    (pool.to_owned(), queries)
}

#[test]
fn a_service_with_one_pool_has_no_label_whatever_the_name() {
    for name in ["default", "shop", "", "ä"] {
        let fixture = Fixture::new(Naming::Vitals);
        let pool = fixture.take(name);
        select(&pool);
        pool.metrics
            .error(Operation::Select, crate::database::ErrorKind::Busy);
        pool.metrics
            .transaction(TransactionOutcome::Committed, Duration::ZERO, None);
        pool.pool_metrics.opened(Duration::ZERO);
        assert_eq!(fixture.selects(), [row("", 1)], "{name}");
        let text = fixture.text();
        for line in [
            "db_queries_total{operation=\"select\"} 1",
            "db_query_duration_seconds_count{operation=\"select\"} 1",
            "db_queries_unattributed_total{operation=\"select\"} 0",
            "db_query_errors_total{operation=\"select\",kind=\"busy\"} 1",
            "db_transactions_total{outcome=\"committed\"} 1",
            "db_transaction_duration_seconds_count{outcome=\"committed\"} 1",
            "db_connections_opened_total 1",
            "db_connection_open_errors_total 0",
            "db_connection_open_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}

#[test]
fn a_connection_that_is_open_counts_under_its_name_from_the_second_pool_on() {
    let fixture = Fixture::new(Naming::Vitals);
    let shop = fixture.take("shop");
    let mut connection = QueryWriters::default();
    (0..2).for_each(|_| select_on(&mut connection, &shop));
    let audit = fixture.take("audit");
    (0..3).for_each(|_| select_on(&mut connection, &shop));
    select(&audit);
    assert_eq!(
        fixture.selects(),
        [row("", 2), row("audit", 1), row("shop", 3)]
    );
}

#[test]
fn from_the_second_name_on_both_pools_count_under_their_names() {
    let fixture = Fixture::new(Naming::Vitals);
    let shop = fixture.take("shop");
    select(&shop);
    let audit = fixture.take("audit");
    assert_eq!(
        fixture.selects(),
        [row("", 1), row("audit", 0), row("shop", 0)],
        "the series exist at 0 before their first query, and none was renamed"
    );
    select(&shop);
    select(&audit);
    select(&audit);
    shop.pool_metrics.open_failed();
    audit.pool_metrics.opened(Duration::ZERO);
    assert_eq!(
        fixture.selects(),
        [row("", 1), row("audit", 2), row("shop", 1)]
    );
    let text = fixture.text();
    for line in [
        "db_query_errors_total{operation=\"other\",kind=\"cancelled\",pool=\"shop\"} 0",
        "db_transactions_total{outcome=\"rolled_back\",pool=\"audit\"} 0",
        "db_connections_opened_total{pool=\"audit\"} 1",
        "db_connection_open_errors_total{pool=\"shop\"} 1",
        "db_connection_open_seconds_count{pool=\"audit\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    // A third one, and one that is opened again.
    drop(shop);
    for name in ["shop", "third"] {
        select(&fixture.take(name));
    }
    assert_eq!(
        fixture.selects(),
        [row("", 1), row("audit", 2), row("shop", 2), row("third", 1)]
    );
}

#[test]
fn a_pool_that_is_opened_again_is_still_the_only_one() {
    let fixture = Fixture::new(Naming::Vitals);
    for _ in 0..10_000 {
        let pool = fixture.take("shop");
        assert_eq!(&*pool.name, "shop");
        select(&pool);
    }
    assert_eq!(fixture.selects(), [row("", 10_000)]);
    let state = fixture.names.0.lock().unwrap();
    assert_eq!((state.taken.len(), state.unlabelled.len()), (1, 1));
}

#[test]
fn two_pools_of_one_name_are_told_apart() {
    let fixture = Fixture::new(Naming::Vitals);
    let pools = [fixture.take("shop"), fixture.take("shop")];
    assert_eq!([&*pools[0].name, &*pools[1].name], ["shop", "shop-2"]);
    pools.iter().for_each(select);
    assert_eq!(
        fixture.selects(),
        [row("", 0), row("shop", 1), row("shop-2", 1)]
    );
}

#[test]
fn names_are_bounded_in_length_and_number() {
    let fixture = Fixture::new(Naming::Vitals);
    let long = "ö".repeat(10 * 1024);
    let first = fixture.take(&long);
    assert_eq!(&*first.name, "ö".repeat(LONGEST));
    let name = |wanted: &str| fixture.take(wanted).name;
    assert_eq!(&*name(""), DEFAULT);
    let odd = "a\"b\\c\nd\u{0}";
    assert_eq!(&*name(odd), odd);
    let pools: Vec<_> = (0..1000)
        .map(|number| fixture.take(&number.to_string()))
        .collect();
    pools.iter().for_each(select);
    let selects = fixture.selects();
    // Without the label, and the pools beyond.
    assert_eq!(selects.len(), MOST + 2);
    let beyond = 1000 - (MOST as u64 - 3);
    assert!(selects.contains(&row(OVERFLOW, beyond)), "{selects:?}");
    assert_eq!(
        selects.iter().map(|(_, queries)| queries).sum::<u64>(),
        1000
    );
    // A name of a closed pool can be had again; a new one cannot.
    drop(pools);
    assert_eq!(&*name("7"), "7");
    assert_eq!(&*name("brand new"), OVERFLOW);
    let families = fixture.text();
    assert!(
        !families.contains("operation=\"overflow\""),
        "within the budget of each family"
    );
}

#[test]
fn the_conventions_of_opentelemetry_have_their_own_name_for_the_label() {
    let fixture = Fixture::new(Naming::OpenTelemetry);
    let shop = fixture.take("shop");
    let opened =
        "db_client_connection_create_time_seconds_count{db_client_connection_pool_name=\"shop\"} 1";
    let queries = "db_queries_total{db_system_name=\"sqlite\",db_operation_name=\"SELECT\"} 1";
    select(&shop);
    shop.pool_metrics.opened(Duration::ZERO);
    for line in [opened, queries] {
        assert!(fixture.text().contains(line), "{line}");
    }
    let _audit = fixture.take("audit");
    select(&shop);
    let queries = "db_queries_total{db_system_name=\"sqlite\",db_operation_name=\"SELECT\",db_client_connection_pool_name=\"shop\"} 1";
    for line in [opened, queries] {
        assert!(fixture.text().contains(line), "{line}");
    }
}

#[test]
fn the_system_of_a_pool_is_known_and_that_of_all_pools_if_they_have_one() {
    let fixture = Fixture::new(Naming::Vitals);
    let system = |pool| fixture.names.system(pool);
    assert_eq!((system(None), system(Some("shop"))), (None, None));
    let shop = fixture.take("shop");
    let _second = fixture.take("shop");
    assert_eq!(system(Some("shop-2")), Some("sqlite"));
    assert_eq!(system(None), Some("sqlite"));
    let _audit = fixture.names.take("audit", "mariadb", &fixture.families);
    assert_eq!(system(Some("audit")), Some("mariadb"));
    assert_eq!((system(None), system(Some("other"))), (None, None));
    drop(shop);
    let _shop = fixture.names.take("shop", "postgresql", &fixture.families);
    assert_eq!(system(Some("shop")), Some("postgresql"));
}
