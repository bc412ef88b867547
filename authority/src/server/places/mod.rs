//! Places for connections: bounded in all, shared out fairly between sources.
//!
//! A connection is *unproven* until its peer has shown a certificate of the cluster, and *known* from
//! then on. Each class has places of its own, so that strangers cannot take those of hosts that have
//! joined. When a class is full, the source that holds most gives way to any that holds less: its
//! oldest connection is closed. Among equals, or within one source, a connection gives way only if
//! it has kept the authority waiting for a while; otherwise the newcomer is turned away, so that a
//! crowd behind one address is served in order.

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

/// A connection with a join in progress may be closed after this time, for one that needs its place: a TPM may take seconds for
/// its answer.
const JOIN_EXPENDABLE_AFTER: Duration = Duration::from_secs(10);

/// An unproven connection is closed after this time without a join.
const UNPROVEN_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Calls on one unproven connection: a join, and another that shows more certificates. Each may cost
/// the authority milliseconds, so that none is to spare.
const MAX_UNPROVEN_CALLS: u32 = 2;

/// Joins under way on one connection: one, and another that begins while the first one ends.
const MAX_JOINS: u32 = 2;

/// How long the authority reports saturation after a connection was closed because a limit was reached.
const SATURATION_REPORT: Duration = Duration::from_secs(60);

/// What is known of the peer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Unproven,
    Known,
}

/// The places of one listener.
pub(super) struct Places {
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
    seats: HashMap<u64, Seat>,
    joins: usize,
}

struct Seat {
    class: Class,
    entered: Instant,
    /// Since when the authority waits for the peer; none while the peer waits for the authority.
    waiting_since: Option<Instant>,
    /// When the connection is closed whatever happens.
    deadline: Option<Instant>,
    joins: u32,
    calls: u32,
    /// Taken when the connection is asked to close; it is no longer counted from then on.
    evict: Option<oneshot::Sender<()>>,
}

/// Whose connection may be closed for a newcomer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heaviest {
    /// That of a source which holds more than the newcomer's would.
    Heavier(Source),
    /// That of a source which does not.
    Equal(Source),
}

/// The place of one connection; free again when the value goes.
pub(super) struct Place(PlaceRef);

/// Names a place without holding it.
#[derive(Clone)]
pub(crate) struct PlaceRef {
    id: u64,
    source: Source,
    places: Arc<Places>,
}

/// A join under way, counted as long as the value is there.
pub(crate) struct JoinPlace {
    place: PlaceRef,
    class: Class,
}

impl Places {
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

    /// A place for a connection that is not known yet, and what completes when it must be closed;
    /// none if it must be closed at once.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Option<(Place, oneshot::Receiver<()>)> {
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
            held.peers.entry(source).or_insert_with(|| Peers { seats: HashMap::new(), joins: 0 });
        let seat = Seat {
            class: Class::Unproven,
            entered: now,
            waiting_since: Some(now),
            deadline: Some(now + UNPROVEN_IDLE_TIMEOUT),
            joins: 0,
            calls: 0,
            evict: Some(evict),
        };
        peers.seats.insert(id, seat);
        self.publish(&held);
        Some((Place(PlaceRef { id, source, places: Arc::clone(self) }), evicted))
    }

    /// Closes what is over its deadline.
    pub(super) fn sweep(&self, now: Instant) {
        let mut held = self.held();
        let Held { peers, unproven, known, .. } = &mut *held;
        for seat in peers.values_mut().flat_map(|peers| peers.seats.values_mut()) {
            if seat.deadline.is_some_and(|deadline| deadline <= now) && seat.close() {
                self.metrics.connections.expired();
                let count = if seat.class == Class::Known { &mut *known } else { &mut *unproven };
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

    /// Whether there is room for one more of this class and source, after another had to go.
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
    /// The source that holds most of a class.
    fn heaviest(&self, class: Class, newcomer: Source) -> Option<Heaviest> {
        let weight = |peers: &Peers| peers.seats.values().filter(|seat| seat.is(class)).count();
        let all = self.peers.iter().map(|(source, peers)| (weight(peers), *source));
        let (most, source) = all.max_by_key(|(weight, _)| *weight)?;
        let own = self.peers.get(&newcomer).map_or(0, weight);
        Some(if own + 1 < most {
            Heaviest::Heavier(source)
        } else {
            Heaviest::Equal(if own == most { newcomer } else { source })
        })
    }

    /// Closes a connection of the class for a newcomer's, if one may be. Its place counts as free at
    /// once.
    fn evict(&mut self, class: Class, newcomer: Source, grace: Duration, now: Instant) -> bool {
        let Some(heaviest) = self.heaviest(class, newcomer) else { return false };
        let (Heaviest::Heavier(source) | Heaviest::Equal(source)) = heaviest;
        let Some(peers) = self.peers.get_mut(&source) else { return false };
        let seats = peers.seats.values_mut().filter(|seat| seat.is(class));
        let expendable =
            seats.filter_map(|seat| Some((seat.expendable_from(heaviest, grace)?, seat)));
        let Some((from, seat)) = expendable.min_by_key(|(from, _)| *from) else { return false };
        if from > now || !seat.close() {
            return false;
        }
        let count = if class == Class::Known { &mut self.known } else { &mut self.unproven };
        *count = count.saturating_sub(1);
        true
    }

    /// Remembers that all places of a kind are taken.
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
        if self.peers.get(&source).is_some_and(|peers| peers.seats.is_empty() && peers.joins == 0) {
            self.peers.remove(&source);
        }
    }
}

impl Seat {
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

    /// From when on the connection may be closed for another one.
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

impl Place {
    pub(super) fn reference(&self) -> PlaceRef {
        self.0.clone()
    }

    /// The peer waits for the authority to compute its handshake.
    pub(super) fn computes(&self) {
        self.0.seat(|seat| (seat.waiting_since, seat.deadline) = (None, None));
    }

    /// The authority waits for the peer until `deadline`.
    pub(super) fn waits(&self, now: Instant, deadline: Instant) {
        self.0.seat(|seat| {
            (seat.waiting_since, seat.deadline) = (Some(now), Some(deadline));
        });
    }

    /// The handshake is done. A peer with a verified certificate is known from now on; false if
    /// there is no place for it.
    pub(super) fn greet(&self, known: bool, now: Instant) -> bool {
        if !known {
            self.waits(now, now + UNPROVEN_IDLE_TIMEOUT);
            return true;
        }
        let PlaceRef { source, places, .. } = &self.0;
        let mut held = places.held();
        if !places.make_room(&mut held, Class::Known, *source, now) {
            return false;
        }
        let Held { peers, unproven, known, .. } = &mut *held;
        let seat = peers.get_mut(source).and_then(|peers| peers.seats.get_mut(&self.0.id));
        let Some(seat) = seat.filter(|seat| seat.evict.is_some()) else { return false };
        seat.class = Class::Known;
        (seat.waiting_since, seat.deadline) = (Some(now), None);
        *unproven = unproven.saturating_sub(1);
        *known += 1;
        places.publish(&held);
        true
    }
}

impl service::peer::Places for PlaceRef {
    fn begin_join(&self) -> Option<Box<dyn Send>> {
        Some(Box::new(self.begin_join()?))
    }
}

impl PlaceRef {
    /// Whether the connection may make another call. An unproven one may make a few, and is closed
    /// when it makes more.
    pub(crate) fn call(&self) -> bool {
        let mut held = self.places.held();
        let Held { peers, unproven, .. } = &mut *held;
        let seat = peers.get_mut(&self.source).and_then(|peers| peers.seats.get_mut(&self.id));
        let Some(seat) = seat else { return false };
        seat.calls = seat.calls.saturating_add(1);
        if seat.class == Class::Known || seat.calls <= MAX_UNPROVEN_CALLS {
            return true;
        }
        self.places.metrics.connections.too_many_calls();
        if seat.close() {
            *unproven = unproven.saturating_sub(1);
            self.places.metrics.connections.expired();
            self.places.publish(&held);
        }
        false
    }

    /// Counts a call that was refused because of what the connection has cost.
    pub(crate) fn count_too_costly_call(&self) {
        self.places.metrics.connections.too_costly_call();
    }

    /// Begins a join; none if too many are under way: of its class, of this source, or on this
    /// connection.
    pub(crate) fn begin_join(&self) -> Option<JoinPlace> {
        let mut held = self.places.held();
        let (limits, now) = (self.places.limits, Instant::now());
        let class = held.peers.get(&self.source)?.seats.get(&self.id)?.class;
        if *held.joins_of(class) >= limits.joins {
            held.is_full(now, limits.listener, class, "joins");
            self.places.publish(&held);
            return None;
        }
        let peers = held.peers.get_mut(&self.source)?;
        let seat = peers.seats.get_mut(&self.id)?;
        if peers.joins >= limits.joins_per_source || seat.joins >= MAX_JOINS {
            return None;
        }
        seat.joins += 1;
        (seat.waiting_since, seat.deadline) = (Some(now), None);
        peers.joins += 1;
        *held.joins_of(class) += 1;
        self.places.publish(&held);
        Some(JoinPlace { place: self.clone(), class })
    }

    fn end_join(&self, class: Class, now: Instant) {
        let mut held = self.places.held();
        let joins = held.joins_of(class);
        *joins = joins.saturating_sub(1);
        if let Some(peers) = held.peers.get_mut(&self.source) {
            peers.joins = peers.joins.saturating_sub(1);
            if let Some(seat) = peers.seats.get_mut(&self.id) {
                seat.joins = seat.joins.saturating_sub(1);
                if seat.joins == 0 && seat.class == Class::Unproven {
                    seat.deadline = Some(now + UNPROVEN_IDLE_TIMEOUT);
                }
                seat.waiting_since = Some(now);
            }
        }
        held.forget_if_empty(self.source);
        self.places.publish(&held);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Peers, u64) -> T) -> Option<T> {
        self.places.held().peers.get_mut(&self.source).map(|peers| f(peers, self.id))
    }

    fn seat<T>(&self, f: impl FnOnce(&mut Seat) -> T) -> Option<T> {
        self.with(|peers, id| peers.seats.get_mut(&id).map(f)).flatten()
    }
}

impl Drop for JoinPlace {
    fn drop(&mut self) {
        self.place.end_join(self.class, Instant::now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let PlaceRef { id, source, places } = &self.0;
        let mut held = places.held();
        let seat = held.peers.get_mut(source).and_then(|peers| peers.seats.remove(id));
        match seat {
            // What was closed for another is not counted any more.
            Some(Seat { evict: Some(_), class: Class::Unproven, .. }) => {
                held.unproven = held.unproven.saturating_sub(1);
            }
            Some(Seat { evict: Some(_), class: Class::Known, .. }) => {
                held.known = held.known.saturating_sub(1);
            }
            Some(Seat { evict: None, .. }) | None => {}
        }
        held.forget_if_empty(*source);
        places.publish(&held);
    }
}

#[cfg(test)]
mod tests;
