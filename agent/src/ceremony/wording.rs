//! How messages call a server: it is an authority of this project, or belongs to a Teleport cluster.

/// The words for one kind of server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wording {
    /// Who decides.
    pub(super) name: &'static str,
    /// The same as an owner.
    pub(super) whose: &'static str,
    /// What a server at an address should be.
    pub(super) role: &'static str,
    /// What its operator runs to see that it runs.
    pub(super) status: &'static str,
    /// Advice for a server without a certificate of a public CA.
    pub(super) pins: &'static str,
    /// Advice for a server that looks like one of the other kind; an authority does not look like one of Teleport.
    pub(super) protocol: Option<&'static str>,
}

/// What a Teleport Proxy needs of the configuration.
pub(super) const PROXY: &str = "a Teleport Proxy is given as `proxy_server`, without `ca_pins` and `ca_path`: the system's CAs verify it";

impl Wording {
    /// The advice of a failure that a server of the other kind causes too.
    pub(super) fn or_other_protocol(&self, advice: &str) -> String {
        self.protocol.map_or_else(|| advice.to_owned(), |protocol| format!("{advice}; {protocol}"))
    }
}

pub(super) static AUTHORITY: Wording = Wording {
    name: "the authority",
    whose: "the authority's",
    role: "the authority",
    status: "`authority status` on its host",
    pins: "give the cluster's `ca_pins` (`authority status` shows them)",
    protocol: Some("if it is a Teleport cluster's, set `protocol` to `auto` or `teleport`"),
};

pub(super) static TELEPORT: Wording = Wording {
    name: "the Teleport cluster",
    whose: "the Teleport cluster's",
    role: "a server of the Teleport cluster",
    status: "`tctl status` on the cluster",
    pins: "give `ca_pins` (`tctl status` shows them) if the address is an Auth Service's",
    protocol: None,
};
