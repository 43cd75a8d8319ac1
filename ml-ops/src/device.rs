//! Which device a training or a prediction runs on, and why.
//!
//! ```text
//!  auto   the GPU when it is there and is estimated to be faster by a quarter, rows, passes and upload considered
//!  cpu    the processor
//!  gpu    the first adapter, or an error that says why there is none
//!  name   the first adapter whose name contains the text
//! ```
//! A device is opened when a training first wants it, once for a process. Small trainings never look for one.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::{MlError, Result};

/// The device a statement asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Device {
    /// Whichever is estimated to be faster.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first GPU.
    Gpu,
    /// The first GPU whose name contains this text.
    Named(String),
}

impl Device {
    /// The device of an option's value.
    ///
    /// # Errors
    /// When there is no text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim() {
            "" => Err(MlError::BadOption {
                name: "device".into(),
                value: "''".into(),
                expected: "write 'auto', 'cpu', 'gpu' or the name of an adapter; SHOW DEVICES lists them".into(),
            }),
            word if word.eq_ignore_ascii_case("auto") => Ok(Self::Auto),
            word if word.eq_ignore_ascii_case("cpu") => Ok(Self::Cpu),
            word if word.eq_ignore_ascii_case("gpu") => Ok(Self::Gpu),
            name => Ok(Self::Named(name.into())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Named(name) => name,
        })
    }
}

/// What a training will do, as far as it is known; it decides `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Rows; `None` before they were counted.
    pub rows: Option<u64>,
    /// Coordinates of a row.
    pub columns: u64,
    /// Margins, centres or products that each coordinate takes part in.
    pub outputs: u64,
    /// Passes over the rows.
    pub passes: u64,
    /// Operations of a row in a pass of products in single precision, and how many stretches of the pass follow one
    /// another; `None` where the operations follow from columns and outputs.
    pub effort: Option<(u64, u64)>,
    /// Numbers of each row that come back from a device.
    pub results: u64,
}

/// Bytes a second that one thread's kernels read; measured on servers of 2020 and later.
const CPU_BYTES: f64 = 3.5e9;
/// Floating-point operations a second of one thread's kernels, in double precision with exact sums.
const CPU_OPERATIONS: f64 = 5e9;
/// Floating-point operations a second of one thread's products of small batches, in single precision.
const CPU_PRODUCTS: f64 = 4e10;
/// A training that the processor ends within this many seconds is not worth looking for a GPU.
const WORTH_LOOKING: f64 = 0.5;
/// The GPU has to be faster by this factor.
const ADVANTAGE: f64 = 0.8;

impl Work {
    /// The work of a process that has so many of all bytes of the rows' files.
    pub fn share(&self, bytes: u64, all: u64) -> Self {
        let part = bytes as f64 / all.max(1) as f64;
        Self { rows: self.rows.map(|rows| (rows as f64 * part.min(1.0)).ceil() as u64), ..*self }
    }

    /// Bytes of the rows in single precision.
    pub fn bytes(&self) -> Option<f64> {
        Some(self.rows? as f64 * self.columns as f64 * 4.0)
    }

    /// Operations of a pass.
    fn operations(&self) -> Option<f64> {
        match self.effort {
            Some((row, _)) => Some(self.rows? as f64 * row as f64),
            None => Some(self.bytes()? * self.outputs.max(1) as f64),
        }
    }

    /// Seconds on the processor.
    pub fn on_cpu(&self, threads: usize) -> Option<f64> {
        let threads = threads.max(1) as f64;
        let speed = if self.effort.is_some() { CPU_PRODUCTS } else { CPU_OPERATIONS };
        let pass = (self.bytes()? / CPU_BYTES).max(self.operations()? / speed) / threads;
        Some(pass * self.passes.max(1) as f64)
    }

    /// Seconds on a device with these rates, the upload included.
    pub fn on_gpu(&self, rates: &DeviceRates) -> Option<f64> {
        let bytes = self.bytes()?;
        let stretches = self.effort.map_or(1, |(_, stretches)| stretches) as f64;
        let pass = (bytes / rates.gradient.max(1.0)).max(self.operations()? / rates.product.max(1.0))
            + rates.latency * stretches.max(1.0);
        let back = self.rows? as f64 * self.results as f64 * 4.0;
        Some((bytes + back) / rates.upload.max(1.0) + pass * self.passes.max(1) as f64)
    }
}

/// What a device does in a second, measured when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceRates {
    /// Bytes uploaded a second, rows converted on the way.
    pub upload: f64,
    /// Bytes of resident rows that a gradient reads a second.
    pub gradient: f64,
    /// Floating-point operations a second of a tiled product.
    pub product: f64,
    /// Seconds of a pass over nothing.
    pub latency: f64,
}

/// A device that was chosen.
#[derive(Clone, Debug)]
pub struct Picked {
    /// It.
    pub backend: Arc<dyn Backend>,
    /// Why it.
    pub why: String,
}

impl fmt::Display for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.backend.name(), self.why)
    }
}

/// A device as `SHOW DEVICES` lists it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// `cpu` or the adapter's name.
    pub name: String,
    /// `cpu`, `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: String,
    /// Driver and version, or the instructions of the processor.
    pub driver: String,
    /// Bytes of its own memory, where it says.
    pub memory: Option<u64>,
    /// `ready`, `not opened`, or why it is not used.
    pub state: String,
    /// Measured rates, of devices that are open.
    pub rates: Option<DeviceRates>,
    /// Folds that ran on it, and that the CPU did instead of it.
    pub folds: u64,
    /// Folds that the CPU did because something went wrong.
    pub fallbacks: u64,
    /// Bytes of rows uploaded.
    pub uploaded_bytes: u64,
    /// Bytes of rows resident.
    pub resident_bytes: u64,
    /// Seconds spent waiting for it.
    pub busy_seconds: f64,
}

/// The devices of a process.
#[derive(Debug)]
pub struct Devices {
    cpu: Arc<dyn Backend>,
    threads: usize,
    #[cfg(feature = "gpu")]
    gpus: opened::Gpus,
}

impl Devices {
    /// The processor alone.
    pub fn only(cpu: Arc<dyn Backend>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            cpu,
            threads,
            #[cfg(feature = "gpu")]
            gpus: opened::Gpus::none("this process was set up without GPUs"),
        }
    }

    /// The processor and the GPUs of this machine, none of them opened yet.
    #[cfg(feature = "gpu")]
    pub fn with_gpus(cpu: Arc<dyn Backend>, options: crate::gpu::GpuOptions) -> Self {
        Self { gpus: opened::Gpus::new(options), ..Self::only(cpu) }
    }

    /// The processor.
    pub fn cpu(&self) -> &Arc<dyn Backend> {
        &self.cpu
    }

    /// The device for a wish and what is known of the work.
    ///
    /// # Errors
    /// When a GPU is asked for and there is none.
    pub async fn pick(&self, wish: &Device, work: &Work) -> Result<Picked> {
        let cpu = |why: String| Picked { backend: Arc::clone(&self.cpu), why };
        match wish {
            Device::Cpu => Ok(cpu("device = 'cpu'".into())),
            Device::Auto => Ok(self.estimated(work).await.unwrap_or_else(cpu)),
            Device::Gpu | Device::Named(_) => {
                let name = if let Device::Named(name) = wish { Some(name.as_str()) } else { None };
                match self.open(name).await {
                    Ok(backend) => Ok(Picked { backend, why: format!("device = '{wish}'") }),
                    Err(reason) => Err(MlError::NoDevice { device: wish.to_string(), reason }),
                }
            }
        }
    }

    /// The GPU, if it is estimated to be faster; else why the processor is taken.
    async fn estimated(&self, work: &Work) -> Result<Picked, String> {
        let Some(on_cpu) = work.on_cpu(self.threads) else {
            return Err("auto: decided when the rows are counted".into());
        };
        if on_cpu < WORTH_LOOKING {
            return Err("auto: too little work for a GPU".into());
        }
        let backend = self.open(None).await.map_err(|why| format!("auto: {why}"))?;
        let Some(rates) = self.rates(backend.name()) else {
            return Err("auto: the adapter is software".into());
        };
        let on_gpu = work.on_gpu(&rates).unwrap_or(f64::INFINITY);
        let compared = format!("auto: estimated {on_gpu:.2} s, on the CPU {on_cpu:.2} s");
        if on_gpu < ADVANTAGE * on_cpu { Ok(Picked { backend, why: compared }) } else { Err(compared) }
    }

    #[cfg(feature = "gpu")]
    async fn open(&self, name: Option<&str>) -> Result<Arc<dyn Backend>, String> {
        self.gpus.open(name, &self.cpu).await.map(|gpu| gpu as Arc<dyn Backend>)
    }

    #[cfg(not(feature = "gpu"))]
    async fn open(&self, _: Option<&str>) -> Result<Arc<dyn Backend>, String> {
        Err("this program was built without GPU support".into())
    }

    #[cfg(feature = "gpu")]
    fn rates(&self, name: &str) -> Option<DeviceRates> {
        self.gpus.rates(name)
    }

    #[cfg(not(feature = "gpu"))]
    fn rates(&self, _: &str) -> Option<DeviceRates> {
        None
    }

    /// Bytes of rows in the memory of its GPUs.
    #[cfg(feature = "gpu")]
    pub fn resident_bytes(&self) -> u64 {
        self.gpus.resident_bytes()
    }

    /// Bytes of rows in the memory of its GPUs: there are none.
    #[cfg(not(feature = "gpu"))]
    pub fn resident_bytes(&self) -> u64 {
        0
    }

    /// Every device of this machine.
    pub async fn list(&self) -> Vec<DeviceInfo> {
        let name = self.cpu.name();
        let instructions = name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')'));
        let mut all = vec![DeviceInfo {
            name: "cpu".into(),
            kind: "cpu".into(),
            driver: instructions.into(),
            state: "ready".into(),
            ..DeviceInfo::default()
        }];
        #[cfg(feature = "gpu")]
        all.extend(self.gpus.list().await);
        all
    }

    /// The open GPU that `name` names, for tests of what happens when it is lost.
    #[cfg(feature = "gpu")]
    #[doc(hidden)]
    pub async fn gpu(&self, name: Option<&str>) -> Result<Arc<crate::gpu::GpuBackend>, String> {
        self.gpus.open(name, &self.cpu).await
    }
}

#[cfg(feature = "gpu")]
mod opened {
    //! The GPUs of a process, each opened once.

    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use parking_lot::Mutex;

    use super::{DeviceInfo, DeviceRates};
    use crate::backend::Backend;
    use crate::gpu::{Gpu, GpuBackend, GpuOptions, adapters};

    /// A lost device is not opened again before this.
    const COOL_DOWN: Duration = Duration::from_secs(60);

    /// One that was asked for.
    #[derive(Clone, Debug)]
    struct Asked {
        name: Option<String>,
        gpu: Result<Arc<GpuBackend>, String>,
        lost: Option<Instant>,
    }

    /// The GPUs of a process.
    #[derive(Debug)]
    pub struct Gpus {
        options: Result<GpuOptions, &'static str>,
        asked: Mutex<Vec<Asked>>,
        opening: tokio::sync::Mutex<()>,
    }

    impl Gpus {
        pub fn new(options: GpuOptions) -> Self {
            Self { options: Ok(options), asked: Mutex::default(), opening: tokio::sync::Mutex::default() }
        }

        pub fn none(why: &'static str) -> Self {
            Self { options: Err(why), asked: Mutex::default(), opening: tokio::sync::Mutex::default() }
        }

        fn known(&self, name: Option<&str>) -> Option<Result<Arc<GpuBackend>, String>> {
            let mut asked = self.asked.lock();
            let at = asked.iter().position(|asked| asked.name.as_deref() == name)?;
            if let Ok(gpu) = &asked[at].gpu
                && gpu.gpu().is_lost()
            {
                let since = *asked[at].lost.get_or_insert_with(Instant::now);
                if since.elapsed() > COOL_DOWN {
                    return None;
                }
            }
            Some(asked[at].gpu.clone())
        }

        /// The GPU of that name, opened at most once.
        pub async fn open(&self, name: Option<&str>, cpu: &Arc<dyn Backend>) -> Result<Arc<GpuBackend>, String> {
            let options = self.options.clone()?;
            if let Some(known) = self.known(name) {
                return known;
            }
            let _one = self.opening.lock().await;
            if let Some(known) = self.known(name) {
                return known;
            }
            let wanted = name.map(str::to_string);
            let own = wanted.clone();
            // Drivers take their time: no thread of the runtime waits for them.
            let gpu = tokio::task::spawn_blocking(move || Gpu::open(own.as_deref(), &options)).await;
            let gpu = gpu.unwrap_or_else(|_| Err("opening it panicked".into()));
            let gpu = gpu.map(|gpu| {
                // Two names of one adapter share it.
                let same =
                    |asked: &Asked| asked.gpu.as_ref().ok().filter(|g| g.gpu().adapter() == gpu.adapter()).cloned();
                let known = self.asked.lock().iter().find_map(same).filter(|known| !known.gpu().is_lost());
                known.unwrap_or_else(|| Arc::new(GpuBackend::new(Arc::new(gpu), Arc::clone(cpu))))
            });
            let mut asked = self.asked.lock();
            let before = asked.iter().position(|asked| asked.name == wanted).map(|at| asked.swap_remove(at));
            let (gpu, lost) = match (gpu, before) {
                // One that was lost and cannot be opened again goes on on the CPU, as it did before.
                (Err(why), Some(Asked { gpu: Ok(before), .. })) => {
                    log::warn!("a GPU that was lost cannot be opened again: {why}");
                    (Ok(before), Some(Instant::now()))
                }
                (gpu, _) => (gpu, None),
            };
            asked.push(Asked { name: wanted, gpu: gpu.clone(), lost });
            gpu
        }

        /// The rates of a GPU that is not software.
        pub fn rates(&self, name: &str) -> Option<DeviceRates> {
            let asked = self.asked.lock();
            let mut open = asked.iter().filter_map(|asked| asked.gpu.as_ref().ok());
            let found = open.find(|gpu| gpu.name() == name)?.gpu();
            (!found.adapter().software).then(|| found.rates())
        }

        /// Bytes of rows in the memory of those that are open.
        pub fn resident_bytes(&self) -> u64 {
            let asked = self.asked.lock();
            let open: Vec<&Arc<GpuBackend>> = asked.iter().filter_map(|asked| asked.gpu.as_ref().ok()).collect();
            // Two names of one adapter share it.
            let first = |(at, gpu): &(usize, &&Arc<GpuBackend>)| !open[..*at].iter().any(|g| Arc::ptr_eq(g, gpu));
            let bytes = |gpu: &Arc<GpuBackend>| gpu.gpu().stats().resident_bytes.load(Ordering::Relaxed);
            open.iter().enumerate().filter(first).map(|(_, gpu)| bytes(gpu)).sum()
        }

        pub async fn list(&self) -> Vec<DeviceInfo> {
            let Ok(options) = self.options.clone() else { return Vec::new() };
            let all = tokio::task::spawn_blocking(adapters).await.unwrap_or_default();
            let asked = self.asked.lock().clone();
            let describe = |adapter: crate::gpu::Adapter| {
                let mut info = DeviceInfo {
                    name: adapter.name.clone(),
                    kind: adapter.kind.into(),
                    driver: adapter.driver.clone(),
                    memory: (adapter.memory > 0).then_some(adapter.memory),
                    state: "not opened".into(),
                    ..DeviceInfo::default()
                };
                if adapter.software && !options.software {
                    info.state = "software, not used unless SINEW_GPU_ALLOW_SOFTWARE=1".into();
                }
                let gpu =
                    asked.iter().filter_map(|asked| asked.gpu.as_ref().ok()).find(|g| *g.gpu().adapter() == adapter);
                if let Some(gpu) = gpu.map(|gpu| gpu.gpu()) {
                    let stats = gpu.stats();
                    info.state = if gpu.is_lost() { "lost" } else { "ready" }.into();
                    info.rates = Some(gpu.rates());
                    info.folds = stats.folds.load(Ordering::Relaxed);
                    info.fallbacks = stats.fallbacks.load(Ordering::Relaxed);
                    info.uploaded_bytes = stats.uploaded_bytes.load(Ordering::Relaxed);
                    info.resident_bytes = stats.resident_bytes.load(Ordering::Relaxed);
                    info.busy_seconds = stats.busy_us.load(Ordering::Relaxed) as f64 / 1e6;
                }
                info
            };
            all.into_iter().map(describe).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Cpu;

    const H100: DeviceRates = DeviceRates { upload: 2e10, gradient: 3e12, product: 1e13, latency: 1e-4 };

    fn work(rows: u64, passes: u64) -> Work {
        Work { rows: Some(rows), columns: 32, outputs: 1, passes, ..Work::default() }
    }

    #[test]
    fn a_name_is_an_adapter() -> Result<()> {
        assert_eq!(Device::parse("AUTO")?, Device::Auto);
        assert_eq!(Device::parse("Gpu")?, Device::Gpu);
        assert_eq!(Device::parse("H200")?, Device::Named("H200".into()));
        assert!(Device::parse(" ").is_err());
        Ok(())
    }

    #[test]
    fn one_pass_is_for_the_processor_and_many_are_not() {
        let gain = |passes| work(100_000_000, passes).on_gpu(&H100) < work(100_000_000, passes).on_cpu(16);
        assert!(!gain(1));
        assert!(gain(50));
    }

    #[test]
    fn a_network_is_worth_a_device_by_its_operations() {
        // Rows of 128 bytes either way: what counts is how much is computed of each, and in how many steps.
        let of = |row, steps| Work { effort: Some((row, steps)), ..work(1_000_000, 30) };
        let gain = |work: Work| work.on_gpu(&H100) < work.on_cpu(16);
        assert!(gain(of(6 * 2_000_000, 1000)));
        assert!(!gain(of(6 * 500, 100_000)));
        assert!(of(6 * 2_000_000, 1).on_cpu(16) > work(1_000_000, 30).on_cpu(16));
    }

    #[test]
    fn a_process_counts_the_rows_that_it_folds() {
        let all = work(1_000_000, 10);
        assert_eq!(all.share(25, 100).rows, Some(250_000));
        assert_eq!(all.share(100, 100), all);
        assert_eq!(all.share(0, 0).rows, Some(0));
        assert_eq!(Work { rows: None, ..all }.share(1, 2).rows, None);
    }

    #[tokio::test]
    async fn small_work_never_looks_for_a_device() -> Result<()> {
        let devices = Devices::only(Arc::new(Cpu::new()));
        let small = devices.pick(&Device::Auto, &work(2000, 100)).await?;
        assert!(small.to_string().ends_with("[auto: too little work for a GPU]"), "{small}");
        let unknown = devices.pick(&Device::Auto, &Work { rows: None, ..work(0, 1) }).await?;
        assert!(unknown.why.contains("when the rows are counted"), "{unknown}");
        let large = devices.pick(&Device::Auto, &work(1 << 40, 100)).await?;
        assert!(large.backend.name().starts_with("cpu"), "{large}");
        let none = devices.pick(&Device::Gpu, &work(10, 1)).await;
        assert!(none.is_err_and(|e| e.to_string().contains("SINEW-2015")));
        Ok(())
    }
}
