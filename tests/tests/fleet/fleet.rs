//! Hosts that join, renew and ask for certificates all the time, and a ledger of what was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::daemon::machine::{Machine, backoff};
use anyhow::{Context, Result, bail, ensure};
use host::exit::Failure;
use proto::v1::IssuedCredentials;
use serde_json::Value;
use tests::world::token;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::cluster::{Cluster, Node, TIMEOUT, TOKEN};
use super::host::{Call, Host, is_transient};

/// The part of the measured rate at which the fleet works while something fails.
const LOAD: f64 = 0.7;

/// What the hosts are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// A call, then this pause before the next.
    Work(Duration),
    /// Finish the call, and wait.
    Rest,
    End,
}

pub(crate) struct Fleet {
    order: watch::Sender<Order>,
    shared: Arc<Shared>,
    hosts: JoinSet<(usize, Host)>,
    ek_hashes: Vec<String>,
    life: &'static [Call],
}

struct Shared {
    ledger: Mutex<Ledger>,
    resting: AtomicUsize,
}

/// What the authorities have acknowledged, and what they should not have answered.
#[derive(Default)]
struct Ledger {
    /// By instance.
    instances: BTreeMap<String, Acknowledged>,
    /// How many calls were granted to each host.
    granted: Vec<u64>,
    /// Hosts that an operator removes, and since when the removal is acknowledged.
    removed: BTreeMap<usize, Option<Instant>>,
    /// How often a removed host was refused.
    refused: u64,
    /// Failures that a host has got over, by reason.
    failures: BTreeMap<String, u64>,
    /// What must not happen.
    wrong: Vec<String>,
    /// From the first attempt to the grant.
    longest: Duration,
}

/// What an instance was granted.
#[derive(Default)]
struct Acknowledged {
    generation: u64,
    /// Certificates, of it or of a service.
    calls: u64,
}

impl Ledger {
    /// Takes note of an answer to a host, who may have been removed before it asked. Returns whether it was granted.
    fn note(
        &mut self,
        number: usize,
        call: Call,
        answer: Result<IssuedCredentials, Failure>,
        was_removed: bool,
        waited: Duration,
    ) -> bool {
        let failure = match answer {
            Ok(issued) => {
                if was_removed {
                    self.wrong.push(format!("host {number} was removed, and {call:?} granted"));
                }
                let instance = self.instances.entry(issued.instance).or_default();
                instance.generation = issued.generation.max(instance.generation);
                instance.calls += 1;
                self.granted[number] += 1;
                self.longest = self.longest.max(waited);
                return true;
            }
            Err(failure) => failure,
        };
        if is_transient(&failure) {
            *self.failures.entry(failure.message).or_default() += 1;
        } else if self.removed.contains_key(&number) {
            self.refused += 1;
        } else {
            self.wrong.push(format!("host {number}, {call:?}: {failure:?}"));
        }
        false
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet {
    /// Hosts that a token of the cluster lets in. Half of them begin with each authority. Each joins, and then makes these calls, again
    /// and again.
    pub(crate) async fn start(
        cluster: &Cluster,
        size: usize,
        life: &'static [Call],
    ) -> Result<Self> {
        let (addresses, trust) = (Arc::from(cluster.addresses()), cluster.trust()?);
        let new = |number| Host::new(Arc::clone(&addresses), number % 2, trust.clone());
        let hosts: Vec<Host> = (0..size).map(new).collect();
        let ek_hashes: Vec<String> = hosts.iter().map(|host| host.tpm.ek_hash()).collect();
        let rule = |hash: &String| format!("- ek_public_hash: {hash}\n");
        let rules: String = ek_hashes.iter().map(rule).collect();
        cluster.nodes[0].create(&token(TOKEN, &rules, &[]))?;
        let (order, orders) = watch::channel(Order::Work(Duration::ZERO));
        let ledger = Ledger { granted: vec![0; size], ..Ledger::default() };
        let shared = Arc::new(Shared { ledger: Mutex::new(ledger), resting: AtomicUsize::new(0) });
        let mut running = JoinSet::new();
        for (number, host) in hosts.into_iter().enumerate() {
            running.spawn(live(number, host, life, orders.clone(), Arc::clone(&shared)));
        }
        Ok(Self { order, shared, hosts: running, ek_hashes, life })
    }

    /// Measures for so long how many calls a second the cluster answers, and goes on at [`LOAD`] of it.
    pub(crate) async fn measure(&self, time: Duration) -> f64 {
        self.order.send_replace(Order::Work(Duration::ZERO));
        let before = self.granted();
        sleep(time).await;
        let rate = (self.granted() - before) as f64 / time.as_secs_f64();
        let pause = Duration::from_secs_f64(self.ek_hashes.len() as f64 / (rate * LOAD).max(0.1));
        self.order.send_replace(Order::Work(pause));
        rate
    }

    pub(crate) fn granted(&self) -> u64 {
        self.shared.ledger().granted.iter().sum()
    }

    /// Waits until each host that may has been granted a whole life of calls since now.
    pub(crate) async fn until_each_is_served(&self) -> Result<Duration> {
        let begin = Instant::now();
        let before = self.shared.ledger().granted.clone();
        let left = || {
            let ledger = self.shared.ledger();
            let hosts = ledger.granted.iter().zip(&before).enumerate();
            let waits = |(number, (now, before)): &(usize, (&u64, &u64))| {
                !ledger.removed.contains_key(number) && **now < **before + self.life.len() as u64
            };
            hosts.filter(waits).map(|(number, _)| number).collect::<Vec<_>>()
        };
        while !left().is_empty() {
            ensure!(begin.elapsed() < TIMEOUT * 3, "hosts that are not served: {:?}", left());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(begin.elapsed())
    }

    /// Has an operator remove a host, at this authority, while the fleet works.
    pub(crate) async fn remove(&self, number: usize, node: &Node) -> Result<()> {
        self.shared.ledger().removed.insert(number, None);
        let lock = ["lock", "--ek", &self.ek_hashes[number], "--message", "drill"];
        let deadline = Instant::now() + TIMEOUT;
        // An operator repeats it until it is done.
        while let Err(error) = tokio::task::block_in_place(|| node.authority(&lock)?.success()) {
            ensure!(Instant::now() < deadline, "the host cannot be locked: {error:#}");
            sleep(Duration::from_millis(100)).await;
        }
        self.shared.ledger().removed.insert(number, Some(Instant::now()));
        Ok(())
    }

    /// Waits until no call is under way, and shows what there is to show.
    async fn rest(&self) -> Result<()> {
        self.order.send_replace(Order::Rest);
        let resting = async {
            while self.shared.resting.load(Ordering::SeqCst) < self.ek_hashes.len() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(TIMEOUT, resting).await.context("calls that do not end")
    }

    /// Nothing that was acknowledged is missing at either authority, nothing that was issued is not in the log, and no removed host
    /// was let in. The fleet rests meanwhile, and goes on.
    pub(crate) async fn check(&self, cluster: &Cluster) -> Result<()> {
        let order = *self.order.borrow();
        self.rest().await?;
        tokio::task::block_in_place(|| self.compare(cluster))?;
        self.order.send_replace(order);
        Ok(())
    }

    fn compare(&self, cluster: &Cluster) -> Result<()> {
        let ledger = self.shared.ledger();
        ensure!(ledger.wrong.is_empty(), "{:#?}", ledger.wrong);
        let mut logs = Vec::new();
        for node in &cluster.nodes {
            let instances = node.list("bot_instances")?;
            let of = |instance: &Value| {
                let id = instance["spec"]["instance_id"].as_str().unwrap_or_default().to_owned();
                (id, instance["status"]["generation"].as_u64().unwrap_or_default())
            };
            let stored: BTreeMap<String, u64> = instances.iter().map(of).collect();
            // Of each instance: how often it is in the log as joined, and how many certificates it got.
            let mut logged: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            for entry in node.log_entries()? {
                let is_grant =
                    ["bot.join", "bot.renew", "bot.issue"].map(|of| entry["event"] == of);
                if entry["outcome"] == "granted" && is_grant.contains(&true) {
                    let id = entry["bot_instance_id"].as_str().context("of whom?")?.to_owned();
                    let (joins, calls) = logged.entry(id).or_default();
                    *joins += u64::from(entry["event"] == "bot.join");
                    *calls += 1;
                }
            }
            ensure!(logged.keys().eq(stored.keys()), "the instances are not those of the log");
            ensure!(logged.values().all(|(joins, _)| *joins == 1), "{logged:?}");
            for (instance, Acknowledged { generation, calls }) in &ledger.instances {
                let found = stored.get(instance).copied().unwrap_or_default();
                ensure!(
                    found >= *generation,
                    "{instance}: {generation} acknowledged, {found} stored"
                );
                let (_, found) = logged.get(instance).copied().unwrap_or_default();
                ensure!(found >= *calls, "{instance}: {calls} acknowledged, {found} in the log");
            }
            logs.push(node.verify_log()?);
        }
        // Hosts that are not simulated may have gone on meanwhile.
        let [first, second] = &logs[..] else { bail!("two authorities") };
        let sizes = |logs: &Value| {
            let size = |log: &Value| (log["log"].to_string(), log["size"].as_u64());
            logs.as_array().map(|logs| logs.iter().map(size).collect::<BTreeMap<_, _>>())
        };
        let (first, second) = (sizes(first).context("logs")?, sizes(second).context("logs")?);
        ensure!(first.len() == 2 && first.keys().eq(second.keys()), "{first:?} {second:?}");
        let is_shorter = |(first, second): (_, _)| second < first;
        ensure!(!first.values().zip(second.values()).any(is_shorter), "{first:?} {second:?}");
        Ok(())
    }

    /// No call had to be repeated.
    pub(crate) fn assert_no_failure(&self) -> Result<()> {
        let ledger = self.shared.ledger();
        ensure!(ledger.failures.is_empty(), "{:#?}", ledger.failures);
        Ok(())
    }

    /// What happened, for people.
    pub(crate) fn report(&self) -> String {
        let ledger = self.shared.ledger();
        let (granted, longest) = (ledger.granted.iter().sum::<u64>(), ledger.longest);
        format!(
            "{granted} calls granted, {} instances, the longest wait {longest:.1?}, {} refusals of removed hosts; got over: {:#?}",
            ledger.instances.len(),
            ledger.refused,
            ledger.failures
        )
    }

    /// Ends the fleet. Each removed host is refused by each authority, whatever it asks for.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.order.send_replace(Order::End);
        while let Some(ended) = self.hosts.join_next().await {
            let (number, mut host) = ended?;
            if !self.shared.ledger().removed.contains_key(&number) {
                continue;
            }
            for first in [0, 1] {
                for call in [Call::Renew, Call::Issue, Call::Join] {
                    refused_at(number, &mut host, first, call).await?;
                }
            }
        }
        Ok(())
    }
}

/// Waits until this authority refuses a host that was removed.
async fn refused_at(number: usize, host: &mut Host, first: usize, call: Call) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        host.first = first;
        let Err(failure) = host.call(call).await else {
            bail!("host {number} was removed, and {call:?} is granted");
        };
        // The next address was asked if this one was not available.
        if host.first == first && !is_transient(&failure) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "host {number}, {call:?}: {failure:?}");
    }
}

/// The life of a host.
async fn live(
    number: usize,
    mut host: Host,
    life: &'static [Call],
    mut orders: watch::Receiver<Order>,
    shared: Arc<Shared>,
) -> (usize, Host) {
    for call in [Call::Join].iter().chain(life.iter().cycle()).copied() {
        let (begin, mut failures) = (Instant::now(), 0);
        loop {
            if !ready(&mut orders, &shared).await {
                return (number, host);
            }
            let was_removed = matches!(shared.ledger().removed.get(&number), Some(Some(_)));
            let answer = host.call(call).await;
            let is_refused = answer.as_ref().is_err_and(|failure| !is_transient(failure));
            if shared.ledger().note(number, call, answer, was_removed, begin.elapsed()) {
                break;
            }
            if is_refused {
                // The other authority is to refuse it too.
                host.first = (host.first + 1) % 2;
            }
            failures += 1;
            let pause_after = backoff(failures, Machine::MAX_TRANSIENT_BACKOFF, random());
            pause(&mut orders, pause_after).await;
        }
        let order = *orders.borrow_and_update();
        if let Order::Work(time) = order {
            pause(&mut orders, time).await;
        }
    }
    (number, host)
}

/// Waits while the fleet rests. Returns whether it goes on.
async fn ready(orders: &mut watch::Receiver<Order>, shared: &Shared) -> bool {
    loop {
        let order = *orders.borrow_and_update();
        match order {
            Order::Work(_) => return true,
            Order::End => return false,
            Order::Rest => {}
        }
        shared.resting.fetch_add(1, Ordering::SeqCst);
        let changed = orders.changed().await;
        shared.resting.fetch_sub(1, Ordering::SeqCst);
        if changed.is_err() {
            return false;
        }
    }
}

fn random() -> u8 {
    let mut byte = [0];
    tpm2::crypto::random(&mut byte).expect("the system's random numbers");
    byte[0]
}

/// Waits so long, or until there is another order.
async fn pause(orders: &mut watch::Receiver<Order>, time: Duration) {
    let _ = timeout(time, orders.changed()).await;
}
