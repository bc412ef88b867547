//! Slots for connections: limited in total, and shared fairly between sources.
//!
//! A connection is *unproven* until its peer has shown a certificate of the cluster, and *known* from
//! then on. Each class has its own slots, so that unproven peers cannot take those of hosts that have
//! joined. When a class is full and a new connection comes from a source with fewer connections than the largest one, the oldest
//! connection of the largest source is closed. Otherwise a connection is closed only if it has kept the authority waiting for a
//! while; if none has, the new connection is closed, so that many hosts behind one address are served in order.

mod limits;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

pub(super) use self::limits::Limits;
use crate::metrics::Metrics;
use crate::service::{self, Source};

/// A connection with a join in progress may be closed after this time, for one that needs its slot: a TPM may take seconds for
/// its answer.
const JOIN_EXPENDABLE_AFTER: Duration = Duration::from_secs(10);

/// An unproven connection is closed after this time without a join.
const UNPROVEN_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Calls on one unproven connection: a join, and another that shows more certificates. Each may cost
/// the authority milliseconds.
const MAX_UNPROVEN_CALLS: u32 = 2;

/// Joins in progress on one connection: one, and another that begins while the first one ends.
const MAX_JOINS: u32 = 2;

/// How long the authority reports saturation after a connection was closed because a limit was reached.
const SATURATION_REPORT: Duration = Duration::from_secs(60);

/// Whether the peer has presented a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Unproven,
    Known,
}

/// The slots of one listener.
pub(super) struct Slots {
    limits: Limits,
    metrics: Arc<Metrics>,
    sockets: Arc<Semaphore>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    next: u64,
    peers: HashMap<Source, Peers>,
    unproven: usize,
    known: usize,
    unproven_joins: usize,
    known_joins: usize,
    last_full: Option<Instant>,
}

/// The connections of one source.
struct Peers {
    entries: HashMap<u64, Entry>,
    joins: usize,
}

struct Entry {
    class: Class,
    entered: Instant,
    /// Since when the authority waits for the peer; `None` while the peer waits for the authority.
    waiting_since: Option<Instant>,
    /// When the connection is closed.
    deadline: Option<Instant>,
    joins: u32,
    calls: u32,
    /// Taken when the connection is asked to close; it is no longer counted from then on.
    evict: Option<oneshot::Sender<()>>,
}

/// The source whose connection may be closed to make room for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heaviest {
    /// A source with more connections than the new connection's source would have.
    Heavier(Source),
    /// A source without more.
    Equal(Source),
}

/// The slot of one connection; freed when dropped.
pub(super) struct Slot(SlotRef);

/// Names a slot without holding it.
#[derive(Clone)]
pub(crate) struct SlotRef {
    id: u64,
    source: Source,
    slots: Arc<Slots>,
}

/// A join in progress, counted until the value is dropped.
pub(crate) struct JoinSlot {
    slot: SlotRef,
    class: Class,
}

impl Slots {
    pub(super) fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        metrics.connections.limits(limits.connections, limits.joins);
        let sockets = Arc::new(Semaphore::new(limits.sockets));
        Arc::new(Self { limits, metrics, sockets, held: Mutex::default() })
    }

    /// Accepts a connection once there is a socket for it: connections that were asked to close take
    /// no files from other listeners. The permit goes with the socket.
    pub(super) async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.sockets).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, remote) = listener.accept().await?;
        Ok((stream, remote, permit))
    }

    /// Takes a slot for a new connection. The receiver completes when the connection must be closed; `None` if it must be closed
    /// immediately.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Option<(Slot, oneshot::Receiver<()>)> {
        let source = Source::of(address);
        let mut held = self.held();
        if !self.make_room(&mut held, Class::Unproven, source, now) {
            return None;
        }
        let (evict, evicted) = oneshot::channel();
        let id = held.next;
        held.next = id.wrapping_add(1);
        held.unproven += 1;
        let peers =
            held.peers.entry(source).or_insert_with(|| Peers { entries: HashMap::new(), joins: 0 });
        let entry = Entry {
            class: Class::Unproven,
            entered: now,
            waiting_since: Some(now),
            deadline: Some(now + UNPROVEN_IDLE_TIMEOUT),
            joins: 0,
            calls: 0,
            evict: Some(evict),
        };
        peers.entries.insert(id, entry);
        self.publish(&held);
        Some((Slot(SlotRef { id, source, slots: Arc::clone(self) }), evicted))
    }

    /// Closes what is over its deadline.
    pub(super) fn sweep(&self, now: Instant) {
        let mut held = self.held();
        let Held { peers, unproven, known, .. } = &mut *held;
        for entry in peers.values_mut().flat_map(|peers| peers.entries.values_mut()) {
            if entry.deadline.is_some_and(|deadline| deadline <= now) && entry.close() {
                self.metrics.connections.expired();
                let count = if entry.class == Class::Known { &mut *known } else { &mut *unproven };
                *count = count.saturating_sub(1);
            }
        }
        if held
            .last_full
            .is_some_and(|full| now.saturating_duration_since(full) > SATURATION_REPORT)
        {
            held.last_full = None;
        }
        self.publish(&held);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more connection of this class and source; `false` if that is not possible.
    fn make_room(&self, held: &mut Held, class: Class, newcomer: Source, now: Instant) -> bool {
        let taken = match class {
            Class::Unproven => held.unproven,
            Class::Known => held.known,
        };
        if taken < self.limits.connections {
            return true;
        }
        held.is_full(now, self.limits.listener, class, "connections");
        let evicted = held.evict(class, newcomer, self.limits.expendable_after, now);
        if evicted {
            self.metrics.connections.evicted();
        } else {
            self.metrics.connections.turned_away();
        }
        evicted
    }

    fn publish(&self, held: &Held) {
        let full = held.last_full.is_some();
        let joins = held.unproven_joins + held.known_joins;
        self.metrics.connections.now(held.unproven, held.known, joins, full);
    }
}

impl Held {
    /// The source with the most connections of a class.
    fn heaviest(&self, class: Class, newcomer: Source) -> Option<Heaviest> {
        let weight = |peers: &Peers| peers.entries.values().filter(|entry| entry.is(class)).count();
        let all = self.peers.iter().map(|(source, peers)| (weight(peers), *source));
        let (most, source) = all.max_by_key(|(weight, _)| *weight)?;
        let own = self.peers.get(&newcomer).map_or(0, weight);
        Some(if own + 1 < most {
            Heaviest::Heavier(source)
        } else {
            Heaviest::Equal(if own == most { newcomer } else { source })
        })
    }

    /// Closes a connection of the class to make room, if one may be closed. Its slot is free immediately.
    fn evict(&mut self, class: Class, newcomer: Source, grace: Duration, now: Instant) -> bool {
        let Some(heaviest) = self.heaviest(class, newcomer) else { return false };
        let (Heaviest::Heavier(source) | Heaviest::Equal(source)) = heaviest;
        let Some(peers) = self.peers.get_mut(&source) else { return false };
        let entries = peers.entries.values_mut().filter(|entry| entry.is(class));
        let expendable =
            entries.filter_map(|entry| Some((entry.expendable_from(heaviest, grace)?, entry)));
        let Some((from, entry)) = expendable.min_by_key(|(from, _)| *from) else { return false };
        if from > now || !entry.close() {
            return false;
        }
        let count = if class == Class::Known { &mut self.known } else { &mut self.unproven };
        *count = count.saturating_sub(1);
        true
    }

    /// Records that a limit was reached.
    fn is_full(&mut self, now: Instant, listener: &str, class: Class, kind: &str) {
        if self.last_full.is_none() {
            tracing::warn!(listener, ?class, kind, "the connection limit is reached");
        }
        self.last_full = Some(now);
    }

    fn joins_of(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Unproven => &mut self.unproven_joins,
            Class::Known => &mut self.known_joins,
        }
    }

    /// A source without connections and joins needs no memory.
    fn forget_if_empty(&mut self, source: Source) {
        if self.peers.get(&source).is_some_and(|peers| peers.entries.is_empty() && peers.joins == 0)
        {
            self.peers.remove(&source);
        }
    }
}

impl Entry {
    /// Of this class, and not yet asked to close.
    fn is(&self, class: Class) -> bool {
        self.class == class && self.evict.is_some()
    }

    /// False if it was asked before.
    fn close(&mut self) -> bool {
        let Some(evict) = self.evict.take() else { return false };
        // An error means that the connection has just gone by itself.
        let _ = evict.send(());
        true
    }

    /// The time after which the connection may be closed to make room.
    fn expendable_from(&self, heaviest: Heaviest, grace: Duration) -> Option<Instant> {
        match heaviest {
            Heaviest::Heavier(_) => Some(self.waiting_since.unwrap_or(self.entered)),
            Heaviest::Equal(_) if self.joins > 0 => {
                Some(self.waiting_since? + JOIN_EXPENDABLE_AFTER)
            }
            Heaviest::Equal(_) => Some(self.waiting_since? + grace),
        }
    }
}

impl Slot {
    pub(super) fn reference(&self) -> SlotRef {
        self.0.clone()
    }

    /// The peer waits for the authority to compute its handshake.
    pub(super) fn set_computing(&self) {
        self.0.entry(|entry| (entry.waiting_since, entry.deadline) = (None, None));
    }

    /// The authority waits for the peer until `deadline`.
    pub(super) fn set_waiting(&self, now: Instant, deadline: Instant) {
        self.0.entry(|entry| {
            (entry.waiting_since, entry.deadline) = (Some(now), Some(deadline));
        });
    }

    /// The handshake is done. A peer with a verified certificate is known from now on; false if
    /// there is no slot for it.
    pub(super) fn handshake_done(&self, known: bool, now: Instant) -> bool {
        if !known {
            self.set_waiting(now, now + UNPROVEN_IDLE_TIMEOUT);
            return true;
        }
        let SlotRef { source, slots, .. } = &self.0;
        let mut held = slots.held();
        if !slots.make_room(&mut held, Class::Known, *source, now) {
            return false;
        }
        let Held { peers, unproven, known, .. } = &mut *held;
        let entry = peers.get_mut(source).and_then(|peers| peers.entries.get_mut(&self.0.id));
        let Some(entry) = entry.filter(|entry| entry.evict.is_some()) else { return false };
        entry.class = Class::Known;
        (entry.waiting_since, entry.deadline) = (Some(now), None);
        *unproven = unproven.saturating_sub(1);
        *known += 1;
        slots.publish(&held);
        true
    }
}

impl service::peer::JoinSlots for SlotRef {
    fn begin_join(&self) -> Option<Box<dyn Send>> {
        Some(Box::new(self.begin_join()?))
    }
}

impl SlotRef {
    /// Whether the connection may make another call. An unproven one may make a few, and is closed
    /// when it makes more.
    pub(crate) fn call(&self) -> bool {
        let mut held = self.slots.held();
        let Held { peers, unproven, .. } = &mut *held;
        let entry = peers.get_mut(&self.source).and_then(|peers| peers.entries.get_mut(&self.id));
        let Some(entry) = entry else { return false };
        entry.calls = entry.calls.saturating_add(1);
        if entry.class == Class::Known || entry.calls <= MAX_UNPROVEN_CALLS {
            return true;
        }
        self.slots.metrics.connections.too_many_calls();
        if entry.close() {
            *unproven = unproven.saturating_sub(1);
            self.slots.metrics.connections.expired();
            self.slots.publish(&held);
        }
        false
    }

    /// Counts a call that was refused because of what the connection has cost.
    pub(crate) fn count_too_costly_call(&self) {
        self.slots.metrics.connections.too_costly_call();
    }

    /// Begins a join; `None` if too many are in progress: in its class, of this source, or on this connection.
    pub(crate) fn begin_join(&self) -> Option<JoinSlot> {
        let mut held = self.slots.held();
        let (limits, now) = (self.slots.limits, Instant::now());
        let class = held.peers.get(&self.source)?.entries.get(&self.id)?.class;
        if *held.joins_of(class) >= limits.joins {
            held.is_full(now, limits.listener, class, "joins");
            self.slots.publish(&held);
            return None;
        }
        let peers = held.peers.get_mut(&self.source)?;
        let entry = peers.entries.get_mut(&self.id)?;
        if peers.joins >= limits.joins_per_source || entry.joins >= MAX_JOINS {
            return None;
        }
        entry.joins += 1;
        (entry.waiting_since, entry.deadline) = (Some(now), None);
        peers.joins += 1;
        *held.joins_of(class) += 1;
        self.slots.publish(&held);
        Some(JoinSlot { slot: self.clone(), class })
    }

    fn end_join(&self, class: Class, now: Instant) {
        let mut held = self.slots.held();
        let joins = held.joins_of(class);
        *joins = joins.saturating_sub(1);
        if let Some(peers) = held.peers.get_mut(&self.source) {
            peers.joins = peers.joins.saturating_sub(1);
            if let Some(entry) = peers.entries.get_mut(&self.id) {
                entry.joins = entry.joins.saturating_sub(1);
                if entry.joins == 0 && entry.class == Class::Unproven {
                    entry.deadline = Some(now + UNPROVEN_IDLE_TIMEOUT);
                }
                entry.waiting_since = Some(now);
            }
        }
        held.forget_if_empty(self.source);
        self.slots.publish(&held);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Peers, u64) -> T) -> Option<T> {
        self.slots.held().peers.get_mut(&self.source).map(|peers| f(peers, self.id))
    }

    fn entry<T>(&self, f: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.with(|peers, id| peers.entries.get_mut(&id).map(f)).flatten()
    }
}

impl Drop for JoinSlot {
    fn drop(&mut self) {
        self.slot.end_join(self.class, Instant::now());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let SlotRef { id, source, slots } = &self.0;
        let mut held = slots.held();
        let entry = held.peers.get_mut(source).and_then(|peers| peers.entries.remove(id));
        match entry {
            // What was closed for another is not counted any more.
            Some(Entry { evict: Some(_), class: Class::Unproven, .. }) => {
                held.unproven = held.unproven.saturating_sub(1);
            }
            Some(Entry { evict: Some(_), class: Class::Known, .. }) => {
                held.known = held.known.saturating_sub(1);
            }
            Some(Entry { evict: None, .. }) | None => {}
        }
        held.forget_if_empty(*source);
        slots.publish(&held);
    }
}

#[cfg(test)]
mod tests;
