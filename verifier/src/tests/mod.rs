//! Certificates with every defect that is borne and every one that is refused, forged here so that
//! each test shows what is wrong with its certificate; and real ones, of OpenSSL and of swtpm.

mod certificate;
mod chain;
mod forge;
mod machine;
mod mutation;
