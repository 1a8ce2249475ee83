//! Which database it is, by the names that OpenTelemetry's conventions have for them.
//! <https://opentelemetry.io/docs/specs/semconv/database/database-spans/>

use diesel::Connection;

/// A database that speaks SQL and that the conventions do not know, or that is not known here.
const OTHER: &str = "other_sql";

/// The system behind connections of this type, told by the name of Diesel's backend: to name the type itself, its driver
/// would have to be linked. A `MultiConnection` may lead anywhere.
pub(super) fn system_of<C: Connection>() -> &'static str {
    let backend = std::any::type_name::<C::Backend>();
    let name = backend.rsplit("::").next();
    // Another crate's type of the same name may be anything.
    match name.filter(|_| backend.starts_with("diesel::")) {
        Some("Pg") => "postgresql",
        Some("Sqlite") => "sqlite",
        Some("Mysql") => "mysql",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diesels_backends_are_known_and_others_are_not() {
        assert_eq!(system_of::<diesel::PgConnection>(), "postgresql");
        assert_eq!(system_of::<diesel::SqliteConnection>(), "sqlite");
        assert_eq!(system_of::<Any>(), OTHER);
    }

    #[derive(diesel::MultiConnection)]
    enum Any {
        Postgres(diesel::PgConnection),
        Sqlite(diesel::SqliteConnection),
    }
}
