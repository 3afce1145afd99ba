//! The daemon's one nftables table: masquerading, isolation of the networks from each other and from
//! outside, and the maps that lead published ports into containers.
//!
//! The rules are written when the set of networks changes; a published port is an element of a map.
//! Only this table is ever touched. It can refuse what another table allows but not allow what another
//! refuses (a FORWARD policy of DROP, say): that is nftables' own order.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use crate::bridge::check_name;
use crate::conntrack::forget_udp;
use crate::error::{Error, Result};
use crate::{Bridge, Port, Protocol};

/// How long `nft` may take.
const LIMIT: Duration = Duration::from_secs(20);
/// What `nft` says when the table or an element is not there (ENOENT).
const GONE: &str = "No such file or directory";

/// A daemon's table, and what is in it.
pub struct Firewall {
    table: String,
    /// Held while `nft` runs, so that two changes do not cross.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bridges: Vec<Bridge>,
    published: BTreeSet<Port>,
}

impl Firewall {
    /// The table of this name; nothing happens before [`Firewall::install`].
    pub fn new(table: &str) -> Self {
        Firewall { table: table.into(), state: Mutex::default() }
    }

    /// Writes the whole table for these bridges in one step, in place of what was there; ports
    /// published through this object stay.
    pub async fn install(&self, bridges: &[Bridge]) -> Result<()> {
        for bridge in bridges {
            check_name(&bridge.name)?;
        }
        let mut state = self.state.lock().await;
        state.bridges = bridges.to_vec();
        self.write("install", &state).await
    }

    /// Leads these ports into their containers. Ports of a loopback address are left to the container's
    /// supervisor, which serves them from its socket, as are IPv6 ones.
    pub async fn publish(&self, ports: &[Port]) -> Result<()> {
        let mut state = self.state.lock().await;
        let fresh: Vec<_> =
            ports.iter().filter(|port| !state.published.contains(port)).copied().collect();
        state.published.extend(&fresh);
        let result = self.change("add", "publish ports", &fresh, &state).await;
        if result.is_err() {
            state.published.retain(|port| !fresh.contains(port));
        }
        result
    }

    /// Takes back what [`Firewall::publish`] did; ports that are not published are no error.
    pub async fn unpublish(&self, ports: &[Port]) -> Result<()> {
        let mut state = self.state.lock().await;
        let present: Vec<_> =
            ports.iter().filter(|port| state.published.remove(port)).copied().collect();
        let changed = self.change("delete", "take published ports back", &present, &state).await;
        drop(state);
        let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp);
        let targets: Vec<_> = udp.map(|port| port.container).collect();
        if targets.is_empty() {
            return changed;
        }
        let forgotten = crate::blocking(move || forget_udp(&targets)).await;
        changed.and(
            forgotten
                .map(drop)
                .map_err(|source| Error::Netlink { action: "forget udp conversations", source }),
        )
    }

    /// Changes elements, or writes the whole table anew if another program took it away (a restart of
    /// the host's own firewall does).
    async fn change(
        &self,
        verb: &str,
        action: &'static str,
        ports: &[Port],
        state: &State,
    ) -> Result<()> {
        let text = elements(verb, &self.table, ports.iter());
        if text.is_empty() {
            return Ok(());
        }
        match self.run(action, &text).await {
            Err(Error::Firewall { message, .. }) if message.contains(GONE) => {
                self.write(action, state).await
            }
            other => other,
        }
    }

    async fn write(&self, action: &'static str, state: &State) -> Result<()> {
        let mut text = rules(&self.table, &state.bridges);
        text.push_str(&elements("add", &self.table, state.published.iter()));
        self.run(action, &text).await
    }

    /// Removes the table; that there is none is no error.
    pub async fn remove(&self) -> Result<()> {
        let table = &self.table;
        self.run("remove", &format!("add table ip {table}\ndelete table ip {table}\n")).await
    }

    async fn run(&self, action: &'static str, text: &str) -> Result<()> {
        let fail = |source| Error::Nft { table: self.table.clone(), source };
        let mut child = tokio::process::Command::new("nft")
            .args(["-f", "-"])
            // Its messages are read.
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(fail)?;
        let mut stdin = child.stdin.take();
        let work = async {
            if let Some(stdin) = &mut stdin {
                stdin.write_all(text.as_bytes()).await?;
            }
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| {
            let message = format!("nft did not end within {LIMIT:?}");
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message))
        });
        let output = output.map_err(fail)?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Firewall { table: self.table.clone(), action, message })
    }
}

/// The text that replaces the table, or makes it, in one transaction.
fn rules(table: &str, bridges: &[Bridge]) -> String {
    let mut text = format!("add table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n");
    text.push_str(
        "  map published { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
  map published_everywhere { type inet_proto . inet_service : ipv4_addr . inet_service; }
  set bridges { type ifname;",
    );
    let names: Vec<_> = bridges.iter().map(|bridge| format!("\"{}\"", bridge.name)).collect();
    if !names.is_empty() {
        let _ = write!(text, " elements = {{ {} }};", names.join(", "));
    }
    // Containers reach published ports through the supervisors' sockets: their packets are left alone.
    text.push_str(
        " }
  chain publish {
    dnat ip to meta l4proto . ip daddr . th dport map @published
    dnat ip to meta l4proto . th dport map @published_everywhere
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname != @bridges fib daddr type local meta l4proto { tcp, udp } jump publish
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto { tcp, udp } jump publish
  }
",
    );
    text.push_str(
        "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n",
    );
    for Bridge { name, subnet: (address, prefix), .. } in bridges.iter().filter(|b| !b.internal) {
        let _ = writeln!(text, "    ip saddr {address}/{prefix} oifname != \"{name}\" masquerade");
    }
    text.push_str(
        "  }\n  chain forward {\n    type filter hook forward priority filter; policy accept;\n",
    );
    for Bridge { name, .. } in bridges {
        let _ = writeln!(text, "    iifname \"{name}\" oifname \"{name}\" accept");
    }
    for Bridge { name, .. } in bridges.iter().filter(|bridge| bridge.internal) {
        let _ = writeln!(text, "    iifname \"{name}\" drop\n    oifname \"{name}\" drop");
    }
    // From outside only what was published comes in, and answers.
    text.push_str(
        "    iifname @bridges oifname @bridges drop
    oifname @bridges ct state established,related accept
    oifname @bridges ct status dnat accept
    oifname @bridges drop
    iifname @bridges accept
  }
}
",
    );
    text
}

/// One line for each port that the table serves.
fn elements<'a>(verb: &str, table: &str, ports: impl Iterator<Item = &'a Port>) -> String {
    let mut text = String::new();
    for Port { protocol, host: (address, number), container: (target, inner) } in ports {
        let (map, key) = match address {
            None => ("published_everywhere", format!("{protocol} . {number}")),
            Some(IpAddr::V4(address)) if address.is_unspecified() => {
                ("published_everywhere", format!("{protocol} . {number}"))
            }
            Some(IpAddr::V4(address)) if !address.is_loopback() => {
                ("published", format!("{protocol} . {address} . {number}"))
            }
            Some(_) => continue,
        };
        let _ = writeln!(text, "{verb} element ip {table} {map} {{ {key} : {target} . {inner} }}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_table_serves_becomes_an_element() {
        let port = |address: Option<&str>| Port {
            protocol: Protocol::Tcp,
            host: (address.map(|text| text.parse().unwrap()), 8080),
            container: ("172.17.0.2".parse().unwrap(), 80),
        };
        let text = |address| elements("add", "t", [port(address)].iter());
        let everywhere = "add element ip t published_everywhere { tcp . 8080 : 172.17.0.2 . 80 }\n";
        assert_eq!(text(None), everywhere);
        assert_eq!(text(Some("0.0.0.0")), everywhere);
        assert_eq!(
            text(Some("10.0.0.1")),
            "add element ip t published { tcp . 10.0.0.1 . 8080 : 172.17.0.2 . 80 }\n"
        );
        assert_eq!(text(Some("127.0.0.1")) + &text(Some("::")), "");
    }
}
