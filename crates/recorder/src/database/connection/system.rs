//! The name of a database system, as OpenTelemetry's conventions have it.
//! <https://opentelemetry.io/docs/specs/semconv/database/database-spans/>

use diesel::backend::Backend;

/// The name for a database that speaks SQL and is not known here.
const OTHER: &str = "other_sql";

/// The system behind Diesel's backend `B`.
///
/// Found by the name of the type: to refer to the type itself, its driver would have to be linked. The backend of a
/// `MultiConnection` does not determine the system.
pub(super) fn system_of<B: Backend>() -> &'static str {
    let backend = std::any::type_name::<B>();
    let name = backend.rsplit("::").next();
    // A type of the same name in another crate may be anything.
    match name.filter(|_| backend.starts_with("diesel::")) {
        Some("Pg") => "postgresql",
        Some("Sqlite") => "sqlite",
        Some("Mysql") => "mysql",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use diesel::Connection;

    use super::*;

    #[derive(diesel::MultiConnection)]
    enum Any {
        Sqlite(diesel::SqliteConnection),
    }

    #[test]
    fn the_backends_of_diesel_are_known_and_others_are_not() {
        assert_eq!(system_of::<diesel::pg::Pg>(), "postgresql");
        assert_eq!(system_of::<diesel::sqlite::Sqlite>(), "sqlite");
        assert_eq!(system_of::<<Any as Connection>::Backend>(), OTHER);
    }
}
