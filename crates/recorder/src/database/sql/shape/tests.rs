//! Tests of shapes: what they keep of a statement, and that they contain no value.
//!
//! - `literals`: values, signs and binds in all forms, also where dialects differ
//! - `names`: what counts as a name, and what may be a value
//! - `lists`: space, comments and lists
//! - `bounds`: long texts, and properties of any text

mod bounds;
mod lists;
mod literals;
mod names;

use crate::database::sql::{Dialect, read};

use Dialect::{MySql, PostgreSql, Sqlite, Unknown};

const DIALECTS: [Dialect; 4] = [PostgreSql, MySql, Sqlite, Unknown];

fn shape_in(dialect: Dialect, sql: &str) -> String {
    read(sql, dialect).shape
}

/// The shape of a text of an unknown dialect.
fn shape(sql: &str) -> String {
    shape_in(Unknown, sql)
}

/// The shape of a text that is the same in all dialects.
fn common(sql: &str) -> String {
    let shape = shape(sql);
    for dialect in DIALECTS {
        assert_eq!(shape_in(dialect, sql), shape, "{dialect:?}");
    }
    shape
}

/// A text of a dialect, its shape, and the rule under test.
type ShapeCase = (Dialect, &'static str, &'static str, &'static str);
