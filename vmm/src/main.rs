//! The `refault` command. Everything it does is in the library.

use std::io::Write as _;
use std::sync::Arc;
use refault_devices::bus::Bus;
use refault_devices::exit_port::{EXIT_PORT, ExitPort};
use refault_devices::serial::{COM1, COM1_IRQ, Serial};
use refault::vm::{action::Action, assemble, config::Config, machine::Machine};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use clap::Parser;
#[derive(Parser)]
enum Cli {
    Doctor(refault::doctor::command::Args),
    Run { #[arg(long)] kernel: String, #[arg(long)] initrd: Option<String>, #[arg(long, default_value="")] cmdline: String, #[arg(long, default_value="64M")] mem: bytesize::ByteSize, #[arg(long, default_value="60")] timeout: u64 } }
fn main() -> anyhow::Result<()> {
    let (kernel, initrd, cmdline, mem, timeout) = match Cli::parse() {
        Cli::Doctor(args) => std::process::exit(refault::doctor::command::run(&args)?.exit_code().into()),
        Cli::Run { kernel, initrd, cmdline, mem, timeout } => (kernel, initrd, cmdline, mem, timeout),
    };
    let config = Config { kernel: std::fs::read(kernel)?, image: initrd.map(std::fs::read).transpose()?, command_line: cmdline.clone(), memory: mem.0.next_multiple_of(4096), cpus: 1 };
    let mut bare = assemble::bare(&config)?;
    bare.load(&config, &cmdline)?;
    let mut ports: Bus<Action> = Bus::new();
    let irq = EventFd::new(EFD_NONBLOCK)?;
    bare.vm.register_irqfd(&irq, COM1_IRQ)?;
    ports.insert("serial", COM1, Arc::new(Serial::new(irq, Box::new(std::io::stdout()))?))?;
    ports.insert("exit", EXIT_PORT, Arc::new(ExitPort))?;
    let poke = EventFd::new(EFD_NONBLOCK)?;
    bare.vm.register_irqfd(&poke, 16)?;
    std::thread::spawn(move || loop { std::thread::sleep(std::time::Duration::from_millis(20)); let _ = poke.write(1); });
    let machine = Arc::new(Machine::new(bare.ram.clone(), ports, Bus::new(), None));
    let fd = bare.vcpus.remove(0);
    let vcpu = refault::vcpu::thread::Vcpu::new(fd, 0, machine.clone(), bare.run_page_size);
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || { let _ = tx.send(vcpu.run()); });
    let ending = rx.recv_timeout(std::time::Duration::from_secs(timeout));
    std::io::stdout().flush()?;
    eprintln!("{ending:?}");
    for k in refault::vcpu::exit::ExitKind::ALL { eprint!("{}={} ", k.name(), machine.counters.get(k)); }
    eprintln!();
    std::process::exit(match ending { Ok(Some(refault::vm::ending::Ending::Guest{status})) => status as i32, _ => 200 });
}
