//! The conversation with a guest's agent: one request at a time, its reply, and the events between.
//!
//! Owns what the guest has said and nobody has asked for yet. The guest is hostile: a reply counts only for
//! the request under way, an exit only for a process that was started, and what is kept is bounded.

use std::collections::{HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use caisson_protocol::agent::{FromAgent, Request, ToAgent, VERSION};
use caisson_protocol::frame::Error;
use caisson_protocol::task::{Event, Exit, Failure, FailureKind, ProcessId, Reply};
use rustix::event::{EventfdFlags, PollFlags, eventfd};

use crate::failure::{failure, internal, now};
use crate::mux::Mux;

/// What is known of the container.
///
/// ```text
/// Absent -start-> Starting -Started-> Running -Exited-> Ended
///    ^---Failed-------'    -Exited-> Ended (a short program's exit comes with the reply)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Absent,
    Starting,
    Running,
    Ended,
}

/// The connection to one agent.
pub struct Link {
    mux: Mux,
    events: VecDeque<Event>,
    /// Readable while there are events: they may come while a reply is waited for.
    signal: OwnedFd,
    sequence: u64,
    reply: Option<Reply>,
    kernel: Option<String>,
    container: Container,
    execs: HashSet<String>,
}

impl Link {
    /// `wire` must be non-blocking.
    pub fn new(wire: OwnedFd) -> Result<Self, Failure> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Link {
            mux: Mux::new(wire),
            events: VecDeque::new(),
            signal: eventfd(0, flags).map_err(internal)?,
            sequence: 0,
            reply: None,
            kernel: None,
            container: Container::Absent,
            execs: HashSet::new(),
        })
    }

    /// The guest's kernel release, once its agent has said hello.
    pub fn kernel(&self) -> Option<&str> {
        self.kernel.as_deref()
    }

    /// Where a process's streams are connected.
    pub fn mux(&mut self) -> &mut Mux {
        &mut self.mux
    }

    /// Channels for the streams of the process that the next request starts.
    pub fn channels(&self) -> [u32; 3] {
        let first = self.sequence as u32 * 4 + 1;
        [first, first + 1, first + 2]
    }

    /// The descriptors to wait on, and for what.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        self.mux.interests()
    }

    /// Readable while [`Link::next_event`] has something.
    pub fn signal(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }

    /// Sends a request; the reply of the one before counts no more.
    pub fn send(&mut self, request: Request) -> Result<(), Error> {
        match &request {
            Request::Start { .. } => self.container = Container::Starting,
            Request::Exec { id, .. } => drop(self.execs.insert(id.clone())),
            Request::Prepare(_) | Request::Task(_) => {}
        }
        self.sequence += 1;
        self.reply = None;
        self.mux.send(&ToAgent { sequence: self.sequence, request })
    }

    /// The reply to the last request, once.
    pub fn reply(&mut self) -> Option<Reply> {
        self.reply.take()
    }

    /// What came of the start, as its reply says.
    pub fn started(&mut self, well: bool) {
        match (self.container, well) {
            (Container::Starting, true) => self.container = Container::Running,
            (_, true) => {}
            (_, false) => {
                self.container = Container::Absent;
                while self.next_event().is_some() {}
            }
        }
    }

    /// An exec was refused: there is no process whose exit could come.
    pub fn refused(&mut self, exec: &str) {
        self.execs.remove(exec);
    }

    /// Moves bytes and takes in what the guest has said. An error is the guest's breach of the protocol.
    pub fn service(&mut self) -> Result<(), Error> {
        let moved = self.mux.service();
        while let Some(message) = self.mux.next_message() {
            self.message(&message)?;
        }
        moved
    }

    fn message(&mut self, message: &[u8]) -> Result<(), Error> {
        match serde_json::from_slice(message)? {
            FromAgent::Hello { version, .. } if version != VERSION => {
                let text = format!("the guest speaks version {version}, not {VERSION}");
                return Err(std::io::Error::other(text).into());
            }
            FromAgent::Hello { kernel, .. } if self.kernel.is_none() => {
                let plain = kernel.chars().filter(|c| c.is_ascii_graphic());
                self.kernel = Some(plain.take(64).collect());
            }
            FromAgent::Reply { sequence, reply } if sequence == self.sequence => {
                self.reply = Some(reply);
            }
            FromAgent::Event(event) => self.event(event),
            _ => eprintln!("the guest sent what was not asked for; ignored"),
        }
        Ok(())
    }

    fn event(&mut self, event: Event) {
        let Event::Exited { process, exit } = event else {
            // One is as good as many, as long as nobody has been told.
            if self.container != Container::Absent && !self.events.contains(&Event::OutOfMemory) {
                self.tell(Event::OutOfMemory);
            }
            return;
        };
        let alive = match &process {
            ProcessId::Init => {
                matches!(self.container, Container::Starting | Container::Running)
            }
            ProcessId::Exec(id) => self.execs.remove(id),
        };
        if !alive {
            return;
        }
        if process == ProcessId::Init {
            self.container = Container::Ended;
        }
        // The guest's clock and numbers are the guest's word: keep them in range.
        let exit = Exit { code: exit.code & 0xff, at: now(), ..exit };
        self.tell(Event::Exited { process, exit });
    }

    /// The guest is gone, and a container that ran in it too.
    pub fn lost(&mut self) -> bool {
        let ran = self.container == Container::Running;
        if ran {
            self.container = Container::Ended;
            let exit = Exit { code: 137, oom_killed: false, at: now() };
            self.tell(Event::Exited { process: ProcessId::Init, exit });
        }
        ran
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        // The counter cannot overflow: it is read as often as the queue is emptied.
        let _ = rustix::io::write(&self.signal, &1u64.to_ne_bytes());
    }

    /// The next event, in the order in which they came.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            let _ = rustix::io::read(&self.signal, &mut [0; 8]);
        }
        event
    }
}

/// The failure of an answer that does not fit its request.
pub fn unexpected() -> Failure {
    failure(FailureKind::Internal, "the agent answered what was not asked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use caisson_bundle::{Bundle, defaults};
    use caisson_protocol::frame;
    use caisson_protocol::task::Stdio;
    use rustix::event::{PollFd, poll};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// A link, and the guest's end of its wire.
    fn link() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Link::new(ours.into()).unwrap(), theirs)
    }

    fn start(link: &mut Link) {
        let spec = defaults::spec(&["true"]);
        let bundle = Box::new(Bundle { id: "c".into(), rootfs: "/".into(), spec });
        let (stdio, channels) = (Stdio::default(), link.channels());
        link.send(Request::Start { bundle, stdio, channels }).unwrap();
    }

    fn exited(process: ProcessId, code: i32) -> FromAgent {
        let exit = Exit { code, oom_killed: false, at: 0 };
        FromAgent::Event(Event::Exited { process, exit })
    }

    /// Everything in one write, as one read takes it in.
    fn say(guest: &mut UnixStream, messages: &[FromAgent]) {
        let wire: Vec<u8> =
            messages.iter().flat_map(|message| frame::encode_message(message).unwrap()).collect();
        guest.write_all(&wire).unwrap();
    }

    fn codes(link: &mut Link) -> Vec<i32> {
        let events = std::iter::from_fn(|| link.next_event());
        events
            .map(|event| match event {
                Event::Exited { exit, .. } => exit.code,
                Event::OutOfMemory => -1,
            })
            .collect()
    }

    fn signalled(link: &Link) -> bool {
        let zero = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(link.signal(), PollFlags::IN)], Some(&zero)).unwrap()
            == 1
    }

    #[test]
    fn an_exit_that_comes_with_the_starts_answer_counts() {
        let (mut link, mut guest) = link();
        start(&mut link);
        let started = FromAgent::Reply { sequence: 1, reply: Reply::Started { pid: 7 } };
        say(&mut guest, &[started, exited(ProcessId::Init, 3)]);
        link.service().unwrap();
        assert!(matches!(link.reply(), Some(Reply::Started { .. })));
        link.started(true);
        assert!(signalled(&link), "nobody would ask for the event");
        assert_eq!(codes(&mut link), [3]);
        assert!(!signalled(&link) && !link.lost());
    }

    #[test]
    fn an_exit_that_comes_with_another_answer_wakes_the_supervisor() {
        let (mut link, mut guest) = link();
        start(&mut link);
        link.started(true);
        link.send(Request::Task(caisson_protocol::task::Request::Pause)).unwrap();
        let done = FromAgent::Reply { sequence: 2, reply: Reply::Done };
        say(&mut guest, &[exited(ProcessId::Init, 0), done]);
        link.service().unwrap();
        assert!(matches!(link.reply(), Some(Reply::Done)) && signalled(&link));
        assert_eq!(codes(&mut link), [0]);
    }

    #[test]
    fn exits_of_what_was_not_started_do_not_count() {
        let (mut link, mut guest) = link();
        say(&mut guest, &[exited(ProcessId::Init, 1), FromAgent::Event(Event::OutOfMemory)]);
        link.service().unwrap();
        assert!(codes(&mut link).is_empty());
        start(&mut link);
        say(&mut guest, &[exited(ProcessId::Init, 2)]);
        link.service().unwrap();
        link.started(false);
        assert!(codes(&mut link).is_empty() && !signalled(&link));
        start(&mut link);
        link.started(true);
        let exec = || ProcessId::Exec("e".into());
        say(&mut guest, &[exited(exec(), 4), exited(ProcessId::Init, 256 + 5)]);
        say(&mut guest, &[exited(ProcessId::Init, 6)]);
        link.service().unwrap();
        assert_eq!(codes(&mut link), [5]);
    }

    #[test]
    fn an_execs_exit_counts_once() {
        let (mut link, mut guest) = link();
        start(&mut link);
        link.started(true);
        let process = Box::new(defaults::spec(&["true"]).process().clone().unwrap());
        let (stdio, channels) = (Stdio::default(), link.channels());
        link.send(Request::Exec { id: "e".into(), process, stdio, channels }).unwrap();
        let exec = || ProcessId::Exec("e".into());
        say(&mut guest, &[exited(exec(), 1), exited(exec(), 2)]);
        link.service().unwrap();
        assert_eq!(codes(&mut link), [1]);
    }

    #[test]
    fn a_flood_of_events_is_not_kept() {
        let (mut link, mut guest) = link();
        start(&mut link);
        link.started(true);
        say(&mut guest, &vec![FromAgent::Event(Event::OutOfMemory); 500]);
        link.service().unwrap();
        assert_eq!(codes(&mut link), [-1]);
    }

    #[test]
    fn a_container_ends_with_its_guest() {
        let (mut link, _guest) = link();
        start(&mut link);
        link.started(true);
        assert!(link.lost() && !link.lost());
        assert_eq!(codes(&mut link), [137]);
    }

    #[test]
    fn another_version_is_a_breach() {
        let (mut link, mut guest) = link();
        say(&mut guest, &[FromAgent::Hello { version: VERSION + 1, kernel: "x".into() }]);
        assert!(link.service().is_err() && link.kernel().is_none());
    }
}
