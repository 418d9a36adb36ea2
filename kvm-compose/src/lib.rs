//! What a testbed is.
