//! CAs are replaced under a fleet: hosts that are awake notice nothing, and no other is lost.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::world::token;
use tokio::task::block_in_place;
use tokio::time::{Duration, Instant, sleep};

use super::agent::Agent;
use super::cluster::{Cluster, Node, TIMEOUT};
use super::fleet::Fleet;
use super::host::Call;

/// Simulated hosts, and real ones that are awake.
#[derive(Clone, Copy)]
struct Scale {
    hosts: usize,
    awake: usize,
    types: &'static [&'static str],
}

const SHORT: Scale = Scale { hosts: 10, awake: 1, types: &["all"] };
const LONG: Scale = Scale { hosts: 100, awake: 3, types: &TYPES };

const TYPES: [&str; 4] = ["x509", "ssh", "ssh_host", "jwt"];

/// How many types these are.
fn all(types: &str) -> usize {
    if types == "all" { TYPES.len() } else { 1 }
}

/// What the simulated hosts do once they have joined.
const LIFE: [Call; 2] = [Call::Renew, Call::Issue];

/// The token of the real hosts.
const TOKEN: &str = "agents";

/// All that takes part.
struct Stage {
    cluster: Cluster,
    fleet: Fleet,
    awake: Vec<Agent>,
    /// A host that has yet to join.
    middle: Option<Agent>,
    /// How many hosts with valid certificates sleep.
    sleepers: u64,
    /// How many milliseconds after a step begins its authority is killed.
    delay: u64,
}

impl Stage {
    /// The CAs of these types as this authority lists them.
    fn cas(&self, node: &Node, types: &str) -> Result<Vec<Value>> {
        let said = node.authority(&["ca", "status", "--format", "json"])?.success()?;
        let all: Vec<Value> = serde_json::from_str(&said)?;
        Ok(all.into_iter().filter(|ca| types == "all" || ca["type"] == types).collect())
    }

    /// How many CAs of these types have this state, at one of the authorities.
    fn count(&self, which: usize, types: &str, state: &str) -> Result<usize> {
        let node = &self.cluster.nodes[which];
        let cas = block_in_place(|| self.cas(node, types))?;
        Ok(cas.iter().filter(|ca| ca["state"] == state).count())
    }

    /// Takes a step at the first authority, which is killed meanwhile or just afterwards: the step is taken or not, and is repeated
    /// if not. There is one CA of each type in `state` in the end.
    async fn step(&mut self, types: &str, step: &[&str], state: &str, count: usize) -> Result<()> {
        let arguments = [&["ca"], step, &["--type", types]].concat();
        // From one that is cut off to one that has answered.
        self.delay = (self.delay + 37) % 150;
        let delay = Duration::from_millis(self.delay);
        block_in_place(|| {
            let [node, _] = &mut self.cluster.nodes;
            let mut command = node.command(&arguments).spawn()?;
            std::thread::sleep(delay);
            node.kill();
            command.wait()?;
            node.start()
        })?;
        // Of several types some may have been changed.
        for ca_type in TYPES.iter().filter(|ca_type| ["all", **ca_type].contains(&types)) {
            if self.count(0, ca_type, state)? != count / all(types) {
                let arguments = [&["ca"], step, &["--type", ca_type]].concat();
                let said = block_in_place(|| self.cluster.nodes[0].authority(&arguments))?;
                said.success().with_context(|| format!("{arguments:?}"))?;
            }
        }
        let deadline = Instant::now() + TIMEOUT;
        for which in [0, 1] {
            while self.count(which, types, state)? != count {
                ensure!(Instant::now() < deadline, "{arguments:?}: not {count} {state}");
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Waits until only the sleepers do not have the next CAs.
    async fn until_ready(&self, types: &str) -> Result<()> {
        for agent in &self.awake {
            // A renewal reports what the one before has brought.
            agent.renew().await?;
        }
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let cas = block_in_place(|| self.cas(&self.cluster.nodes[1], types))?;
            let is_ready = |ca: &&Value| {
                ca["authorities_behind"].as_array().is_some_and(Vec::is_empty)
                    && (ca["type"] == "jwt" || ca["instances_behind"] == self.sleepers)
            };
            let mut next = cas.iter().filter(|ca| ca["state"] == "next");
            if next.all(|ca| is_ready(&ca)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{cas:#?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Everybody awake has been served, and trusts as many CAs.
    async fn settle(&self, cas: usize) -> Result<()> {
        self.fleet.until_each_is_served().await?;
        for agent in &self.awake {
            agent.renew().await?;
            agent.until_it_trusts(cas).await?;
        }
        self.fleet.check(&self.cluster).await?;
        self.fleet.assert_no_failure()
    }

    /// Next, active, retired and gone. A host joins in the middle.
    async fn rotate(&mut self, types: &str) -> Result<()> {
        let is_x509 = ["x509", "all"].contains(&types);
        let [before, between] = if is_x509 { [1, 2] } else { [1, 1] };
        let all = all(types);
        self.step(types, &["prepare"], "next", all).await?;
        self.settle(between).await?;
        self.until_ready(types).await?;
        if let Some(mut middle) = self.middle.take() {
            middle.start(&self.cluster, TOKEN, &self.cluster.nodes[0].pin)?;
            middle.until_it_trusts(between).await?;
            self.awake.push(middle);
        }
        let plain = ["ca", "activate", "--type", types];
        let said = block_in_place(|| self.cluster.nodes[1].authority(&plain))?;
        ensure!(said.code == Some(1), "it does not wait for who sleeps: {said:?}");
        self.step(types, &["activate", "--force", "--yes"], "retired", all).await?;
        self.settle(between).await?;
        // Twice: the certificates of each are of the new CA.
        self.settle(between).await?;
        self.step(types, &["retire", "--force", "--yes"], "retired", 0).await?;
        self.settle(before).await
    }
}

async fn rotation(scale: Scale) -> Result<()> {
    let Some(cluster) = Cluster::start().await? else { return Ok(()) };
    let agents = |what: &'static str, count| (0..count).map(move |i| format!("{what} {i}"));
    let named = agents("awake", scale.awake).map(|name| Agent::new(&name));
    let mut awake = named.collect::<Result<Vec<_>>>()?;
    let [mut asleep, mut off, mut late, middle] =
        [Agent::new("asleep")?, Agent::new("off")?, Agent::new("old pin")?, Agent::new("middle")?];
    let all = awake.iter().chain([&asleep, &off, &late, &middle]);
    let rules = all.map(Agent::rule).collect::<Result<String>>()?;
    cluster.nodes[0].create(&token(TOKEN, &rules, &[]))?;
    let first_pin = cluster.nodes[0].pin.clone();
    for agent in awake.iter_mut().chain([&mut asleep, &mut off]) {
        agent.start(&cluster, TOKEN, &first_pin)?;
    }
    for agent in awake.iter().chain([&asleep, &off]) {
        agent.until_it_trusts(1).await?;
        agent.renew().await?;
    }
    asleep.signal("-STOP")?;
    off.kill();
    let fleet = Fleet::start(&cluster, scale.hosts, &LIFE).await?;
    fleet.until_each_is_served().await?;
    let rate = fleet.measure(Duration::from_secs(2)).await;
    println!("{rate:.1} calls/s measured with {} hosts", scale.hosts);
    let mut stage = Stage { cluster, fleet, awake, middle: Some(middle), sleepers: 2, delay: 0 };
    for types in scale.types {
        stage.rotate(types).await.with_context(|| format!("rotation of {types}"))?;
        println!("{types} rotated; {}", stage.fleet.report());
    }
    ensure!(stage.cluster.nodes[0].pin != first_pin, "the CA is the same");

    let before = [&asleep, &off, &late].map(Agent::received);
    asleep.signal("-CONT")?;
    asleep.signal("-USR1")?;
    off.start(&stage.cluster, TOKEN, &first_pin)?;
    late.start(&stage.cluster, TOKEN, &first_pin)?;
    off.until_ready(2).await?;
    off.signal("-USR1")?;
    for (agent, before) in [&asleep, &off, &late].into_iter().zip(before) {
        agent.until_received(before).await?;
        agent.until_it_trusts(1).await?;
    }
    let retired = "none of its present CAs has issued it";
    ensure!(off.log().contains(retired), "{}", off.log());
    for agent in &stage.awake {
        ensure!(agent.count(" WARN ") == 0, "{}", agent.log());
    }
    stage.fleet.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute; cargo xtask drills"]
async fn cas_are_replaced_under_a_fleet_without_a_failed_host() -> Result<()> {
    rotation(SHORT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; cargo xtask drills"]
async fn each_ca_is_replaced_under_a_hundred_hosts() -> Result<()> {
    rotation(LONG).await
}
