//! Certificates with every defect that is borne and every one that is refused, forged here so that
//! each test shows what is wrong with its certificate; and real ones, of OpenSSL and of swtpm.

mod attestation;
mod boot;
mod certificate;
mod chain;
mod challenge;
mod event_log;
mod forge;
mod join;
mod join_key;
mod machine;
mod mutation;
mod self_certified;
mod service_key;
