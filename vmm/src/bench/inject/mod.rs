//! What injection costs: each mechanism's steps, runs and faults per second, putting a machine back, and having nothing armed.
//!
//! | module | idea |
//! |---|---|
//! | [`micro`] | arm, trap, disarm, retry, reflect: a micro-guest that touches one page |
//! | [`sessions`] | runs of the real guest: throughput, restore, and the price of rules that do nothing |
//! | [`table`] | the figures as text and as Markdown |
//!
//! The one thing to hold in mind: these are times, so they are of one host under one load, and are never asserted. Where two are
//! compared, they were measured in turn in the same machine, and the same thing against itself beside them shows what is noise.

pub mod micro;
pub mod sessions;
pub mod table;

use super::document::Figure;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Faults of each mechanism in the micro-guest.
    pub faults: usize,
    /// Rounds of runs, in each of which every variant has its turn.
    pub rounds: usize,
    /// Batches of runs for the throughput.
    pub batches: usize,
}

impl Amount {
    /// What is measured when nothing is said.
    pub const DEFAULT: Self = Self { faults: 500, rounds: 30, batches: 5 };
}

/// Everything that was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// The figures.
    pub figures: Vec<Figure>,
    /// What could not be measured, and why.
    pub remarks: Vec<String>,
}

/// Measures all of it.
///
/// # Errors
/// The host or the guest failed; says where.
pub async fn measure(amount: Amount) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    // A Lab has its thread to itself: signals and alarms are the thread's.
    let micro = tokio::task::spawn_blocking(move || {
        let thread = std::thread::Builder::new().name("micro".into());
        let running = thread.spawn(move || micro::measure(amount.faults))?;
        running.join().map_err(|_| anyhow::anyhow!("the thread of the micro-guest failed"))?
    });
    let (figures, remarks) = micro.await??;
    measured.figures.extend(figures);
    measured.remarks.extend(remarks);
    measured.figures.extend(sessions::measure(amount).await?);
    Ok(measured)
}
