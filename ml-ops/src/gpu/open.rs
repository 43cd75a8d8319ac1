//! Opens a device: its limits, its thread, and the tests it has to pass.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use wgpu::{DeviceDescriptor, Features, MemoryHints, Trace};

use super::exit::{Presence, at_the_end};
use super::residency::Residency;
use super::worker::Worker;
use super::{Gpu, GpuOptions, Job, Rates, Shared, Stats, adapter, selftest};

/// How often a thread without work looks for rows that nobody has any more.
const SWEEP: Duration = Duration::from_secs(1);
/// Bytes of a slab, at most: one submission over it takes well below a tenth of a second.
const SLAB_BYTES: u64 = 1 << 30;
/// The most that software adapters keep by default.
const SOFTWARE_BYTES: u64 = 1 << 30;

impl Gpu {
    /// Opens the first adapter, or the first whose name contains `name`, and tests it.
    ///
    /// # Errors
    /// Why there is none, or why it is not used.
    pub fn open(name: Option<&str>, options: &GpuOptions) -> Result<Gpu, String> {
        let (opened, ready) = mpsc::channel();
        let (jobs, work) = mpsc::channel::<Job>();
        let (name, options) = (name.map(str::to_string), options.clone());
        let presence = Presence::new();
        std::thread::Builder::new()
            .name("sinew-gpu".into())
            .spawn(move || {
                let _presence = presence;
                let worker = std::panic::catch_unwind(|| start(name.as_deref(), &options));
                let worker = worker.unwrap_or_else(|_| Err("the driver's library panicked".into()));
                match worker {
                    Ok((worker, adapter, rates)) => {
                        let _ = opened.send(Ok((adapter, Arc::clone(&worker.shared), rates)));
                        serve(worker, &work);
                    }
                    Err(why) => {
                        let _ = opened.send(Err(why));
                    }
                }
            })
            .map_err(|e| format!("its thread cannot be started: {e}"))?;
        let (adapter, shared, rates) = ready.recv().map_err(|_| "its thread has ended".to_string())??;
        let jobs = Arc::new(jobs);
        at_the_end(&jobs);
        Ok(Gpu { adapter, jobs, shared, rates })
    }
}

fn serve(mut worker: Worker, work: &mpsc::Receiver<Job>) {
    while !worker.leaves() {
        match work.recv_timeout(SWEEP) {
            Ok(job) => job(&mut worker),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                worker.residency.sweep();
                let bytes = worker.residency.bytes();
                worker.shared.stats.resident_bytes.store(bytes, std::sync::atomic::Ordering::Relaxed);
                let _ = worker.device.poll(wgpu::PollType::Poll);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn start(name: Option<&str>, options: &GpuOptions) -> Result<(Worker, adapter::Adapter, Rates), String> {
    let (_instance, all) = adapter::found();
    let (info, adapter) = adapter::chosen(all, name, options.software)?;
    let details = adapter.get_info();
    let wanted = Features::SUBGROUP;
    let features = adapter.features() & wanted;
    let limits = adapter.limits();
    let descriptor = DeviceDescriptor {
        label: Some("sinew"),
        required_features: features,
        required_limits: limits.clone(),
        experimental_features: wgpu::ExperimentalFeatures::disabled(),
        memory_hints: MemoryHints::MemoryUsage,
        trace: Trace::Off,
    };
    let opened = pollster::block_on(adapter.request_device(&descriptor));
    let (device, queue) = opened.map_err(|e| format!("{} cannot be opened: {e}", info.name))?;
    let lanes = if features.contains(Features::SUBGROUP) {
        // A power of two that every size the device may choose is a multiple of.
        details.subgroup_min_size.clamp(1, 32).next_power_of_two()
    } else {
        1
    };
    let shared = Arc::new(Shared {
        lost: AtomicBool::new(false),
        why: Mutex::default(),
        stats: Stats::default(),
        lanes,
        software: info.software,
    });
    let lost = Arc::clone(&shared);
    device.set_device_lost_callback(move |reason, text| lost.lose(format!("{reason:?} {text}").trim().to_string()));
    // An error outside of any job has nobody to hear it; the default handler would end the process.
    device.on_uncaptured_error(Arc::new(|error: wgpu::Error| log::error!("GPU: {error}")));
    let limit = options.memory_limit.unwrap_or_else(|| match (info.software, info.memory) {
        (true, memory) => (memory / 4).clamp(1 << 26, SOFTWARE_BYTES),
        (false, 0) => 2 << 30,
        (false, memory) => memory / 5 * 4,
    });
    let slab = SLAB_BYTES
        .min(limits.max_storage_buffer_binding_size)
        .min(limits.max_buffer_size)
        .min((limit / 4).max(1 << 16));
    let residency = Residency::new(limit, slab, options.storage);
    let mut worker = Worker::new(device, queue, shared, options, residency);
    let rates = worker.guarded(selftest::test).map_err(|why| format!("{} is not used: {why}", info.name))?;
    Ok((worker, info, rates))
}
