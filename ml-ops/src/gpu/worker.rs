//! The one thread that talks to a device: buffers, pipelines, submissions and their results.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use wgpu::{
    BindGroupDescriptor, BindGroupEntry, BindGroupLayout, BindGroupLayoutEntry, BindingResource, BindingType, Buffer,
    BufferBinding, BufferBindingType, BufferDescriptor, BufferUsages, ComputePipeline, ErrorFilter, MapMode, PollType,
    ShaderRuntimeChecks, ShaderStages,
};

use super::shaders::{Shader, Use, bindings};
use super::{Refusal, Shared};

/// A submission that takes longer than this has hung.
const PATIENCE: Duration = Duration::from_secs(120);
/// Constants that are kept for kernels that ask for the same.
const KNOWN: usize = 4096;
/// Bytes of buffers that are kept for the next job.
const POOL_BYTES: u64 = 256 << 20;

/// A buffer, or a part of it, as a shader sees it.
#[derive(Clone, Debug)]
pub struct Part {
    /// The buffer.
    pub buffer: Buffer,
    /// Bytes before the part, a multiple of 256.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Part {
    /// The whole of a buffer.
    pub fn whole(buffer: &Buffer) -> Self {
        Self { buffer: buffer.clone(), offset: 0, bytes: buffer.size() }
    }

    /// The first bytes of a buffer.
    pub fn first(buffer: &Buffer, bytes: u64) -> Self {
        Self { buffer: buffer.clone(), offset: 0, bytes }
    }
}

struct Pipeline {
    pipeline: ComputePipeline,
    layout: BindGroupLayout,
    bindings: Vec<u32>,
}

/// A dispatch that waits for its submission.
struct Dispatch {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    groups: [u32; 3],
}

/// Results on their way to the host.
pub(super) struct Fetch {
    /// Nothing where there are no bytes.
    staging: Option<Buffer>,
    submission: wgpu::SubmissionIndex,
    mapped: std::sync::mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
    /// Of each buffer the bytes that are wanted, and those that were copied.
    parts: Vec<(u64, u64)>,
}

/// What the thread of a device has.
pub struct Worker {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) shared: Arc<Shared>,
    pipelines: HashMap<Shader, Arc<Pipeline>>,
    waiting: Vec<Dispatch>,
    pool: HashMap<u64, Vec<Buffer>>,
    pool_bytes: u64,
    /// Whether shaders keep their bounds checks.
    pub(super) checked: bool,
    /// Whether fresh outputs are filled with NaN, for tests.
    pub(super) poison: bool,
    pub(super) residency: super::residency::Residency,
    /// Whether it was told to give the device back.
    leaves: bool,
    /// Constants that kernels were given before.
    known: HashMap<Vec<u8>, Buffer>,
    /// Who waits for the job under way.
    pub(super) caller: Weak<()>,
    /// Networks that score, and stay while somebody has them.
    pub(super) scorers: Vec<super::scores::Kept>,
}

impl Worker {
    pub(super) fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        shared: Arc<Shared>,
        options: &super::GpuOptions,
        residency: super::residency::Residency,
    ) -> Self {
        Self {
            device,
            queue,
            shared,
            pipelines: HashMap::new(),
            waiting: Vec::new(),
            pool: HashMap::new(),
            pool_bytes: 0,
            checked: options.checked,
            poison: options.poison,
            residency,
            leaves: false,
            known: HashMap::new(),
            caller: Weak::new(),
            scorers: Vec::new(),
        }
    }

    /// Gives the device back after this job.
    pub(super) fn leave(&mut self) {
        self.leaves = true;
    }

    /// Whether the device is to be given back.
    pub(super) fn leaves(&self) -> bool {
        self.leaves
    }

    /// Runs a job so that nothing it does can end the process: errors of the device come back as a refusal, and so
    /// does a panic below.
    pub(super) fn guarded<T>(&mut self, job: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if self.shared.lost.load(Ordering::SeqCst) {
            return Err(self.shared.loss());
        }
        let device = self.device.clone();
        let memory = device.push_error_scope(ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(ErrorFilter::Validation);
        let internal = device.push_error_scope(ErrorFilter::Internal);
        let result = catch_unwind(AssertUnwindSafe(|| job(self)));
        self.waiting.clear();
        let internal = pollster::block_on(internal.pop());
        let validation = pollster::block_on(validation.pop());
        let memory = pollster::block_on(memory.pop());
        // A lost device reports nothing else: its results are whatever lies in memory.
        if self.shared.lost.load(Ordering::SeqCst) {
            return Err(self.shared.loss());
        }
        if let Some(error) = memory {
            return Err(Refusal::Memory(first_line(&error.to_string())));
        }
        if let Some(error) = validation.or(internal) {
            return Err(Refusal::Failed(first_line(&error.to_string())));
        }
        match result {
            Ok(result) => result,
            Err(panic) => Err(Refusal::Failed(format!("the driver's library panicked: {}", panic_text(&*panic)))),
        }
    }

    /// A buffer that holds nothing in particular.
    pub(super) fn buffer(&self, bytes: u64, usage: BufferUsages) -> Buffer {
        let size = bytes.max(16).next_multiple_of(16);
        self.device.create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }

    /// A storage buffer of at least `bytes`, from those that earlier jobs left.
    pub(super) fn scratch(&mut self, bytes: u64) -> Buffer {
        let size = if bytes <= 1 << 20 { bytes.max(256).next_power_of_two() } else { bytes.next_multiple_of(1 << 20) };
        let buffer = match self.pool.get_mut(&size).and_then(Vec::pop) {
            Some(buffer) => {
                self.pool_bytes -= size;
                buffer
            }
            None => self.buffer(size, BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST),
        };
        if self.poison {
            self.queue.write_buffer(&buffer, 0, &vec![0xff; size as usize]);
        }
        buffer
    }

    /// Gives a scratch buffer back. What was submitted before may still use it: later work waits in the queue.
    pub(super) fn give(&mut self, buffer: Buffer) {
        if self.pool_bytes + buffer.size() <= POOL_BYTES {
            self.pool_bytes += buffer.size();
            self.pool.entry(buffer.size()).or_default().push(buffer);
        }
    }

    /// A small buffer with these bytes.
    pub(super) fn constants(&self, bytes: &[u8], usage: BufferUsages) -> Buffer {
        let buffer = self.buffer(bytes.len() as u64, usage | BufferUsages::COPY_DST);
        if !bytes.is_empty() {
            self.queue.write_buffer(&buffer, 0, bytes);
        }
        buffer
    }

    /// A uniform buffer with these bytes, which may be one that was made before.
    pub(super) fn uniform(&mut self, bytes: &[u8]) -> Buffer {
        if let Some(known) = self.known.get(bytes) {
            return known.clone();
        }
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let buffer = self.constants(bytes, BufferUsages::UNIFORM);
        self.known.insert(bytes.to_vec(), buffer.clone());
        buffer
    }

    /// Whether somebody still waits for the job under way.
    pub(super) fn is_wanted(&self) -> bool {
        self.caller.strong_count() > 0
    }

    /// Dispatches that wait for a submission.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A read-only storage buffer with these numbers.
    pub(super) fn numbers<T: bytemuck::NoUninit>(&self, values: &[T]) -> Buffer {
        self.constants(bytemuck::cast_slice(values), BufferUsages::STORAGE)
    }

    fn pipeline(&mut self, shader: Shader) -> Result<Arc<Pipeline>, Refusal> {
        if let Some(pipeline) = self.pipelines.get(&shader) {
            return Ok(Arc::clone(pipeline));
        }
        let (need, have) = (shader.workgroup_bytes(), self.device.limits().max_compute_workgroup_storage_size);
        if need > have {
            return Err(Refusal::Unsupported(format!(
                "a kernel needs {need} bytes of workgroup memory, the device has {have}"
            )));
        }
        let text = shader.source();
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(text.as_str().into()) };
        let module = if self.checked {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: every index in our shaders is compared with the length of its buffer, and every loop ends.
            unsafe { self.device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked()) }
        };
        let declared = bindings(&text);
        let entries: Vec<_> = declared
            .iter()
            .map(|(binding, usage)| BindGroupLayoutEntry {
                binding: *binding,
                visibility: ShaderStages::COMPUTE,
                ty: BindingType::Buffer {
                    ty: match usage {
                        Use::Constants => BufferBindingType::Uniform,
                        Use::Read => BufferBindingType::Storage { read_only: true },
                        Use::Write => BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout =
            self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let whole = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&whole),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        let bindings = declared.into_iter().map(|(binding, _)| binding).collect();
        let pipeline = Arc::new(Pipeline { pipeline, layout, bindings });
        self.pipelines.insert(shader, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    /// Adds a dispatch to the next submission. Parts that the shader does not declare are left out.
    pub(super) fn dispatch(&mut self, shader: Shader, parts: &[(u32, Part)], groups: [u32; 3]) -> Result<(), Refusal> {
        let pipeline = self.pipeline(shader)?;
        let mut entries = Vec::with_capacity(parts.len());
        for binding in &pipeline.bindings {
            let Some((_, part)) = parts.iter().find(|(number, _)| number == binding) else {
                return Err(Refusal::Failed(format!("{shader:?} has nothing at binding {binding}")));
            };
            let limits = self.device.limits();
            if part.bytes > limits.max_storage_buffer_binding_size {
                return Err(Refusal::Unsupported(format!(
                    "a kernel needs {} bytes at once, the device binds {}",
                    part.bytes, limits.max_storage_buffer_binding_size
                )));
            }
            entries.push(BindGroupEntry {
                binding: *binding,
                resource: BindingResource::Buffer(BufferBinding {
                    buffer: &part.buffer,
                    offset: part.offset,
                    size: std::num::NonZeroU64::new(
                        part.bytes.next_multiple_of(16).min(part.buffer.size() - part.offset),
                    ),
                }),
            });
        }
        let group = self.device.create_bind_group(&BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        self.waiting.push(Dispatch { pipeline, group, groups });
        Ok(())
    }

    /// Sends what waits to the device.
    pub(super) fn submit(&mut self) -> wgpu::SubmissionIndex {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        if !self.waiting.is_empty() {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for Dispatch { pipeline, group, groups } in self.waiting.drain(..) {
                self.shared.stats.dispatches.fetch_add(1, Ordering::Relaxed);
                pass.set_pipeline(&pipeline.pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
            }
        }
        self.queue.submit([encoder.finish()])
    }

    /// Waits for a submission.
    pub(super) fn wait(&mut self, index: wgpu::SubmissionIndex) -> Result<(), Refusal> {
        let since = Instant::now();
        let done = self.device.poll(PollType::Wait { submission_index: Some(index), timeout: Some(PATIENCE) });
        self.shared.stats.busy_us.fetch_add(since.elapsed().as_micros() as u64, Ordering::Relaxed);
        match done {
            Ok(_) => Ok(()),
            Err(error) => {
                // Nobody waits for it again.
                self.shared.lose(format!("the device does not answer: {error}"));
                Err(self.shared.loss())
            }
        }
    }

    /// Submits what waits and reads the first bytes of each buffer.
    pub(super) fn read(&mut self, buffers: &[(Buffer, u64)]) -> Result<Vec<Vec<u8>>, Refusal> {
        let fetch = self.fetch(buffers);
        self.fetched(fetch)
    }

    /// Submits what waits, and behind it a copy of the first bytes of each buffer; it does not wait for them.
    pub(super) fn fetch(&mut self, buffers: &[(Buffer, u64)]) -> Fetch {
        let copied = |(buffer, bytes): &(Buffer, u64)| bytes.next_multiple_of(16).min(buffer.size());
        let parts: Vec<_> = buffers.iter().map(|part| (part.1, copied(part))).collect();
        let bytes: u64 = parts.iter().map(|(_, copied)| copied).sum();
        let mut submission = self.submit();
        let (sender, mapped) = std::sync::mpsc::channel();
        if bytes == 0 {
            return Fetch { staging: None, submission, mapped, parts };
        }
        let staging = self.buffer(bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for ((buffer, _), (_, copied)) in buffers.iter().zip(&parts) {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, *copied);
            at += copied;
        }
        submission = self.queue.submit([encoder.finish()]);
        staging.slice(..).map_async(MapMode::Read, move |result| {
            let _ = sender.send(result);
        });
        Fetch { staging: Some(staging), submission, mapped, parts }
    }

    /// Waits for what was fetched.
    pub(super) fn fetched(&mut self, fetch: Fetch) -> Result<Vec<Vec<u8>>, Refusal> {
        let Fetch { staging, submission, mapped, parts } = fetch;
        let Some(staging) = staging else { return Ok(parts.iter().map(|_| Vec::new()).collect()) };
        self.wait(submission)?;
        if self.shared.lost.load(Ordering::SeqCst) {
            return Err(self.shared.loss());
        }
        match mapped.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Refusal::Lost(format!("results cannot be read: {error}"))),
            Err(_) => {
                self.shared.lose("results did not come".into());
                return Err(self.shared.loss());
            }
        }
        let view = staging.slice(..).get_mapped_range();
        let view = view.map_err(|error| Refusal::Lost(format!("results cannot be read: {error}")))?;
        self.shared.stats.read_bytes.fetch_add(staging.size(), Ordering::Relaxed);
        let mut at = 0;
        let mut out = Vec::with_capacity(parts.len());
        for (bytes, copied) in parts {
            out.push(view[at..at + bytes as usize].to_vec());
            at += copied as usize;
        }
        Ok(out)
    }

    /// Copies bytes into a buffer, in the queue's order.
    pub(super) fn write(&mut self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.shared.stats.uploaded_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.queue.write_buffer(buffer, offset, bytes);
        }
    }
}

fn first_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
