//! Makes a guest one container's own: entropy, clock, network, files. All before the first instruction.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use caisson_protocol::agent::{Interface, Prepare, SHARE, SHARE_TAG};
use rustix::mount::MountFlags;
use rustix::net::{AddressFamily, SocketType};

/// linux/random.h
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;

pub fn prepare(prepare: &Prepare) -> Result<()> {
    seed(&prepare.entropy).context("seed the random number generator")?;
    let time = rustix::time::Timespec {
        tv_sec: prepare.time.div_euclid(1_000_000_000),
        tv_nsec: prepare.time.rem_euclid(1_000_000_000),
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, time).context("set the clock")?;
    if prepare.mount_share {
        std::fs::create_dir_all(SHARE).context("make the share's mount point")?;
        let flags = MountFlags::empty();
        rustix::mount::mount(SHARE_TAG, SHARE, "virtiofs", flags, c"")
            .context("mount the share")?;
    }
    up("lo").context("bring up lo")?;
    for (index, interface) in prepare.interfaces.iter().enumerate() {
        configure(index, interface).with_context(|| format!("set up {}", interface.name))?;
    }
    unplug_from(prepare.interfaces.len())
}

/// Takes the interfaces from this number on away: a guest booted ahead has one, and a container without
/// a network sees none but its loopback.
fn unplug_from(first: usize) -> Result<()> {
    for number in first.. {
        let device = format!("/sys/class/net/eth{number}/device");
        let Ok(target) = std::fs::read_link(&device) else { return Ok(()) };
        let name = target.file_name().context("a device without a name")?;
        std::fs::write(format!("{device}/driver/unbind"), name.as_encoded_bytes())
            .with_context(|| format!("take eth{number} away"))?;
    }
    Ok(())
}

/// Mixes the host's bytes into the kernel's pool and reseeds from it; a failure stops the start.
fn seed(digits: &str) -> Result<()> {
    #[repr(C)]
    struct PoolInfo {
        bits: i32,
        bytes: i32,
        data: [u8; 64],
    }
    anyhow::ensure!(digits.len() == 128 && digits.is_ascii(), "64 bytes are wanted");
    let mut info = PoolInfo { bits: 512, bytes: 64, data: [0; 64] };
    for (index, byte) in info.data.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16)?;
    }
    let device = File::options().write(true).open("/dev/urandom")?;
    // SAFETY: RNDADDENTROPY reads a rand_pool_info of the length it says; RNDRESEEDCRNG takes nothing.
    unsafe {
        check(libc::ioctl(device.as_raw_fd(), RNDADDENTROPY, &raw const info))?;
        check(libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG))
    }
}

fn configure(index: usize, interface: &Interface) -> Result<()> {
    let name = format!("eth{index}");
    anyhow::ensure!(name == interface.name, "the guest calls this interface {name}");
    let mut request = request(&name);
    request.ifr_ifru.ifru_hwaddr.sa_family = libc::ARPHRD_ETHER;
    let address = unsafe {
        // SAFETY: sa_data is written as the hardware address that its family says it is.
        &mut request.ifr_ifru.ifru_hwaddr.sa_data
    };
    for (to, from) in address.iter_mut().zip(interface.mac) {
        *to = from as libc::c_char;
    }
    control(libc::SIOCSIFHWADDR, &mut request).context("set the hardware address")?;
    request.ifr_ifru.ifru_mtu = interface.mtu as i32;
    control(libc::SIOCSIFMTU, &mut request).context("set the MTU")?;
    for (address, prefix) in &interface.addresses {
        let IpAddr::V4(address) = address else {
            anyhow::bail!("{address}: IPv6 addresses are not supported in a guest yet");
        };
        request.ifr_ifru.ifru_addr = socket_address(*address);
        control(libc::SIOCSIFADDR, &mut request).context("set the address")?;
        let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
        request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from(mask));
        control(libc::SIOCSIFNETMASK, &mut request).context("set the prefix")?;
    }
    up(&name)?;
    for gateway in &interface.gateways {
        let IpAddr::V4(gateway) = gateway else { continue };
        route(*gateway).with_context(|| format!("route by {gateway}"))?;
    }
    Ok(())
}

fn route(gateway: Ipv4Addr) -> Result<()> {
    // SAFETY: all zero is a valid rtentry.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: SIOCADDRT reads the rtentry that is passed.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) })
}

fn up(name: &str) -> Result<()> {
    let mut request = request(name);
    control(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the kernel has just filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as i16 };
    control(libc::SIOCSIFFLAGS, &mut request)
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn control(number: libc::c_ulong, request: &mut libc::ifreq) -> Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: all SIOC(G|S)IF* requests take an ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), number as _, request) })
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut bytes = [0 as libc::c_char; 14];
    for (to, from) in bytes[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as u16, sa_data: bytes }
}

fn check(value: i32) -> Result<()> {
    anyhow::ensure!(value >= 0, std::io::Error::last_os_error());
    Ok(())
}
