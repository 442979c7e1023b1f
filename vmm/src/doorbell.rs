//! The doorbell: the window through which guest and injector talk (`docs/fault-abi.md`).
//!
//! The one thing to hold in mind: every value here was chosen by the guest. An address is checked before it is
//! kept, memory behind it is read once for each use, and what the guest can make the host remember is bounded.
//!
//! The device decides nothing about faults; it hands sites and pages to the [`Injector`], and tells the outside
//! what the guest reports. Without an injector the window is there all the same, for reports and counters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use refault_abi::counters::WORDS;
use refault_abi::doorbell::{MAGIC, SITE_PROCESSORS, SitePage, TrapRecord, VERSION, event, feature, reg};
use refault_devices::bus::{Access, Device, Refusal};
use tokio::sync::mpsc::UnboundedSender;
use vm_memory::{Bytes, GuestAddress};

use crate::inject::Injector;
use crate::inject::rule::PageClass;
use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;
use crate::vm::action::Action;
use crate::vm::console::ConsoleTimes;
use crate::vm::event::VmEvent;
use crate::vm::outcome::{GuestEvent, Snapshot};

/// Reports and events taken from one machine; further ones are counted and dropped.
const NEWS_LIMIT: u64 = 65_536;

/// Events with a snapshot of all counters taken from one machine; further ones come without.
const SNAPSHOT_LIMIT: u64 = 4096;

/// Bytes of reports taken from one machine.
const REPORT_BYTES_LIMIT: u64 = 16 << 20;

/// The other half of [`reg::ARGUMENT`].
const ARGUMENT_HIGH: u64 = reg::ARGUMENT + 4;

/// What the guest has written to the registers, and how much it has told: all that has to be put back with the guest.
#[derive(Debug, Clone, Default)]
pub struct Registers(State);

#[derive(Debug, Clone, Default)]
struct State {
    /// Low half of a 64-bit register that has been written, and which register.
    low_half: Option<(u64, u32)>,
    counters_page: Option<u64>,
    report_page: Option<u64>,
    news: u64,
    snapshots: u64,
    report_bytes: u64,
    panic_told: bool,
    wedge_told: bool,
    /// For the next PAGE_AWAY writes; 0 for the one access that is the default.
    away_times: u32,
    /// What the guest's program is told.
    argument: u64,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Doorbell {
    ram: Arc<GuestRam>,
    injector: Option<Arc<Injector>>,
    processors: u8,
    started: Instant,
    console: Arc<ConsoleTimes>,
    news: UnboundedSender<VmEvent>,
    state: Mutex<State>,
}

impl Doorbell {
    /// A doorbell that tells its news to `news`, with times counted from `started`.
    pub fn new(
        ram: Arc<GuestRam>,
        injector: Option<Arc<Injector>>,
        processors: u8,
        started: Instant,
        console: Arc<ConsoleTimes>,
        news: UnboundedSender<VmEvent>,
    ) -> Self {
        Self { ram, injector, processors, started, console, news, state: Mutex::default() }
    }

    /// The guest's counters now; empty if it has registered none.
    pub fn guest_counters(&self) -> Vec<u64> {
        let Some(page) = self.lock().counters_page else { return Vec::new() };
        let mut bytes = [0; PAGE_SIZE as usize];
        if self.ram.device_view().read_slice(&mut bytes, GuestAddress(page)).is_err() {
            return Vec::new();
        }
        bytes
            .chunks_exact(8)
            .take(WORDS)
            .filter_map(|w| Some(u64::from_le_bytes(w.try_into().ok()?)))
            .collect()
    }

    /// The registers now, for [`Doorbell::begin`].
    pub fn registers(&self) -> Registers {
        Registers(self.lock().clone())
    }

    /// Begins anew with `registers`, and with `argument` for the guest's program.
    pub fn begin(&self, registers: &Registers, argument: u64) {
        *self.lock() = State { argument, ..registers.0.clone() };
    }

    /// The number that the guest's program reads from now on.
    pub fn set_argument(&self, argument: u64) {
        self.lock().argument = argument;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn features(&self) -> u32 {
        match &self.injector {
            Some(injector) => {
                let away = if injector.allows_guest() { feature::AWAY } else { 0 };
                feature::REFLECT
                    | feature::SITES
                    | feature::REPORT
                    | feature::ARGUMENT
                    | feature::CLASSES
                    | away
            }
            None => feature::REPORT | feature::ARGUMENT,
        }
    }

    fn write32(&self, offset: u64, value: u32) -> Result<Option<Action>, Refusal> {
        match offset {
            reg::SITE => {
                self.injector.as_ref().ok_or(Refusal::Forbidden)?.site(value);
                Ok(None)
            }
            reg::REPORT => self.report(value).map(|()| None),
            reg::AWAY_TIMES => {
                self.lock().away_times = value;
                Ok(None)
            }
            reg::MAGIC | reg::VERSION | reg::FEATURES | reg::ARGUMENT | ARGUMENT_HIGH => {
                Err(Refusal::ReadOnly)
            }
            // Halves of the 64-bit registers.
            reg::TRAP_RECORDS..=reg::PAGE_AWAY | reg::CLASS_PAGE if offset.is_multiple_of(8) => {
                self.lock().low_half = Some((offset, value));
                Ok(None)
            }
            _ => {
                let register = offset.wrapping_sub(4);
                let low_half = self.lock().low_half.take();
                match low_half {
                    Some((low, bits)) if low == register => {
                        self.write64(register, u64::from(value) << 32 | u64::from(bits))
                    }
                    _ => Err(Refusal::NoRegister),
                }
            }
        }
    }

    fn write64(&self, offset: u64, value: u64) -> Result<Option<Action>, Refusal> {
        match offset {
            reg::TRAP_RECORDS => {
                let len = u64::from(self.processors) * size_of::<TrapRecord>() as u64;
                let records = self.checked(value, len, align_of::<TrapRecord>() as u64)?;
                // The page they are in never goes away, which has to mean all of them.
                if records.is_some_and(|at| at % PAGE_SIZE + len > PAGE_SIZE) {
                    return Err(Refusal::Forbidden);
                }
                if let Some(injector) = &self.injector {
                    injector.set_records(records);
                }
            }
            reg::SITE_PAGE => {
                let page = self.checked(value, size_of::<SitePage>() as u64, PAGE_SIZE)?;
                if let Some(injector) = &self.injector {
                    injector.set_site_page(page);
                }
            }
            reg::COUNTERS => {
                let page = self.checked(value, PAGE_SIZE, PAGE_SIZE)?;
                self.lock().counters_page = page;
                self.keep(offset, page);
            }
            reg::REPORT_PAGE => {
                let page = self.checked(value, PAGE_SIZE, PAGE_SIZE)?;
                self.lock().report_page = page;
                self.keep(offset, page);
            }
            reg::DIRECT_MAP => {
                if let Some(injector) = &self.injector {
                    injector.set_direct_map(value);
                }
            }
            reg::PAGE_BACK => {
                if !self.ram.contains(value, 1) {
                    return Err(Refusal::Forbidden);
                }
                if let Some(injector) = &self.injector {
                    injector.page_back(value);
                }
            }
            reg::PAGE_AWAY => {
                let injector = self.injector.as_ref().filter(|injector| injector.allows_guest());
                let injector = injector.filter(|_| self.ram.contains(value, 1)).ok_or(Refusal::Forbidden)?;
                injector.page_away(value, self.lock().away_times.max(1));
            }
            reg::EVENT => return Ok(self.event(value as u32, (value >> 32) as u32)),
            reg::ARGUMENT => return Err(Refusal::ReadOnly),
            reg::CLASS_PAGE => {
                let injector = self.injector.as_ref().ok_or(Refusal::Forbidden)?;
                let class = PageClass::from_doorbell(value % PAGE_SIZE).ok_or(Refusal::Forbidden)?;
                if !self.ram.contains(value - value % PAGE_SIZE, PAGE_SIZE) {
                    return Err(Refusal::Forbidden);
                }
                injector.name_page(value, class);
            }
            _ => return Err(Refusal::NoRegister),
        }
        Ok(None)
    }

    /// An address of `len` bytes that is RAM and aligned; 0 is the withdrawal.
    fn checked(&self, gpa: u64, len: u64, align: u64) -> Result<Option<u64>, Refusal> {
        match gpa {
            0 => Ok(None),
            _ if gpa.is_multiple_of(align) && self.ram.contains(gpa, len) => Ok(Some(gpa)),
            _ => Err(Refusal::Forbidden),
        }
    }

    fn keep(&self, which: u64, page: Option<u64>) {
        if let Some(injector) = &self.injector {
            injector.keep_page(which, page);
        }
    }

    /// The first `len` bytes of the report page as text.
    fn report_text(&self, len: u32) -> Result<String, Refusal> {
        let page = self.lock().report_page.ok_or(Refusal::Forbidden)?;
        let mut bytes = [0; PAGE_SIZE as usize];
        let text =
            usize::try_from(len).ok().and_then(|len| bytes.get_mut(..len)).ok_or(Refusal::Forbidden)?;
        self.ram.device_view().read_slice(text, GuestAddress(page)).map_err(|_| Refusal::Forbidden)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn report(&self, len: u32) -> Result<(), Refusal> {
        let text = self.report_text(len)?;
        {
            let mut state = self.lock();
            state.report_bytes = state.report_bytes.saturating_add(u64::from(len));
            if state.report_bytes > REPORT_BYTES_LIMIT {
                return Err(Refusal::Forbidden);
            }
        }
        self.tell(|| VmEvent::Report(text));
        Ok(())
    }

    /// Tells an event, and says what else it asks for.
    fn event(&self, code: u32, value: u32) -> Option<Action> {
        let at = self.started.elapsed();
        if code == event::PROGRAM_START {
            self.console.program_starts();
        }
        let wanted = matches!(code, event::CASE_BEGIN | event::CASE_END) && {
            let mut state = self.lock();
            state.snapshots = state.snapshots.saturating_add(1);
            state.snapshots <= SNAPSHOT_LIMIT
        };
        let snapshot = wanted.then(|| {
            let faults = self.injector.as_ref().map(|i| i.counters()).unwrap_or_default();
            Box::new(Snapshot { guest: self.guest_counters(), faults })
        });
        // Whatever came before it: how the machine is said to have ended depends on this one.
        let told = code == event::PANIC && !std::mem::replace(&mut self.lock().panic_told, true);
        // So does this one; the first graph is the one that counts.
        if code == event::WEDGED && !std::mem::replace(&mut self.lock().wedge_told, true) {
            let _ = self.news.send(VmEvent::Wedged(self.report_text(value).unwrap_or_default()));
        }
        let news = VmEvent::Guest(GuestEvent { code, value, at, snapshot });
        match told {
            // Nobody listens any more when the machine is being torn down.
            true => drop(self.news.send(news)),
            false => self.tell(|| news),
        }
        match code {
            event::MEASURE_BEGIN => Some(Action::MeasureBegin(value)),
            event::MEASURE_END => Some(Action::MeasureEnd(value)),
            event::READY => Some(Action::Ready),
            _ => None,
        }
    }

    fn tell(&self, news: impl FnOnce() -> VmEvent) {
        let mut state = self.lock();
        state.news = state.news.saturating_add(1);
        if state.news <= NEWS_LIMIT {
            // Nobody listens any more when the machine is being torn down.
            let _ = self.news.send(news());
        }
    }
}

impl Device<Action> for Doorbell {
    fn read(&self, offset: u64, data: &mut [u8]) -> Access<Action> {
        if offset == reg::ARGUMENT
            && let Ok(whole) = <&mut [u8; 8]>::try_from(&mut *data)
        {
            *whole = self.lock().argument.to_le_bytes();
            return Access::Done;
        }
        let value = match offset {
            reg::ARGUMENT => self.lock().argument as u32,
            ARGUMENT_HIGH => (self.lock().argument >> 32) as u32,
            reg::MAGIC => MAGIC,
            reg::VERSION => VERSION,
            reg::FEATURES => self.features(),
            reg::TRAP_RECORDS..=reg::AWAY_TIMES | reg::CLASS_PAGE => {
                return Access::Refused(Refusal::WriteOnly);
            }
            _ => return Access::Refused(Refusal::NoRegister),
        };
        if data.len() != 4 {
            return Access::Refused(Refusal::Width);
        }
        data.copy_from_slice(&value.to_le_bytes());
        Access::Done
    }

    fn write(&self, offset: u64, data: &[u8]) -> Access<Action> {
        let done = match *data {
            [a, b, c, d] => self.write32(offset, u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => self.write64(offset, u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => Err(Refusal::Width),
        };
        match done {
            Ok(None) => Access::Done,
            Ok(Some(action)) => Access::Then(action),
            Err(refusal) => Access::Refused(refusal),
        }
    }
}

/// The port that a kernel being measured writes when it is entered; see [`refault_abi::doorbell::ENTRY_PORT`].
#[derive(Debug)]
pub struct EntryPort;

impl Device<Action> for EntryPort {
    fn read(&self, _offset: u64, _data: &mut [u8]) -> Access<Action> {
        Access::Refused(Refusal::WriteOnly)
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Access<Action> {
        Access::Then(Action::KernelEntered)
    }
}

/// Processors that a site page can serve.
pub const MAX_PROCESSORS: u8 = SITE_PROCESSORS as u8;

#[cfg(test)]
#[path = "doorbell_tests.rs"]
mod tests;
