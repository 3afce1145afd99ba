//! The `resolv.conf` that containers get. Pure.

use std::net::IpAddr;

/// What a container asks when the host's own name servers cannot be reached from it: Docker's choice.
const FALLBACK: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";

/// The host's `resolv.conf` as a container can use it: name servers on the host's loopback and, since
/// the networks are IPv4, IPv6 ones are left out; search domains and options stay.
pub fn resolv_conf(host_text: &str) -> String {
    let mut text = String::new();
    let mut reachable = false;
    for line in host_text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver") {
            let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
            match address {
                Some(IpAddr::V4(address)) if !address.is_loopback() => reachable = true,
                _ => continue,
            }
        }
        text.push_str(line);
        text.push('\n');
    }
    if !reachable {
        text.push_str(FALLBACK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::resolv_conf;

    #[test]
    fn what_the_container_can_use_is_kept() {
        let host = "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver ::1\n\
            search example.test\noptions edns0 trust-ad\n";
        let expected = "nameserver 10.0.0.2\nsearch example.test\noptions edns0 trust-ad\n";
        assert_eq!(resolv_conf(host), expected);
    }

    #[test]
    fn without_a_name_server_there_is_a_fallback() {
        let host = "nameserver 127.0.0.53\nsearch lan\n";
        assert_eq!(resolv_conf(host), "search lan\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        assert_eq!(resolv_conf(""), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }
}
