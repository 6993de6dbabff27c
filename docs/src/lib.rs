//! The documents of the repository and the tests that keep them true.
