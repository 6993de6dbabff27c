//! Closed lists of kinds, each with its name.

/// An enum, all that it can be in the order of the enum, and what each is called in recordings and summaries.
macro_rules! kinds {
    (
        $(#[$of_all:meta])*
        pub enum $Kind:ident { $( $(#[$of_one:meta])* $One:ident = $name:literal, )* }
    ) => {
        $(#[$of_all])*
        pub enum $Kind { $( $(#[$of_one])* $One, )* }

        impl $Kind {
            pub const ALL: &'static [$Kind] = &[$( $Kind::$One, )*];

            pub fn name(self) -> &'static str {
                match self { $( $Kind::$One => $name, )* }
            }
        }
    };
}
pub(crate) use kinds;
