//! What happened, told to whoever listens; the last of it is kept for `since`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use caisson_api::wire;
use tokio::sync::broadcast;

use crate::{Engine, Record};

/// As many as Docker keeps.
const KEPT: usize = 256;
/// How far a listener may be behind before it loses events.
const BEHIND: usize = 1024;

/// One event, as the API shows it.
pub type Event = wire::EventMessage;

/// The events of one engine.
pub struct Events {
    recent: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Events { recent: Mutex::default(), sender: broadcast::channel(BEHIND).0 }
    }
}

impl Events {
    /// Tells that `action` was done to the object of this type and id.
    pub fn tell(
        &self,
        kind: wire::EventMessageTypeEnum,
        action: impl Into<String>,
        id: &str,
        attributes: HashMap<String, String>,
    ) {
        let now = crate::now();
        let actor = wire::EventActor { id: Some(id.into()), attributes: Some(attributes) };
        let event = Event {
            typ: Some(kind),
            action: Some(action.into()),
            actor: Some(actor),
            scope: Some(wire::EventMessageScopeEnum::LOCAL),
            time: Some(now / 1_000_000_000),
            time_nano: Some(now),
        };
        let mut recent = self.lock();
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // Nobody listens: nobody is told.
        let _ = self.sender.send(event);
    }

    /// What is kept since a time (nanoseconds; `None`: nothing of the past), and what comes from now on:
    /// nothing is missed or told twice in between.
    pub fn listen(&self, since: Option<i64>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let recent = self.lock();
        let past = since.map(|since| {
            recent.iter().filter(|event| event.time_nano >= Some(since)).cloned().collect()
        });
        (past.unwrap_or_default(), self.sender.subscribe())
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Tells that `action` was done to a container, with Docker's attributes and these.
    pub(crate) fn tell_container(&self, record: &Record, action: &str, more: &[(&str, &str)]) {
        let mut attributes = record.config.labels.clone().unwrap_or_default();
        let image = record.config.image.clone().unwrap_or_default();
        attributes.insert("image".into(), image);
        attributes.insert("name".into(), record.name.clone());
        attributes.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let kind = wire::EventMessageTypeEnum::CONTAINER;
        self.0.events.tell(kind, action, &record.id, attributes);
    }
}
