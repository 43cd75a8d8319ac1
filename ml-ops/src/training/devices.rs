//! Which devices a run uses, and what it learns about them on the way.

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};

use crate::backend::Ran;
use crate::device::Device;
use crate::fold::Kernel;
use crate::operators::Placement;

/// What is known of the devices of a run.
#[derive(Default)]
pub(super) struct Devices {
    /// Where kernels are to run.
    pub placement: Placement,
    /// GPUs that ran kernels of this run.
    pub gpus: BTreeSet<String>,
    /// What went wrong with devices.
    pub warnings: BTreeSet<String>,
    /// Whether cross products are left to the CPU, because a GPU's did not say enough.
    pub exact_curvature: bool,
    /// GPUs that ran their first kernels of this run in the last pass.
    fresh: Vec<String>,
    /// Devices that ran kernels since the iteration before.
    now: BTreeSet<String>,
    /// Kernels that the GPU left to the CPU.
    refused: Vec<Discriminant<Kernel>>,
}

impl Devices {
    /// Where kernels run from now on.
    pub fn place(&mut self, placement: Placement) {
        self.placement = placement;
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

    fn is_exact(&self, kernel: &Kernel) -> bool {
        self.exact_curvature && matches!(kernel, Kernel::Gram { .. })
    }

    /// Whether this process's GPU is to run a kernel: it wants all rows in one call.
    pub fn gathers(&self, kernel: &Kernel) -> bool {
        let gpu = matches!(self.placement.device, Device::Gpu | Device::Named(_));
        let known = matches!(
            kernel,
            Kernel::Linear { .. } | Kernel::Softmax { .. } | Kernel::Gram { .. } | Kernel::Centroids { .. }
        );
        let refused = self.refused.contains(&discriminant(kernel));
        gpu && known && self.warnings.is_empty() && !refused && !self.is_exact(kernel)
    }

    /// What the partitions of a pass report. `kernel` is the one that this process's GPU was to run, if it was.
    pub fn ran(&mut self, partitions: Vec<Ran>, kernel: Option<Discriminant<Kernel>>) {
        self.fresh.clear();
        for done in partitions {
            if done.device.starts_with("gpu") {
                if self.gpus.insert(done.device.clone()) {
                    self.fresh.push(done.device.clone());
                }
            } else if let Some(kernel) = kernel {
                self.refused.push(kernel);
            }
            self.now.insert(done.device);
            self.warnings.extend(done.warning);
        }
    }

    /// The curvature of the last pass is not used; it is taken on the CPU, now and from now on.
    pub fn distrust_curvature(&mut self) {
        self.exact_curvature = true;
        for device in self.fresh.drain(..) {
            self.gpus.remove(&device);
            self.now.remove(&device);
        }
    }

    /// The devices since the last call.
    pub fn take_names(&mut self) -> String {
        std::mem::take(&mut self.now).into_iter().collect::<Vec<_>>().join(", ")
    }
}
