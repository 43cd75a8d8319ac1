//! Which devices a run uses, and what it learns about them on the way.

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};

use serde::{Deserialize, Serialize};

use crate::backend::Ran;
use crate::device::Device;
use crate::fold::{Around, Kernel};
use crate::operators::{JOINED, Placement};

/// What a run learnt of its devices, as far as it matters to one that goes on from a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learnt {
    /// GPUs that ran kernels of this run.
    pub gpus: BTreeSet<String>,
    /// What went wrong with devices.
    pub warnings: BTreeSet<String>,
    /// What GPUs have no kernels for.
    pub reasons: BTreeSet<String>,
    /// Whether cross products are left to the CPU, because a GPU's did not say enough.
    pub exact_curvature: bool,
}

/// What is known of the devices of a run.
#[derive(Default)]
pub(super) struct Devices {
    /// Where kernels are to run.
    placement: Placement,
    /// Where the rows lie.
    around: Around,
    /// What is kept in checkpoints.
    pub learnt: Learnt,
    /// GPUs that ran their first kernels of this run in the last pass.
    fresh: Vec<String>,
    /// Whether something went wrong in this process.
    trouble: bool,
    /// Devices that ran kernels since the iteration before.
    now: BTreeSet<String>,
    /// Kernels that the GPU left to the CPU.
    refused: Vec<Discriminant<Kernel>>,
}

/// Whether a GPU keeps the rows of a kernel's folds.
fn keeps_rows(kernel: &Kernel) -> bool {
    matches!(kernel, Kernel::Linear { .. } | Kernel::Softmax { .. } | Kernel::Gram { .. } | Kernel::Centroids { .. })
}

/// Whether a kernel is the work of a training, which a GPU may have a kernel for; the rest is the CPU's anyway.
pub(super) fn works(kernel: &Kernel) -> bool {
    keeps_rows(kernel) || matches!(kernel, Kernel::Lesson { .. })
}

impl Devices {
    /// Where kernels run from now on, over rows that lie so.
    pub fn place(&mut self, placement: Placement, around: Around) {
        (self.placement, self.around) = (placement, around);
        self.now.clear();
    }

    /// Where a kernel runs.
    pub fn of(&self, kernel: Option<&Kernel>) -> Placement {
        let mut placement = self.placement.clone();
        if kernel.is_some_and(|kernel| self.is_exact(kernel)) {
            placement.device = Device::Cpu;
        }
        placement
    }

    /// Where the rows of a fold lie, if a device may be asked for it.
    pub fn around(&self, kernel: &Kernel) -> Option<Box<Around>> {
        let asks = self.placement.device != Device::Cpu && keeps_rows(kernel) && !self.is_exact(kernel);
        asks.then(|| Box::new(self.around.clone()))
    }

    fn is_exact(&self, kernel: &Kernel) -> bool {
        self.learnt.exact_curvature && matches!(kernel, Kernel::Gram { .. })
    }

    /// Whether this process's GPU is to run a kernel: it wants all rows in one call.
    pub fn gathers(&self, kernel: &Kernel) -> bool {
        let gpu = matches!(self.placement.device, Device::Gpu | Device::Named(_));
        let refused = self.refused.contains(&discriminant(kernel));
        gpu && keeps_rows(kernel) && !self.trouble && !refused && !self.is_exact(kernel)
    }

    /// What the partitions of a pass report. `kernel` is the one that this process's GPU was to run, if it was; `works` says
    /// whether it was the work of the training.
    pub fn ran(&mut self, partitions: Vec<Ran>, kernel: Option<Discriminant<Kernel>>, works: bool) {
        self.fresh.clear();
        for done in partitions {
            let (gpus, other): (Vec<&str>, Vec<&str>) =
                done.device.split(JOINED).partition(|device| device.starts_with("gpu"));
            for gpu in &gpus {
                if self.learnt.gpus.insert(gpu.to_string()) {
                    self.fresh.push(gpu.to_string());
                }
            }
            if let Some(kernel) = kernel.filter(|_| gpus.is_empty()) {
                self.refused.push(kernel);
            }
            self.now.extend(gpus.into_iter().chain(other).map(str::to_string));
            self.trouble |= done.warning.is_some();
            self.learnt.reasons.extend(done.reason.filter(|_| works));
            self.learnt.warnings.extend(done.warning);
        }
    }

    /// The curvature of the last pass is not used; it is taken on the CPU, now and from now on.
    pub fn distrust_curvature(&mut self) {
        self.learnt.exact_curvature = true;
        for device in self.fresh.drain(..) {
            self.learnt.gpus.remove(&device);
            self.now.remove(&device);
        }
    }

    /// The devices since the last call.
    pub fn take_names(&mut self) -> String {
        std::mem::take(&mut self.now).into_iter().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::Curvature;

    fn kernel() -> Kernel {
        Kernel::Gram { shift: Vec::new(), scale: Vec::new(), label: None, curvature: Curvature::Weight }
    }

    /// Devices of a run that asks for a GPU, and the kernel of its gradients.
    fn on_gpu() -> (Devices, Kernel) {
        let mut devices = Devices::default();
        devices.place(Placement { device: Device::Gpu, ..Placement::default() }, Around::default());
        (devices, Kernel::Softmax { intercepts: Vec::new(), weights: Vec::new() })
    }

    fn ran(device: &str, warning: Option<&str>) -> Vec<Ran> {
        vec![Ran { device: device.into(), warning: warning.map(Into::into), ..Ran::default() }]
    }

    #[test]
    fn curvature_that_is_not_trusted_is_the_cpus_from_then_on() {
        let (mut devices, gradient) = on_gpu();
        devices.ran(ran("gpu (a)", None), Some(discriminant(&kernel())), true);
        assert!(devices.gathers(&kernel()) && devices.of(Some(&kernel())).device == Device::Gpu);
        devices.distrust_curvature();
        // Nothing of what the GPU did is used.
        assert!(devices.learnt.gpus.is_empty() && devices.take_names().is_empty());
        assert!(!devices.gathers(&kernel()) && devices.gathers(&gradient));
        assert_eq!(devices.of(Some(&kernel())).device, Device::Cpu);
        assert_eq!(devices.of(Some(&gradient)).device, Device::Gpu);
        devices.ran(ran("gpu (a)", None), Some(discriminant(&gradient)), true);
        devices.ran(ran("gpu (a)", None), Some(discriminant(&kernel())), true);
        devices.distrust_curvature();
        assert!(devices.learnt.gpus.contains("gpu (a)"), "it ran gradients before");
    }

    #[test]
    fn what_a_gpu_refuses_or_fails_at_is_left_to_all_threads() {
        let (mut devices, gradient) = on_gpu();
        devices.ran(ran("cpu (b)", None), Some(discriminant(&kernel())), true);
        assert!(!devices.gathers(&kernel()) && devices.gathers(&gradient));
        devices.ran(ran("cpu (b)", Some("lost")), None, false);
        assert!(!devices.gathers(&gradient) && devices.learnt.warnings.contains("lost"));
        // Merged rows name several.
        devices.ran(ran(&["gpu (a, 1)", "gpu (b)", "cpu (c)"].join(JOINED), None), None, true);
        assert!(devices.learnt.gpus.iter().eq(["gpu (a, 1)", "gpu (b)"]), "{:?}", devices.learnt.gpus);
    }
}
