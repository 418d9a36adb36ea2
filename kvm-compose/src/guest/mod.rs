//! Work inside and around a guest.
