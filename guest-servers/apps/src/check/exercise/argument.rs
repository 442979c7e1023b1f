//! What a run of `sys_exercise` is to do, as one number.

/// The number: bits 0 to 6 which workload, bit 7 whether rest is looked for thoroughly, 8 to 15 clients, 16 to 31 operations, 32 to
/// 63 the seed. 0 clients are one; 0 operations are as many as the workload does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument(pub u64);

impl Argument {
    /// Reads it as a command line says it: decimal, or hexadecimal behind `0x`.
    pub fn parse(word: &str) -> Option<Argument> {
        let number = match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => word.parse(),
        };
        number.ok().map(Argument)
    }

    /// The number of the workload.
    pub const fn workload(self) -> u8 {
        (self.0 & 0x7f) as u8
    }

    /// Whether the rest afterwards is looked for in every table there is, which takes longer.
    pub const fn thorough(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// Processes at work.
    pub const fn clients(self) -> u8 {
        let clients = (self.0 >> 8) as u8;
        if clients == 0 { 1 } else { clients }
    }

    /// Operations, or `own`.
    pub const fn operations(self, own: u16) -> u16 {
        let operations = (self.0 >> 16) as u16;
        if operations == 0 { own } else { operations }
    }

    /// The seed of everything that is chosen.
    pub const fn seed(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_defaults() {
        let argument = Argument::parse("0x12345678000a0389").unwrap();
        assert_eq!((argument.workload(), argument.thorough()), (9, true));
        assert_eq!((argument.clients(), argument.operations(5), argument.seed()), (3, 10, 0x1234_5678));
        let argument = Argument::parse("12").unwrap();
        assert_eq!((argument.workload(), argument.thorough()), (12, false));
        assert_eq!((argument.clients(), argument.operations(5), argument.seed()), (1, 5, 0));
        for bad in ["", "x", "0x", "-1", "0x1_0", "18446744073709551616"] {
            assert_eq!(Argument::parse(bad), None, "{bad}");
        }
    }
}
