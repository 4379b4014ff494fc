//! Who has a place, and who gives it up for a newcomer.
//!
//! What a connection wants is only known once its first request is read, so nobody is turned away at the door as long as somebody can
//! be spared: first those who have not said what they want, then those who want nothing just now, then those whose request does not
//! arrive or whose answer is not read. Among equals it is one of the peer that has most of them, and the one that has stood so for
//! longest: whoever sends its request as soon as it is connected keeps its place, however many others only sit. A limit for each peer
//! works the same way: a peer at its limit loses a connection of its own. Refusing it instead would let one program behind an address
//! translation, or on the same machine, shut all others there out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Connections that were told to go and are not gone yet; more would open files beyond the limit.
const LEAVING_MAX: usize = 64;

/// How a connection stands, from what is spared best to what is not spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// No request has come yet.
    New,
    /// There was one, and none is under way.
    Idle,
    /// All its requests are still arriving.
    Arriving,
    /// All its answers wait for their reader.
    Unread,
    /// A request is at work.
    Working,
}

const SPARED: usize = Standing::Working as usize;

/// What counts as one sender: an IPv4 address, or the network of an IPv6 address, since everybody has 2^64 of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) all: usize,
    pub(super) per_peer: usize,
    pub(super) reserved: usize,
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Seats {
    places: Places,
    table: Mutex<Table>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Table {
    taken: HashMap<u64, Taken>,
    peers: HashMap<Peer, usize>,
    /// By standing, then by peer: when it came to stand so, and who.
    spared: [HashMap<Peer, BTreeMap<u64, u64>>; SPARED],
    /// Grows with everything that happens, and so tells what was first.
    now: u64,
    leaving: usize,
    closed: u64,
}

#[derive(Debug)]
struct Taken {
    peer: Peer,
    standing: Standing,
    since: u64,
    close: CancellationToken,
}

/// A place. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    id: u64,
    /// Cancelled when somebody else needs the place.
    pub(super) close: CancellationToken,
    /// One of the reserved places.
    pub(super) is_reserved: bool,
}

impl Seats {
    pub(super) fn new(places: Places) -> Arc<Self> {
        Arc::new(Self { places, table: Mutex::default(), left: Notify::new() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Counting does not panic midway. A poisoned lock must not end the listener.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a newcomer, at the cost of another one if there is no room. None where every connection has a request at work and
    /// the reserve is used up as well.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let (peer, places) = (Peer::from(peer), self.places);
        let mut table = self.table();
        let mut is_reserved = false;
        if table.of(peer) >= places.per_peer {
            table.close_one(Some(peer));
            is_reserved |= table.of(peer) >= places.per_peer;
        }
        if table.taken.len() >= places.all {
            table.close_one(None);
            is_reserved |= table.taken.len() >= places.all;
        }
        if is_reserved && table.taken.len() >= places.all + places.reserved {
            return None;
        }
        let close = CancellationToken::new();
        let id = table.seat(peer, close.clone());
        Some(Seat { seats: Arc::clone(self), id, close, is_reserved })
    }

    /// Closes the connection that can be spared best, if there is one: its file is needed.
    pub(super) fn spare_one(&self) -> bool {
        self.table().close_one(None)
    }

    /// Waits until those who were told to go are gone, all but a few.
    pub(super) async fn few_leaving(&self) {
        while self.table().leaving > LEAVING_MAX {
            self.left.notified().await;
        }
    }

    /// How many connections had to go for others so far.
    pub(super) fn closed(&self) -> u64 {
        self.table().closed
    }
}

impl Seat {
    /// The connection stands so from now on.
    pub(super) fn stand(&self, standing: Standing) {
        self.seats.table().stand(self.id, standing);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.seats.table();
        if table.remove(self.id).is_none() {
            table.leaving = table.leaving.saturating_sub(1);
        }
        drop(table);
        self.seats.left.notify_one();
    }
}

impl Table {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn of(&self, peer: Peer) -> usize {
        self.peers.get(&peer).copied().unwrap_or(0)
    }

    fn seat(&mut self, peer: Peer, close: CancellationToken) -> u64 {
        let id = self.tick();
        self.taken.insert(id, Taken { peer, standing: Standing::New, since: id, close });
        *self.peers.entry(peer).or_default() += 1;
        self.queue(peer, Standing::New, id, id);
        id
    }

    fn queue(&mut self, peer: Peer, standing: Standing, since: u64, id: u64) {
        if let Some(peers) = self.spared.get_mut(standing as usize) {
            peers.entry(peer).or_default().insert(since, id);
        }
    }

    fn unqueue(&mut self, peer: Peer, standing: Standing, since: u64) {
        let Some(peers) = self.spared.get_mut(standing as usize) else { return };
        let Some(queue) = peers.get_mut(&peer) else { return };
        queue.remove(&since);
        if queue.is_empty() {
            peers.remove(&peer);
        }
    }

    fn stand(&mut self, id: u64, standing: Standing) {
        let since = self.tick();
        let Some(taken) = self.taken.get_mut(&id) else { return };
        let (peer, before, began) = (taken.peer, taken.standing, taken.since);
        if before == standing {
            return;
        }
        (taken.standing, taken.since) = (standing, since);
        self.unqueue(peer, before, began);
        self.queue(peer, standing, since, id);
    }

    fn remove(&mut self, id: u64) -> Option<Taken> {
        let taken = self.taken.remove(&id)?;
        self.unqueue(taken.peer, taken.standing, taken.since);
        if let Some(count) = self.peers.get_mut(&taken.peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&taken.peer);
            }
        }
        Some(taken)
    }

    /// Tells the one to go that can be spared best; of this peer, or of anybody.
    fn close_one(&mut self, peer: Option<Peer>) -> bool {
        let first = self.spared.iter().find_map(|peers| {
            let queue = match peer {
                Some(peer) => peers.get(&peer),
                None => peers.values().max_by_key(|queue| queue.len()),
            };
            queue?.values().next().copied()
        });
        let Some(taken) = first.and_then(|id| self.remove(id)) else { return false };
        taken.close.cancel();
        self.leaving += 1;
        self.closed += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn seats(all: usize, per_peer: usize, reserved: usize) -> Arc<Seats> {
        Seats::new(Places { all, per_peer, reserved })
    }

    fn closed(seats: &[&Seat]) -> Vec<bool> {
        seats.iter().map(|seat| seat.close.is_cancelled()).collect()
    }

    #[test]
    fn a_newcomer_always_gets_in_while_somebody_can_be_spared() {
        let seats = seats(5, 5, 0);
        let taken: Vec<_> = (0..5).map(|_| seats.enter(address(1)).unwrap()).collect();
        let order = [Standing::Working, Standing::Unread, Standing::Arriving, Standing::Idle, Standing::New];
        for (seat, standing) in taken.iter().zip(order) {
            seat.stand(standing);
        }
        // Each newcomer works at once, so that only the five from before can go.
        let mut newcomers = Vec::new();
        for gone in (1..5).rev() {
            let newcomer = seats.enter(address(1)).unwrap();
            newcomer.stand(Standing::Working);
            newcomers.push(newcomer);
            let is_gone: Vec<_> = taken.iter().map(|seat| seat.close.is_cancelled()).collect();
            let expected: Vec<_> = (0..5).map(|index| index >= gone).collect();
            assert_eq!(is_gone, expected);
        }
        assert!(seats.enter(address(1)).is_none(), "all are at work, and there is no reserve");
        assert_eq!(seats.closed(), 4);
    }

    #[test]
    fn the_longest_goes_first_and_of_the_peer_that_has_most() {
        let seats = seats(4, 4, 0);
        let slow = seats.enter(address(2)).unwrap();
        let crowd: Vec<_> = (0..3).map(|_| seats.enter(address(1)).unwrap()).collect();
        let one = seats.enter(address(1)).unwrap();
        assert_eq!(closed(&[&slow, &crowd[0], &crowd[1]]), [false, true, false]);
        // Of those who had a request, the one that has been idle for longest.
        crowd[2].stand(Standing::Idle);
        crowd[1].stand(Standing::Idle);
        slow.stand(Standing::Working);
        one.stand(Standing::Working);
        let _two = seats.enter(address(3)).unwrap();
        assert_eq!(closed(&[&slow, &crowd[1], &crowd[2]]), [false, false, true]);
    }

    #[test]
    fn a_peer_at_its_limit_loses_one_of_its_own() {
        let seats = seats(10, 2, 1);
        let other = seats.enter(address(2)).unwrap();
        let own: Vec<_> = (0..2).map(|_| seats.enter(address(1)).unwrap()).collect();
        let third = seats.enter(address(1)).unwrap();
        assert_eq!(closed(&[&other, &own[0], &own[1], &third]), [false, true, false, false]);
        assert!(!third.is_reserved);
        // All of its own are at work: it is heard all the same, about what is reserved.
        own[1].stand(Standing::Working);
        third.stand(Standing::Working);
        assert!(seats.enter(address(1)).unwrap().is_reserved);
    }

    #[test]
    fn the_reserve_is_for_when_all_are_at_work() {
        let seats = seats(2, 2, 2);
        let working: Vec<_> = (0..2).map(|_| seats.enter(address(1)).unwrap()).collect();
        working.iter().for_each(|seat| seat.stand(Standing::Working));
        let first = seats.enter(address(2)).unwrap();
        assert!(first.is_reserved);
        // Whoever sits in the reserve and says nothing makes room as well.
        let second = seats.enter(address(2)).unwrap();
        assert!(first.close.is_cancelled() && !second.close.is_cancelled());
    }

    #[tokio::test]
    async fn places_come_back_and_who_leaves_is_waited_for() {
        let seats = seats(1, 1, 0);
        let mut leaving = vec![seats.enter(address(1)).unwrap()];
        for _ in 0..LEAVING_MAX {
            leaving.push(seats.enter(address(1)).unwrap());
        }
        seats.few_leaving().await;
        leaving.push(seats.enter(address(1)).unwrap());
        let waiting = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.few_leaving().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(leaving);
        waiting.await.unwrap();
        let table = seats.table();
        assert!(table.taken.is_empty() && table.peers.is_empty() && table.leaving == 0);
        assert!(table.spared.iter().all(HashMap::is_empty));
    }

    #[test]
    fn a_peer_is_an_address_or_a_network_of_ipv6() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
    }
}
