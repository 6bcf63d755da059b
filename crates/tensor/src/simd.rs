//! Runs a loop compiled for the instruction set of this machine.
//!
//! The library is built for the oldest machine of its architecture. A [`Kernel`] is plain code that the compiler
//! vectorises; here it is compiled several times and the best version is chosen at run time. All versions compute the
//! same bits: Rust neither reorders float arithmetic nor contracts it to fused operations.

#![allow(unsafe_code)]

/// A loop worth compiling for several machines. `run` must be `#[inline(always)]` down to the loop.
pub(crate) trait Kernel {
    type Output;

    fn run(self) -> Self::Output;
}

/// Runs it with the widest vectors of the machine.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has the feature.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
