//! What a machine has told so far, and what follows from it for how it ended.

use std::time::Duration;

use refault_abi::doorbell::{WEDGED_STATUS, event};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::ending::Ending;
use super::event::VmEvent;
use super::outcome::{End, GuestEvent};

/// Everything heard of one machine, or of one run of it.
#[derive(Debug, Default)]
pub struct News {
    /// Texts the guest reported, in order.
    pub reports: Vec<String>,
    /// Events the guest signalled, in order.
    pub events: Vec<GuestEvent>,
    /// Who waits for whom, if the guest's kernel found that nothing can go on.
    graph: Option<String>,
}

/// A time that is allowed, and when it is over.
pub type Deadline = Option<(Duration, Instant)>;

impl News {
    /// Listens until the machine ends or the time is over; what the processor or the clock said.
    pub async fn until_end(&mut self, from: &mut UnboundedReceiver<VmEvent>, deadline: Deadline) -> Heard {
        loop {
            let next = match deadline {
                None => from.recv().await,
                Some((allowed, at)) => match tokio::time::timeout_at(at, from.recv()).await {
                    Ok(next) => next,
                    Err(_) => return Heard::TimedOut(allowed),
                },
            };
            match next.map(|event| self.hear(event)) {
                Some(None) => {}
                Some(Some(ending)) => return Heard::Ended(ending),
                None => return Heard::Ended(Ending::Panicked),
            }
        }
    }

    /// Takes what was on its way when the machine ended.
    pub fn catch_up(&mut self, from: &mut UnboundedReceiver<VmEvent>) {
        while let Ok(late) = from.try_recv() {
            self.hear(late);
        }
    }

    fn hear(&mut self, event: VmEvent) -> Option<Ending> {
        match event {
            VmEvent::Report(text) => self.reports.push(text),
            VmEvent::Guest(event) => self.events.push(event),
            VmEvent::Wedged(text) => self.graph = Some(text),
            VmEvent::Ended(ending) => return Some(ending),
        }
        None
    }

    /// How the machine ended, for its user: what it told counts for more than what its processor did.
    pub fn end(&mut self, heard: Heard) -> End {
        let panicked = self.events.iter().any(|e| e.code == event::PANIC);
        let end = match heard {
            Heard::TimedOut(allowed) => End::TimedOut(allowed),
            Heard::Ended(ending) => ending.into(),
        };
        match end {
            End::Exited(status) if panicked => End::Panicked(Some(status)),
            End::TimedOut(_) | End::Crashed(_) if panicked => End::Panicked(None),
            end => match (end, self.graph.take()) {
                // A guest that says so and goes on was wrong.
                (End::Exited(WEDGED_STATUS) | End::TimedOut(_), Some(text)) => End::Wedged(edges(&text)),
                (end, _) => end,
            },
        }
    }
}

/// Why listening ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A processor saw the machine's end.
    Ended(Ending),
    /// The time allowed was over.
    TimedOut(Duration),
}

/// The edges of a graph that the kernel wrote, without what stands in front of each.
fn edges(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("wedged:"));
    lines.map(|line| line.strip_prefix("wait-for:").unwrap_or(line).trim().to_owned()).collect()
}
