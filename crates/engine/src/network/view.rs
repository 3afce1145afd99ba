//! Networks as the API shows them.
