//! Label values by name: a struct whose fields are the labels of a family.

use super::descriptor::LabelledDescriptor;

/// The values of a family's labels, as a struct. [`label_set!`](crate::label_set) implements it.
///
/// A series lives as long as the process, so take values from a list in your code, such as an enum: never from a path,
/// a name or a header.
///
/// ```
/// use vitals_registry::{LabelSet, label_set};
///
/// enum Kind {
///     Book,
///     Pen,
/// }
///
/// impl AsRef<str> for Kind {
///     fn as_ref(&self) -> &str {
///         match self {
///             Self::Book => "book",
///             Self::Pen => "pen",
///         }
///     }
/// }
///
/// label_set! {
///     /// The labels of an order.
///     struct OrderLabels {
///         kind: Kind,
///         country: &'static str,
///     }
/// }
///
/// assert_eq!(OrderLabels::NAMES, ["kind", "country"]);
/// let order = OrderLabels { kind: Kind::Pen, country: "eu" };
/// assert_eq!(order.values().as_ref(), ["pen", "eu"]);
/// # let _ = Kind::Book;
/// ```
pub trait LabelSet: Sized {
    /// The names of the labels.
    const NAMES: &'static [&'static str];

    /// The values of the labels, in the order of [`NAMES`](Self::NAMES). A set with another number of values is counted
    /// in the overflow series.
    fn values(&self) -> impl AsRef<[&str]>;

    /// Describes a family that has these labels.
    fn descriptor(name: impl Into<String>, help: impl Into<String>) -> LabelledDescriptor<Self> {
        LabelledDescriptor::new(name, help)
    }
}

/// Defines a struct and implements [`LabelSet`] for it: each field is a label of its name. A field's type implements
/// `AsRef<str>`.
///
/// See [`LabelSet`] for an example.
#[macro_export]
macro_rules! label_set {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $value:ty),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $value),+
        }

        impl $crate::LabelSet for $name {
            const NAMES: &'static [&'static str] = &[$(::core::stringify!($field)),+];

            fn values(&self) -> impl ::core::convert::AsRef<[&str]> {
                [$(::core::convert::AsRef::<str>::as_ref(&self.$field)),+]
            }
        }
    };
}
