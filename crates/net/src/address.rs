//! IPv4 addresses: which subnet a network gets, and which address a container gets in it. Pure but for
//! [`choose_subnet`], which looks at this host's routes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::error::{Error, Result};

/// The addresses of one subnet: which are taken.
#[derive(Debug, Clone)]
pub struct Addresses {
    subnet: (Ipv4Addr, u8),
    gateway: Ipv4Addr,
    taken: BTreeSet<u32>,
    last: u32,
    /// Where [`Addresses::allocate`] takes from.
    range: (Ipv4Addr, u8),
}

impl Addresses {
    /// All free but the network's own, its broadcast address and the gateway.
    pub fn new(subnet: (Ipv4Addr, u8), gateway: Ipv4Addr) -> Self {
        let subnet = (network(subnet), subnet.1.min(32));
        let last = u32::from(subnet.0);
        Addresses { subnet, gateway, taken: BTreeSet::new(), last, range: subnet }
    }

    /// From now on gives only addresses of this part of the subnet; any can still be claimed.
    pub fn give_from(&mut self, range: (Ipv4Addr, u8)) {
        self.range = (network(range), range.1.min(32));
    }

    /// Takes this very address.
    pub fn claim(&mut self, address: Ipv4Addr) -> Result<()> {
        let (first, end) = self.range();
        let number = u32::from(address);
        if !(first..end).contains(&number) {
            let (subnet, prefix) = self.subnet;
            return Err(Error::NotInSubnet { address, subnet, prefix });
        }
        if address == self.gateway || !self.taken.insert(number) {
            return Err(Error::AddressTaken(address));
        }
        Ok(())
    }

    /// The next free address after the last one given: an address that was just released is not given
    /// again while others are free, since neighbours may still remember who had it.
    pub fn allocate(&mut self) -> Option<Ipv4Addr> {
        let (first, end) = self.given();
        let start = self.last.saturating_add(1).clamp(first, end);
        let free =
            |number: &u32| *number != u32::from(self.gateway) && !self.taken.contains(number);
        let number = (start..end).find(free).or_else(|| (first..start).find(free))?;
        self.taken.insert(number);
        self.last = number;
        Some(number.into())
    }

    /// Gives an address back; one that was not taken is no error.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address.into());
    }

    /// The part of [`Addresses::range`] that is given from.
    fn given(&self) -> (u32, u32) {
        let (first, end) = self.range();
        let base = u32::from(self.range.0);
        let after = (base | !mask(self.range.1)).saturating_add(1);
        (base.clamp(first, end), after.clamp(first, end))
    }

    /// From the first usable address up to, not including, the broadcast address.
    fn range(&self) -> (u32, u32) {
        let base = u32::from(self.subnet.0);
        let last = base | !mask(self.subnet.1);
        (base.saturating_add(1).min(last), last)
    }
}

/// The hardware address that goes with an address: 02:42 and its four bytes, as Docker's.
pub fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// The first of Docker's pools (172.17-31.0.0/16, then 192.168.0.0/16 in /20) that overlaps neither
/// `taken` nor a route of this host.
pub fn choose_subnet(taken: &[(Ipv4Addr, u8)]) -> Result<(Ipv4Addr, u8)> {
    let path = "/proc/thread-self/net/route";
    let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
    let routes = routes(&text);
    choose(taken.iter().chain(&routes).copied().collect::<Vec<_>>().as_slice())
}

fn choose(taken: &[(Ipv4Addr, u8)]) -> Result<(Ipv4Addr, u8)> {
    let first = (17..=31).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
    let second = (0..16).map(|third| (Ipv4Addr::new(192, 168, third * 16, 0), 20));
    let free = |pool: &(Ipv4Addr, u8)| !taken.iter().any(|other| overlaps(*pool, *other));
    first.chain(second).find(free).ok_or(Error::NoSubnet)
}

/// The subnets in the kernel's table of routes (`/proc/net/route`), the default route left out.
fn routes(text: &str) -> Vec<(Ipv4Addr, u8)> {
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let number = |field: &str| Some(u32::from_be(u32::from_str_radix(field, 16).ok()?));
        let destination = number(fields.nth(1)?)?;
        let mask = number(fields.nth(5)?)?;
        (mask != 0).then_some((destination.into(), mask.leading_ones() as u8))
    };
    text.lines().skip(1).filter_map(parse).collect()
}

/// Whether two subnets have an address in common.
pub fn overlaps(one: (Ipv4Addr, u8), other: (Ipv4Addr, u8)) -> bool {
    let prefix = one.1.min(other.1);
    network((one.0, prefix)) == network((other.0, prefix))
}

fn network((address, prefix): (Ipv4Addr, u8)) -> Ipv4Addr {
    (u32::from(address) & mask(prefix)).into()
}

pub(crate) fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small() -> Addresses {
        Addresses::new(("10.0.0.0".parse().unwrap(), 29), "10.0.0.1".parse().unwrap())
    }

    #[test]
    fn addresses_are_given_in_turn_and_end() {
        let mut addresses = small();
        let given: Vec<_> = std::iter::from_fn(|| addresses.allocate()).collect();
        let expected: Vec<Ipv4Addr> = (2..=6).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        assert_eq!(given, expected);
        addresses.release(expected[1]);
        assert_eq!(addresses.allocate(), Some(expected[1]));
    }

    #[test]
    fn a_released_address_rests() {
        let mut addresses = small();
        let first = addresses.allocate().unwrap();
        addresses.release(first);
        assert_ne!(addresses.allocate(), Some(first));
    }

    #[test]
    fn only_a_containers_address_can_be_claimed() {
        let mut addresses = small();
        for text in ["10.0.0.0", "10.0.0.7", "10.0.1.1"] {
            let refused = addresses.claim(text.parse().unwrap()).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("address {text} is not one of 10.0.0.0/29")));
        }
        assert!(matches!(
            addresses.claim("10.0.0.1".parse().unwrap()),
            Err(Error::AddressTaken(_))
        ));
        addresses.claim("10.0.0.5".parse().unwrap()).unwrap();
        assert!(addresses.claim("10.0.0.5".parse().unwrap()).is_err());
    }

    #[test]
    fn only_part_of_a_subnet_is_given() {
        let mut addresses = Addresses::new(("10.0.0.0".parse().unwrap(), 24), [10, 0, 0, 1].into());
        addresses.give_from(("10.0.0.128".parse().unwrap(), 30));
        let given: Vec<_> = std::iter::from_fn(|| addresses.allocate()).collect();
        let expected: Vec<Ipv4Addr> = (128..=131).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        assert_eq!(given, expected);
        addresses.claim([10, 0, 0, 5].into()).unwrap();
        // One that ends where the subnet does.
        addresses.give_from(("10.0.0.252".parse().unwrap(), 30));
        assert_eq!(std::iter::from_fn(|| addresses.allocate()).count(), 3);
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(
            prefix in 0u8..=32,
            base: u32,
            gateway: u32,
            steps in prop::collection::vec((0u8..3, any::<u32>()), 0..200),
        ) {
            let base = base & mask(prefix);
            let gateway = Ipv4Addr::from(base | (gateway & !mask(prefix)));
            let mut addresses = Addresses::new((base.into(), prefix), gateway);
            let mut held: BTreeSet<Ipv4Addr> = BTreeSet::new();
            for (step, number) in steps {
                let some = Ipv4Addr::from(base | (number & !mask(prefix)));
                let given = match step {
                    0 => addresses.allocate(),
                    1 => addresses.claim(some).ok().map(|()| some),
                    _ => {
                        if let Some(address) = held.pop_first() {
                            addresses.release(address);
                        }
                        None
                    }
                };
                if let Some(address) = given {
                    prop_assert!(held.insert(address), "{address} was given twice");
                    prop_assert_ne!(address, gateway);
                    prop_assert_ne!(u32::from(address), base);
                    prop_assert_ne!(u32::from(address), base | !mask(prefix));
                    prop_assert_eq!(u32::from(address) & mask(prefix), base);
                }
            }
        }
    }

    #[test]
    fn the_chosen_subnet_overlaps_nothing() {
        let taken = [("172.17.3.0".parse().unwrap(), 24), ("172.18.0.0".parse().unwrap(), 15)];
        assert_eq!(choose(&taken).unwrap(), ("172.20.0.0".parse().unwrap(), 16));
        let all = [("172.16.0.0".parse().unwrap(), 12)];
        assert_eq!(choose(&all).unwrap(), ("192.168.0.0".parse().unwrap(), 20));
        assert!(choose(&[(Ipv4Addr::UNSPECIFIED, 0)]).is_err());
    }

    #[test]
    fn routes_are_read_without_the_default() {
        let text = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n\
            eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        assert_eq!(routes(text), [("192.168.0.0".parse().unwrap(), 24)]);
    }

    #[test]
    fn a_hardware_address_follows_from_the_address() {
        assert_eq!(mac_of("172.17.0.2".parse().unwrap()), [2, 0x42, 172, 17, 0, 2]);
    }
}
