//! How *bytes* reach another node: today the wire codec that operator parameters already travel in.
//!
//! It knows no Arrow and no actors. Identities, endpoints and streams over QUIC come with the cluster.

pub mod codec;
