//! CPUID for a vCPU: what the host supports, with the vCPU's own identity filled in.
//!
//! The one thing to hold in mind: bits are only ever taken as KVM offers them. A host that emulates
//! part of the processor leaves features out, and the guest has to be able to see that.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;

const LEAF_FEATURES: u32 = 1;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_TOPOLOGY_V2: u32 = 0x1f;
const LEAF_HYPERVISOR: u32 = 0x4000_0000;
const LEAF_TIMING: u32 = 0x4000_0010;
const FEATURE_HYPERVISOR: u32 = 1 << 31;

/// The in-kernel local APIC timer counts nanoseconds: a 1 GHz bus.
const APIC_BUS_KHZ: u32 = 1_000_000;

/// CPUID of vCPU `id` among `count`; `tsc_khz` is published in the timing leaf (0x4000_0010), where
/// guests that know it find the frequencies without calibrating.
pub fn for_vcpu(kvm: &Kvm, id: u8, count: u8, tsc_khz: Option<u32>) -> Result<CpuId, kvm_ioctls::Error> {
    let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    let entries = adapt(supported.as_slice(), id, count, tsc_khz);
    CpuId::from_entries(&entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))
}

/// The pure part of [`for_vcpu`].
pub fn adapt(
    supported: &[kvm_cpuid_entry2],
    id: u8,
    count: u8,
    tsc_khz: Option<u32>,
) -> Vec<kvm_cpuid_entry2> {
    let mut entries: Vec<kvm_cpuid_entry2> =
        supported.iter().copied().filter(|e| e.function != LEAF_TIMING).collect();
    for entry in &mut entries {
        match entry.function {
            LEAF_FEATURES => {
                entry.ebx &= 0x0000_ffff;
                entry.ebx |= u32::from(id) << 24 | u32::from(count) << 16;
                entry.ecx |= FEATURE_HYPERVISOR;
            }
            LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2 => entry.edx = u32::from(id),
            LEAF_HYPERVISOR if tsc_khz.is_some() => entry.eax = entry.eax.max(LEAF_TIMING),
            _ => {}
        }
    }
    if let Some(khz) = tsc_khz {
        entries.push(kvm_cpuid_entry2 {
            function: LEAF_TIMING,
            eax: khz,
            ebx: APIC_BUS_KHZ,
            ..Default::default()
        });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(entries: &[kvm_cpuid_entry2], function: u32) -> kvm_cpuid_entry2 {
        *entries.iter().find(|e| e.function == function).unwrap()
    }

    #[test]
    fn identity_is_filled_in_and_features_are_kept() {
        let offered = [
            kvm_cpuid_entry2 { function: 1, ebx: 0x0102_0800, ecx: 1 << 21, edx: 0x55, ..Default::default() },
            kvm_cpuid_entry2 { function: 0xb, edx: 99, ..Default::default() },
            kvm_cpuid_entry2 { function: LEAF_HYPERVISOR, eax: 0x4000_0001, ..Default::default() },
        ];
        let mine = adapt(&offered, 3, 4, Some(2_445_000));
        assert_eq!(leaf(&mine, 1).ebx, 0x0304_0800);
        assert_eq!(leaf(&mine, 1).ecx, 1 << 21 | 1 << 31);
        assert_eq!(leaf(&mine, 1).edx, 0x55);
        assert_eq!(leaf(&mine, 0xb).edx, 3);
        assert_eq!(leaf(&mine, LEAF_HYPERVISOR).eax, LEAF_TIMING);
        assert_eq!((leaf(&mine, LEAF_TIMING).eax, leaf(&mine, LEAF_TIMING).ebx), (2_445_000, 1_000_000));
    }

    #[test]
    fn without_a_known_frequency_there_is_no_timing_leaf() {
        let offered =
            [kvm_cpuid_entry2 { function: LEAF_HYPERVISOR, eax: 0x4000_0001, ..Default::default() }];
        let mine = adapt(&offered, 0, 1, None);
        assert_eq!(mine.len(), 1);
        assert_eq!(mine[0].eax, 0x4000_0001);
    }
}
