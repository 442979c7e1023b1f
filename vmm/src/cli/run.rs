//! The verb `run`: one machine from the command line, or the demo.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::demo;
use crate::exit_code::{self, ExitCode};
use crate::guest_image;
use crate::inject::mechanism::Wanted;
use crate::inject::{Rule, parse_rule};
use crate::mkfs;
use crate::vm::assemble::AssembleError;
use crate::vm::config::{Console, DEFAULT_MEMORY, Disk};
use crate::vm::patience::{EndSignal, PatientOutput};
use crate::vm::{Config, End, Outcome, Vm};

use super::terminal::RawMode;
use super::{Failure, config_file, disk, output, report, size};

const EXAMPLES: &str = "Examples:
  refault run                                        the demo
  refault run -- cat /hello.txt                      a program on a fresh demo disk
  refault run -it --disk disk.img                    a shell on a disk; Ctrl-\\ ends the machine
  refault run --disk disk.img,readonly=on -- ls -l /
  refault run -it --disk disk.img,overlay=on         the same shell; nothing of what it does reaches the image
  refault run --inject 'read page=1,7,last side=granter: reflect' --stats -- softread
  refault run --config plan.toml
  refault run --kernel vmlinux --cmdline 'console=ttyS0' --timeout 30s

Injection rules: FILTER : ACTION
  of fault sites     [read|write|bread|bwrite|getdents|rdlink|slink|stat] and any of
                     request, copy, page (numbers and `last`), attempt, side=granter|grantee, access=read|write, vcpu,
                     nth=N (the N-th site of all), share=P% (drawn from --seed)
  of memory          gpa=ram or gpa=FIRST-LAST,... and any of every=N, share=P%, access, vcpu,
                     class=kernel|pagetables|descriptors|virtqueues (left alone unless named)
  ACTION             reflect, reflect*N, reflect*forever, delay=2ms, `delay until=disk|site|trap` (at most 1 s), poison
  of disks           disk [n=0] [op=read|write|flush] [nth=N] [sector=A-B] [share=P%] : error, delay=2ms, torn=K, short=K
  or `guest: allow`: the guest's own programs may have pages of theirs taken away (test programs do)

Exit codes: 0-127 the guest's status, 130 interrupted, 160 usage, 161 kernel, 162 disk, 163 rule, 164 no KVM,
165 no permission for KVM, 166 host or monitor failure, 167 no way to take pages away, 168 mkfs, 169 report not written,
170 guest panic, 171 guest crash, 172 timeout, 173 demo without its result, 174 wedged guest, 175 failed guest tests,
176 an oracle violated, 177 coverage below the floor, 178 another result of a replay, 179 records that cannot be read.";

/// Run a guest; without arguments, the demo
#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A disk image; may be given several times
    #[arg(long, value_name = "PATH[,readonly=on][,overlay=on][,serial=S][,engine=uring|threads]")]
    disk: Vec<String>,
    /// Processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    cpus: Option<u8>,
    /// RAM [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    mem: Option<u64>,
    /// An ELF kernel with a PVH note, instead of the built-in one
    #[arg(long, value_name = "ELF")]
    kernel: Option<PathBuf>,
    /// A boot image, instead of the built-in one
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Kernel command line, in addition to the devices
    #[arg(long, value_name = "STR")]
    cmdline: Option<String>,
    /// A TOML file with disk, cpus, mem, cmdline, seed, timeout, program, kernel, initrd and [[rule]] tables; what the command line
    /// says counts
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Take guest pages away, see below; may be given several times
    #[arg(long, value_name = "RULE")]
    inject: Vec<String>,
    /// How pages are taken away
    #[arg(long, value_enum, value_name = "WAY", default_value = "best")]
    mechanism: MechanismName,
    /// What random shares in rules are drawn from; recorded in reports
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End the guest after this time, as in 30s [demo: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Give standard input to the guest's console; without a program, run the shell `sh`
    #[arg(short, long)]
    interactive: bool,
    /// With -i: pass characters on as they are typed, Ctrl-C too; Ctrl-\ ends the machine
    #[arg(short, long, requires = "interactive")]
    tty: bool,
    /// Print all figures to standard error at the end
    #[arg(long)]
    stats: bool,
    /// Write all figures as JSON (refault.run/1, the demo refault.demo/1); `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program to run in the guest, with its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// `--mechanism` as it is written.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum MechanismName {
    /// The best one that works
    #[default]
    Best,
    /// UFFDIO_POISON
    Poison,
    /// PROT_NONE
    Protnone,
    /// PROT_READ: only writes stop
    Protread,
    /// UFFDIO_WRITEPROTECT: only writes stop; see `refault doctor` first
    Writeprotect,
}

impl MechanismName {
    /// The mechanism.
    pub fn wanted(self) -> Wanted {
        match self {
            MechanismName::Best => Wanted::Best,
            MechanismName::Poison => Wanted::Poison,
            MechanismName::Protnone => Wanted::ProtNone,
            MechanismName::Protread => Wanted::ProtRead,
            MechanismName::Writeprotect => Wanted::WriteProtect,
        }
    }
}

/// A time with a unit, or seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|e| e.to_string()),
    };
    parsed
        .and_then(|d| if d.is_zero() { Err("no time at all".into()) } else { Ok(d) })
        .map_err(|why| format!("{text:?} is not a time ({why}); write 30s, 2min, 500ms"))
}

/// Runs the guest, or the demo, and says the exit code.
pub fn run(args: Args, started: Instant) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(ExitCode::Host, e))?;
    let interrupted = ExitCode::Interrupted as u8;
    runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|e| Failure::new(ExitCode::Host, e));
        // All of them before anything is begun: until then a signal ends the process as it is.
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let mut quit = listen(SignalKind::quit())?;
        // Whichever comes first drops the other: machines are stopped, temporary files removed, the terminal restored.
        tokio::select! {
            done = verb(args, started) => done,
            _ = interrupt.recv() => Ok(interrupted),
            _ = terminate.recv() => Ok(interrupted),
            _ = hang_up.recv() => Ok(interrupted),
            _ = quit.recv() => Ok(interrupted),
        }
    })
}

async fn verb(args: Args, started: Instant) -> Result<u8, Failure> {
    if args.is_demo() {
        return demo::command(&demo::Request {
            timeout: args.timeout,
            stats: args.stats,
            json: args.json.clone(),
            seed: args.seed,
            cpus: args.cpus.unwrap_or(1),
            memory: args.mem.unwrap_or(DEFAULT_MEMORY),
            mechanism: args.mechanism.wanted(),
            started,
        })
        .await;
    }
    one(args, started).await
}

impl Args {
    /// Whether nothing was said about what to run.
    fn is_demo(&self) -> bool {
        self.kernel.is_none()
            && self.initrd.is_none()
            && self.cmdline.is_none()
            && self.disk.is_empty()
            && !self.interactive
            && self.inject.is_empty()
            && self.config.is_none()
            && self.program.is_empty()
    }

    /// Takes what the command line does not say from the file it names, and gives the rules in it.
    fn take_from_file(&mut self) -> Result<Vec<Rule>, Failure> {
        let Some(path) = &self.config else { return Ok(Vec::new()) };
        let file = config_file::read(path).map_err(|e| Failure::new(ExitCode::Usage, e))?;
        self.disk.splice(0..0, file.disk);
        self.cpus = self.cpus.or(file.cpus);
        self.mem = self.mem.or(file.mem);
        self.cmdline = self.cmdline.take().or(file.cmdline);
        self.seed = self.seed.or(file.seed);
        self.timeout = self.timeout.or(file.timeout);
        self.kernel = self.kernel.take().or(file.kernel);
        self.initrd = self.initrd.take().or(file.initrd);
        if self.program.is_empty() {
            self.program = file.program;
        }
        Ok(file.rules)
    }
}

async fn one(mut args: Args, started: Instant) -> Result<u8, Failure> {
    let file_rules = args.take_from_file()?;
    let (stats, json) = (args.stats, args.json.clone());
    let json_on_stdout = json.as_deref() == Some(Path::new("-"));
    let scratch = Scratch::default();
    let kernel = args.kernel.clone();
    let (config, _terminal) = configure(args, file_rules, started, json_on_stdout, &scratch)?;
    let mut request = report::Request {
        command_line: String::new(),
        rules: config.rules.iter().map(ToString::to_string).collect(),
        seed: config.seed,
        cpus: config.cpus,
        memory: config.memory,
    };
    let vm = Vm::start(config).map_err(|error| match (error, kernel) {
        (AssembleError::Kernel(why), Some(path)) => Failure::new(
            ExitCode::Kernel,
            anyhow::anyhow!("the kernel {} cannot be booted: {why}", path.display()),
        ),
        (error, _) => failure(error),
    })?;
    request.command_line = vm.command_line().to_owned();
    let outcome = vm.run().await;
    finish(&request, &outcome, stats, json.as_deref())
}

fn finish(
    request: &report::Request,
    outcome: &Outcome,
    stats: bool,
    json: Option<&Path>,
) -> Result<u8, Failure> {
    if stats {
        output::remark(format_args!("{}", report::stats_text(&outcome.stats)));
    }
    if let Some(file) = json {
        report::write_json(file, &report::document(request, outcome))?;
    }
    if !matches!(outcome.end, End::Exited(_)) {
        output::remark(format_args!("refault: {}\n", report::describe(&outcome.end).2));
    }
    Ok(exit_code::of_end(&outcome.end))
}

/// A directory for a disk nobody asked to keep.
#[derive(Default)]
struct Scratch(std::cell::OnceCell<tempfile::TempDir>);

impl Scratch {
    fn demo_disk(&self) -> Result<Disk, Failure> {
        let dir = tempfile::tempdir().map_err(|e| Failure::new(ExitCode::Host, e))?;
        let path = dir.path().join("demo.img");
        mkfs::make_demo_image(&path, false).map_err(|e| Failure::new(ExitCode::Mkfs, e))?;
        let _ = self.0.set(dir);
        disk::parse(&path.display().to_string()).map_err(|e| Failure::new(ExitCode::Disk, e))
    }
}

fn configure(
    args: Args,
    file_rules: Vec<Rule>,
    started: Instant,
    json_on_stdout: bool,
    scratch: &Scratch,
) -> Result<(Config, Option<RawMode>), Failure> {
    let said = args.inject.iter().map(|r| parse_rule(r)).collect::<Result<Vec<_>, _>>();
    let mut rules = file_rules;
    rules.extend(said.map_err(|e| Failure::new(ExitCode::Rule, e))?);
    let disks = args.disk.iter().map(|d| disk::parse(d)).collect::<Result<Vec<_>, _>>();
    let mut disks = disks.map_err(|e| Failure::new(ExitCode::Disk, e))?;
    let (kernel, image): (Arc<[u8]>, Option<Arc<[u8]>>) = match &args.kernel {
        Some(path) => (Arc::from(read(path, "kernel")?), None),
        None => {
            guest_words("--cmdline", args.cmdline.as_deref().unwrap_or_default())?;
            (Arc::from(guest_image::KERNEL), Some(Arc::from(guest_image::BOOT_IMAGE)))
        }
    };
    if args.kernel.is_none() && disks.is_empty() {
        disks.push(scratch.demo_disk()?);
    }
    let image = match &args.initrd {
        Some(path) => Some(Arc::from(read(path, "boot image")?)),
        None => image,
    };
    let terminal = match args.interactive && args.tty && io::stdin().is_terminal() {
        true => RawMode::enter().map_err(|e| Failure::new(ExitCode::Host, e))?,
        false => None,
    };
    let input = match args.interactive {
        true => Some(standard_input().map_err(|e| Failure::new(ExitCode::Host, e))?),
        false => None,
    };
    let mut program = args.program;
    if args.interactive && program.is_empty() && args.kernel.is_none() {
        program.push("sh".into());
    }
    // With the document on standard output, the console goes to standard error.
    let output = match json_on_stdout {
        true => io::stderr().as_fd().try_clone_to_owned(),
        false => io::stdout().as_fd().try_clone_to_owned(),
    };
    let ready = output.and_then(|to| Ok((to, EndSignal::new()?)));
    let (output, ending) = ready.map_err(|e| Failure::new(ExitCode::Host, e))?;
    let output = Box::new(PatientOutput::new(output, ending.clone()));
    let config = Config {
        image,
        command_line: args.cmdline.unwrap_or_default(),
        program,
        memory: args.mem.unwrap_or(DEFAULT_MEMORY),
        cpus: args.cpus.unwrap_or(1),
        disks,
        rules,
        mechanism: args.mechanism.wanted(),
        seed: args.seed,
        console: Console { output, input },
        timeout: args.timeout,
        started,
        ending: Some(ending),
        ..Config::new(kernel)
    };
    Ok((config, terminal))
}

/// Standard input for the device loop, which must not be stopped by another reader of the same terminal or pipe that was
/// quicker: opened anew without blocking, because the flag of the one there is belongs to its other users, too.
fn standard_input() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    let kind = std::fs::File::from(stdin.as_fd().try_clone_to_owned()?).metadata()?.file_type();
    if kind.is_fifo() || stdin.is_terminal() {
        let mut options = std::fs::OpenOptions::new();
        // Fails where /proc is not there, or the terminal may not be opened again: then it is read as it is.
        if let Ok(file) =
            options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open("/proc/self/fd/0")
        {
            return Ok(file.into());
        }
    }
    stdin.as_fd().try_clone_to_owned()
}

/// Checks the words that the built-in guest knows, before it would have to refuse them with a panic.
pub fn guest_words(option: &str, line: &str) -> Result<(), Failure> {
    refault_abi::options::Options::parse(line).map(drop).map_err(|bad| {
        Failure::new(
            ExitCode::Usage,
            anyhow::anyhow!("{option}: {:?} is no option of the guest: must be {}", bad.word, bad.expected),
        )
    })
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let bad =
        |why: String| Failure::new(ExitCode::Kernel, anyhow::anyhow!("the {what} {} {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| bad(format!("cannot be read: {e}")))?;
    if bytes.is_empty() {
        return Err(bad("is empty, so it is not an ELF file and no archive; was it cut short?".into()));
    }
    Ok(bytes)
}

/// The exit code that goes with a machine that could not be made.
pub fn failure(error: AssembleError) -> Failure {
    use crate::host::HostError;
    let code = match &error {
        AssembleError::Host(HostError::NoKvm) => ExitCode::NoKvm,
        AssembleError::Host(HostError::NoPermission) => ExitCode::KvmPermission,
        AssembleError::Kernel(_) | AssembleError::Boot(_) => ExitCode::Kernel,
        AssembleError::Image(_)
        | AssembleError::Overlay(_)
        | AssembleError::Engine(_)
        | AssembleError::TooManyDisks(_) => ExitCode::Disk,
        AssembleError::Mechanism(_) | AssembleError::Reach(_) => ExitCode::Mechanism,
        AssembleError::ProgramWord(_) | AssembleError::Processors(_) | AssembleError::Memory(_) => {
            ExitCode::Usage
        }
        _ => ExitCode::Host,
    };
    Failure::new(code, error)
}
