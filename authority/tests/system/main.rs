//! The authority as a whole: over TLS in this process, and as a program.

// Said once more for the lints, which are milder in tests.
#[cfg(test)]
mod tests {
    mod answer;
    mod audit;
    mod authorities;
    mod backup;
    mod bundle_endpoint;
    mod ca;
    mod certificates;
    mod claim;
    mod command;
    mod create;
    mod daemon;
    mod explain;
    mod granted;
    mod harness;
    mod identity;
    mod issue;
    mod join_id;
    mod jwt;
    mod limits;
    mod list;
    mod lock;
    mod log;
    mod meanwhile;
    mod older;
    mod operator;
    mod port;
    mod postgresql;
    mod protocols;
    mod public_name;
    mod removal;
    mod removal_elsewhere;
    mod renew;
    mod residency;
    mod retention;
    mod startup;
    mod store;
    mod tctl;
    mod teleport;
    mod teleport_calls;
    mod terminal;
    mod trust_chain;
    mod workload;
}
