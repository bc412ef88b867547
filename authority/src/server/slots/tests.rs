use super::*;

const SMALL: Limits = Limits {
    listener: "hosts",
    connections: 4,
    sockets: 16,
    joins: 3,
    joins_per_source: 2,
    expendable_after: Duration::from_secs(2),
};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

struct Peer {
    slot: Slot,
    evicted: oneshot::Receiver<()>,
}

impl Peer {
    fn enter(slots: &Arc<Slots>, from: &str, now: Instant) -> Option<Self> {
        slots.enter(address(from), now).map(|(slot, evicted)| Self { slot, evicted })
    }

    fn is_closed(&mut self) -> bool {
        self.evicted.try_recv().is_ok()
    }
}

fn counts(slots: &Slots) -> (usize, usize, usize) {
    let held = slots.held();
    (held.unproven, held.known, held.unproven_joins + held.known_joins)
}

#[tokio::test]
async fn heaviest_source_gives_way_to_others_and_not_to_itself() {
    let slots = Slots::new(SMALL, Arc::default());
    let now = Instant::now();
    let mut crowd: Vec<_> =
        (0..4).map(|_| Peer::enter(&slots, "192.0.2.1", now).unwrap()).collect();
    assert!(Peer::enter(&slots, "192.0.2.1", now).is_none(), "served in order");
    let honest = Peer::enter(&slots, "198.51.100.7", now).expect("another source");
    assert_eq!(crowd.iter_mut().filter_map(|peer| peer.is_closed().then_some(())).count(), 1);
    assert_eq!(counts(&slots), (4, 0, 0));

    // What has kept the authority waiting gives way within its source too.
    let later = now + SMALL.expendable_after;
    let _other = Peer::enter(&slots, "192.0.2.1", later).expect("an idle one goes");
    assert!(slots.metrics.connections.saturation().is_some());
    drop((crowd, honest));
    assert_eq!(counts(&slots), (1, 0, 0));
    slots.sweep(later + SATURATION_REPORT + seconds(1));
    assert_eq!(slots.metrics.connections.saturation(), None);
}

#[tokio::test]
async fn newest_caller_of_monitoring_is_served_at_once() {
    let slots = Slots::new(Limits::for_monitoring(1024), Arc::default());
    let now = Instant::now();
    let enter = || Peer::enter(&slots, "127.0.0.1", now).expect("a slot");
    let mut silent: Vec<_> = (0..200).map(|_| enter()).collect();
    let mut probe = enter();
    assert!(!probe.is_closed());
    assert_eq!(silent.iter_mut().filter_map(|one| one.is_closed().then_some(())).count(), 137);
}

#[tokio::test]
async fn known_hosts_have_places_that_strangers_cannot_take() {
    let slots = Slots::new(SMALL, Arc::default());
    let now = Instant::now();
    let mut host = Peer::enter(&slots, "198.51.100.7", now).unwrap();
    assert!(host.slot.handshake_done(true, now));
    assert_eq!(counts(&slots), (0, 1, 0));
    let later = now + seconds(60);
    let strangers: Vec<_> =
        (0..9).map(|n| Peer::enter(&slots, &format!("192.0.2.{n}"), later)).collect();
    assert!(!host.is_closed());
    assert_eq!(counts(&slots), (4, 1, 0));
    drop((host, strangers));
    assert_eq!(counts(&slots), (0, 0, 0));
    assert!(slots.held().peers.is_empty(), "no memory of who has gone");
}

#[tokio::test]
async fn idle_unproven_connection_is_closed_and_one_with_a_join_is_not() {
    let slots = Slots::new(SMALL, Arc::default());
    let now = Instant::now();
    let mut idle = Peer::enter(&slots, "192.0.2.1", now).unwrap();
    let mut joining = Peer::enter(&slots, "192.0.2.1", now).unwrap();
    assert!(idle.slot.handshake_done(false, now) && joining.slot.handshake_done(false, now));
    let join = joining.slot.reference().begin_join().expect("room");
    slots.sweep(now + UNPROVEN_IDLE_TIMEOUT);
    assert!(idle.is_closed() && !joining.is_closed());
    assert_eq!(counts(&slots), (1, 0, 1));
    drop(join);
    assert_eq!(counts(&slots), (1, 0, 0));
    slots.sweep(Instant::now() + UNPROVEN_IDLE_TIMEOUT);
    assert!(joining.is_closed());
    drop((idle, joining));
    assert_eq!(counts(&slots), (0, 0, 0));
}

#[tokio::test]
async fn joins_and_handshakes_are_bounded_by_source() {
    let slots = Slots::new(SMALL, Arc::default());
    let now = Instant::now();
    let one = Peer::enter(&slots, "192.0.2.1", now).unwrap();
    let other = Peer::enter(&slots, "2001:db8::1", now).unwrap();
    let begin = |peer: &Peer| peer.slot.reference().begin_join();
    let _first = (begin(&one).unwrap(), begin(&one).unwrap());
    assert!(begin(&one).is_none(), "two of a source");
    let _second = begin(&other).unwrap();
    assert!(begin(&other).is_none(), "three in all");
}

#[tokio::test]
async fn unproven_connection_makes_few_calls() {
    let metrics = Arc::new(Metrics::default());
    let slots = Slots::new(SMALL, Arc::clone(&metrics));
    let now = Instant::now();
    let mut peer = Peer::enter(&slots, "192.0.2.1", now).unwrap();
    let mut known = Peer::enter(&slots, "192.0.2.1", now).unwrap();
    assert!(known.slot.handshake_done(true, now));
    let allowed = (0..100).filter(|_| peer.slot.reference().call()).count();
    assert_eq!(allowed, MAX_UNPROVEN_CALLS as usize);
    let refused = 100 - MAX_UNPROVEN_CALLS;
    let refused = format!("endorse_calls_refused_total{{reason=\"too_many\"}} {refused}\n");
    assert!(metrics.text(time::OffsetDateTime::UNIX_EPOCH, &[]).contains(&refused));
    assert!((0..100).all(|_| known.slot.reference().call()));
    assert!(peer.is_closed() && !known.is_closed());
    assert_eq!(counts(&slots), (0, 1, 0));
    drop((peer, known));
    assert_eq!(counts(&slots), (0, 0, 0));
}

#[tokio::test]
async fn known_hosts_cannot_take_the_joins_of_others() {
    let slots = Slots::new(SMALL, Arc::default());
    let now = Instant::now();
    let known: Vec<_> = (0..3)
        .map(|n| Peer::enter(&slots, &format!("192.0.2.{n}"), now).unwrap())
        .inspect(|peer| assert!(peer.slot.handshake_done(true, now)))
        .collect();
    let joins: Vec<_> = known
        .iter()
        .flat_map(|peer| [peer.slot.reference(), peer.slot.reference()])
        .map(|slot| slot.begin_join())
        .collect();
    assert_eq!(joins.iter().flatten().count(), SMALL.joins);
    assert!(slots.metrics.connections.saturation().is_some(), "said");
    let stranger = Peer::enter(&slots, "198.51.100.7", now).unwrap();
    assert!(stranger.slot.reference().begin_join().is_some());
}

#[tokio::test]
async fn connection_has_few_joins_under_way() {
    let limits = Limits { joins: 100, joins_per_source: 100, ..SMALL };
    let slots = Slots::new(limits, Arc::default());
    let peer = Peer::enter(&slots, "192.0.2.1", Instant::now()).unwrap();
    let joins: Vec<_> = (0..100).filter_map(|_| peer.slot.reference().begin_join()).collect();
    assert_eq!(joins.len(), MAX_JOINS as usize);
    drop(joins);
    assert!(peer.slot.reference().begin_join().is_some());
}
