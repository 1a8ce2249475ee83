//! The tables, for Diesel.
//!
//! Below this paragraph is the output of `diesel print-schema`. The types of the columns are common to both databases.

diesel::table! {
    items (id) {
        id -> BigInt,
        name -> Text,
        email -> Text,
        message -> Nullable<Text>,
        created_at -> Timestamp,
    }
}
