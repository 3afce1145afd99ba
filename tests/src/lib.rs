//! End-to-end tests of Caisson, run from outside over both runtime types.
