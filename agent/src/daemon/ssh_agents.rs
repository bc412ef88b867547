//! The sockets on which programs use the keys of services: agents of the SSH agent protocol.

use std::fmt::Display;

use host::exit::{Exit, Failure};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::bound_socket::BoundSocket;
use super::health::Health;
use super::timestamp;
use crate::attest::{Attestor, Reader};
use crate::config::{AgentSocket, ServiceKind, ServiceName};
use crate::credential::cache::Watch;
use crate::log::Log;
use crate::parts;
use crate::ssh_agent::{Gate, LIMITS, Offered, Purpose, SshAgent};

/// Serves the agents, in a task of its own, until it is dropped.
pub(super) struct SshAgents {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

/// What to serve.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) agents: Vec<Agent>,
    /// Who reads executables, if rules are about them.
    pub(super) reader: Option<Reader>,
    pub(super) log: Log,
}

/// The agent of a service.
#[derive(Clone)]
pub(super) struct Agent {
    pub(super) name: ServiceName,
    pub(super) socket: AgentSocket,
    pub(super) purpose: Purpose,
    pub(super) offers: Watch<Offered>,
}

/// An agent that is served.
struct Open {
    agent: Agent,
    socket: BoundSocket,
    _server: SshAgent,
}

/// The agents, as far as they can be served.
#[derive(Default)]
struct Served {
    open: Vec<Open>,
}

impl Agent {
    /// Of a service, if it has one.
    pub(super) fn of(
        name: &ServiceName,
        kind: &ServiceKind,
        offers: Watch<Offered>,
    ) -> Option<Self> {
        let purpose = match kind {
            ServiceKind::SshHost(_) => Purpose::Host,
            _ => Purpose::User,
        };
        let socket = kind.agent()?.clone();
        Some(Self { name: name.clone(), socket, purpose, offers })
    }

    /// Whether an open agent serves the same. A service that was removed meanwhile has other offers.
    fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.socket, self.purpose) == (&other.name, &other.socket, other.purpose)
            && self.offers.same_channel(&other.offers)
    }
}

impl SshAgents {
    /// Opens the sockets, and serves them from then on: what is started after the agent finds them. `health` learns how it goes.
    pub(super) async fn begin(wanted: Wanted, health: Health) -> Self {
        let mut served = Served::default();
        served.serve(&wanted, &health).await;
        let (wanted, mut changes) = watch::channel(wanted);
        let task = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let wanted = changes.borrow_and_update().clone();
                served.serve(&wanted, &health).await;
            }
        });
        Self { wanted, task }
    }

    /// Whether a key from before is offered to an sshd.
    pub(super) fn offer_host_key(&self) -> bool {
        let is_offered = |agent: &Agent| agent.offers.borrow().is_some();
        let wanted = self.wanted.borrow();
        wanted.agents.iter().any(|agent| agent.purpose == Purpose::Host && is_offered(agent))
    }

    /// Serves these from now on. The connections of agents that stay the same stay.
    pub(super) fn serve(&self, wanted: Wanted) {
        self.wanted.send_replace(wanted);
    }

    /// Looks at the sockets: one that was removed is made again, and so is one that could not be made.
    pub(super) fn check(&self) {
        self.wanted.send_if_modified(|wanted| !wanted.agents.is_empty());
    }
}

impl Drop for SshAgents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    /// Closes what is not wanted any more, and opens what is not open.
    async fn serve(&mut self, wanted: &Wanted, health: &Health) {
        self.open.retain_mut(|one| {
            one.socket.is_there() && wanted.agents.iter().any(|agent| one.agent.is_same(agent))
        });
        for agent in &wanted.agents {
            if self.open.iter().any(|one| one.agent.is_same(agent)) {
                continue;
            }
            let name = agent.name.as_str();
            match Open::new(agent, wanted).await {
                Ok(opened) => {
                    self.open.push(opened);
                    health.socket_opened(name);
                    let path = agent.socket.socket.path.display();
                    let fields: [(&str, &dyn Display); 2] = [("name", &name), ("socket", &path)];
                    wanted.log.info("serving an SSH agent", &fields);
                }
                Err(failure) => {
                    health.socket_failed(name, &failure, &timestamp());
                    let fields: [(&str, &dyn Display); 3] = [
                        ("name", &name),
                        ("reason", &failure.message),
                        ("advice", &failure.advice),
                    ];
                    wanted.log.warn("cannot serve an SSH agent", &fields);
                }
            }
        }
    }
}

impl Open {
    async fn new(agent: &Agent, wanted: &Wanted) -> Result<Self, Failure> {
        let AgentSocket { socket, rules } = &agent.socket;
        let needs_executable = rules.need_executable();
        if needs_executable && wanted.reader.is_none() {
            // Its process begins before the agent has threads.
            let what = "rules about executables take effect at the next start";
            return Err(Failure::new(Exit::Config, what, "restart the agent"));
        }
        let (bound, listener) = BoundSocket::bind(socket).await?;
        // Nothing of what follows is in a build without it.
        if !parts::SSH_AGENT.is_built {
            return Err(parts::SSH_AGENT.refusal());
        }
        let attestor = Attestor::new(wanted.reader.clone().filter(|_| needs_executable));
        let gate = Gate { rules: rules.clone(), attestor };
        let named = (agent.name.to_string(), agent.purpose);
        let offers = agent.offers.clone();
        let server = SshAgent::serve(listener, named, offers, gate, LIMITS, wanted.log);
        Ok(Self { agent: agent.clone(), socket: bound, _server: server })
    }
}
