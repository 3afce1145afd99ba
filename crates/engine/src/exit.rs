//! A container has ended.
