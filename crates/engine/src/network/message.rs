//! DNS messages (RFC 1035), as far as answering for containers needs them. Pure; what is read comes from
//! containers and is hostile.

use std::net::Ipv4Addr;

const HEADER: usize = 12;
/// Bytes of a name (RFC 1035, 2.3.4).
const NAME: usize = 255;
const LABEL: u8 = 63;
/// Addresses in an answer: what fits into a datagram of 512 bytes with the longest name.
const ADDRESSES: usize = 15;
/// Seconds that an answer may be kept: as Docker's.
const TTL: u32 = 600;

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const IN: u16 = 1;

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// In lower case, without a dot at the end.
    pub name: String,
    pub kind: Kind,
    /// Where the question ends in the message.
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Address,
    /// An IPv6 address: no container has one.
    Address6,
    /// The name of an address.
    Name,
    Other,
}

/// The one question of a query; `None` if this is not a query as resolvers send them.
pub(super) fn question(message: &[u8]) -> Option<Question> {
    let header = message.get(..HEADER)?;
    let response = header[2] & 0x80 != 0;
    let opcode = header[2] >> 3 & 0xf;
    if response || opcode != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = *message.get(at)?;
        at += 1;
        match length {
            0 => break,
            1..=LABEL => {}
            _ => return None,
        }
        let label = message.get(at..at + usize::from(length))?;
        at += usize::from(length);
        if at - HEADER > NAME {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let number = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let kind = match (number(at)?, number(at + 2)?) {
        (A, IN) => Kind::Address,
        (AAAA, IN) => Kind::Address6,
        (PTR, IN) => Kind::Name,
        _ => Kind::Other,
    };
    Some(Question { name, kind, end: at + 4 })
}

impl Question {
    /// The address whose name is asked for.
    pub fn reverse(&self) -> Option<Ipv4Addr> {
        let text = self.name.strip_suffix(".in-addr.arpa")?;
        let address: Ipv4Addr = text.parse().ok()?;
        let [a, b, c, d] = address.octets();
        Some([d, c, b, a].into())
    }
}

/// The answer that a name has these addresses; none: it has none of the kind that was asked for.
pub(super) fn addresses(query: &[u8], question: &Question, found: &[Ipv4Addr]) -> Vec<u8> {
    let found = &found[..found.len().min(ADDRESSES)];
    let mut answer = reply(query, question, 0, found.len() as u16);
    for address in found {
        record(&mut answer, A, &address.octets());
    }
    answer
}

/// The answer that an address has this name.
pub(super) fn name(query: &[u8], question: &Question, name: &str) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    for label in name.split('.') {
        let length =
            u8::try_from(label.len()).ok().filter(|length| (1..=LABEL).contains(length))?;
        data.push(length);
        data.extend(label.as_bytes());
    }
    data.push(0);
    if data.len() > NAME {
        return None;
    }
    let mut answer = reply(query, question, 0, 1);
    record(&mut answer, PTR, &data);
    Some(answer)
}

/// That it cannot be found out.
pub(super) fn failure(query: &[u8], question: &Question) -> Vec<u8> {
    reply(query, question, 2, 0)
}

/// Header and question of an answer.
fn reply(query: &[u8], question: &Question, code: u8, answers: u16) -> Vec<u8> {
    let mut answer = Vec::with_capacity(512);
    answer.extend(&query[..2]);
    // A response; recursion as was desired, and available.
    answer.extend([0x80 | query[2] & 1, 0x80 | code]);
    answer.extend([0, 1]);
    answer.extend(answers.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(&query[HEADER..question.end]);
    answer
}

/// A record of the name that was asked for.
fn record(answer: &mut Vec<u8>, kind: u16, data: &[u8]) {
    // The name is at the question.
    answer.extend([0xc0, HEADER as u8]);
    answer.extend(kind.to_be_bytes());
    answer.extend(IN.to_be_bytes());
    answer.extend(TTL.to_be_bytes());
    answer.extend((data.len() as u16).to_be_bytes());
    answer.extend(data);
}

/// Whether a message is an answer to a query.
pub(super) fn answers(query: &[u8], answer: &[u8]) -> bool {
    answer.len() >= HEADER && answer[2] & 0x80 != 0 && answer[..2] == query[..2]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A query as a resolver sends it.
    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_query_is_read_and_answered() {
        let asked = query("Web.N1", A);
        let question = question(&asked).unwrap();
        assert_eq!((question.name.as_str(), question.kind), ("web.n1", Kind::Address));
        let answer = addresses(&asked, &question, &[[10, 9, 0, 2].into(), [10, 9, 0, 3].into()]);
        assert_eq!(answer[..12], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
        assert_eq!(answer[12..asked.len()], asked[12..]);
        let first = [0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 0x58, 0, 4, 10, 9, 0, 2];
        assert_eq!(answer[asked.len()..asked.len() + 16], first);
        assert_eq!(answer.len(), asked.len() + 32);
        assert!(answers(&asked, &answer) && !answers(&asked, &asked));
        let many = vec![Ipv4Addr::LOCALHOST; 100];
        assert!(addresses(&asked, &question, &many).len() <= 512);
    }

    #[test]
    fn an_address_is_turned_into_its_name() {
        let asked = query("2.0.9.10.in-addr.arpa", PTR);
        let question = question(&asked).unwrap();
        assert_eq!(question.reverse(), Some([10, 9, 0, 2].into()));
        let answer = name(&asked, &question, "web.n1").unwrap();
        assert!(answer.ends_with(b"\x00\x08\x03web\x02n1\x00"));
        assert!(name(&asked, &question, &"a".repeat(64)).is_none());
        assert!(name(&asked, &question, "a..b").is_none());
    }

    #[test]
    fn what_is_no_query_is_not_answered() {
        let asked = query("web", A);
        let changed = |at: usize, byte: u8| {
            let mut message = asked.clone();
            message[at] = byte;
            question(&message)
        };
        assert!(changed(2, 0x81).is_none(), "an answer");
        assert!(changed(2, 0x29).is_none(), "another operation");
        assert!(changed(5, 2).is_none(), "two questions");
        assert!(changed(12, 0xc0).is_none(), "a pointer");
        assert!(changed(12, 40).is_none(), "a label that goes on after the end");
        assert!((0..asked.len()).all(|end| question(&asked[..end]).is_none()));
        assert!(question(&query(&["abcdefgh"; 40].join("."), A)).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = question(&bytes) {
                prop_assert!(question.end <= bytes.len());
                let answer = failure(&bytes, &question);
                prop_assert!(answers(&bytes, &answer));
                prop_assert_eq!(answer[3] & 0xf, 2);
            }
        }
    }
}
