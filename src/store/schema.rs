//! The tables, as Diesel sees them.
//!
//! What `diesel print-schema` writes, under this paragraph. The columns' types are those that every database of the
//! service has in common.

diesel::table! {
    items (id) {
        id -> BigInt,
        name -> Text,
        email -> Text,
        message -> Nullable<Text>,
        created_at -> Timestamp,
    }
}
