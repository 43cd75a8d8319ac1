//! The adapters of this machine.

use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor, InstanceFlags};

/// An adapter as Vulkan describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// Its driver and the driver's version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Bytes of its own memory; 0 where it does not say.
    pub memory: u64,
    /// Whether it is software.
    pub software: bool,
}

/// The instance and its adapters, the fastest kind first.
pub(super) fn found() -> (Instance, Vec<(Adapter, wgpu::Adapter)>) {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = Backends::VULKAN;
    // Validation layers, where they are installed, would slow every call down.
    descriptor.flags = InstanceFlags::empty();
    let instance = Instance::new(descriptor);
    let all = pollster::block_on(instance.enumerate_adapters(Backends::VULKAN));
    let mut all: Vec<_> = all.into_iter().map(|adapter| (describe(&adapter), adapter)).collect();
    let order = |kind: &str| ["discrete", "integrated", "other", "virtual", "software"].iter().position(|k| *k == kind);
    all.sort_by_key(|(adapter, _)| order(adapter.kind));
    (instance, all)
}

fn describe(adapter: &wgpu::Adapter) -> Adapter {
    let info = adapter.get_info();
    let kind = match info.device_type {
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::Cpu => "software",
        DeviceType::Other => "other",
    };
    let driver = [info.driver, info.driver_info].join(" ").trim().to_string();
    let software = info.device_type == DeviceType::Cpu;
    Adapter { name: info.name, driver, kind, memory: memory(adapter), software }
}

/// Bytes of the largest heap of the adapter's own memory.
fn memory(adapter: &wgpu::Adapter) -> u64 {
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the handles are only borrowed for a query.
    unsafe {
        let Some(adapter) = adapter.as_hal::<wgpu::hal::api::Vulkan>() else { return 0 };
        let instance = adapter.shared_instance().raw_instance();
        let properties = instance.get_physical_device_memory_properties(adapter.raw_physical_device());
        let heaps = properties.memory_heaps.iter().take(properties.memory_heap_count as usize);
        heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max().unwrap_or(0)
    }
}

/// All adapters of this machine, software included, the fastest kind first.
pub fn adapters() -> Vec<Adapter> {
    // A driver's library that panics is as good as none.
    let found = std::panic::catch_unwind(|| found().1.into_iter().map(|(adapter, _)| adapter).collect());
    found.unwrap_or_default()
}

/// The adapter for a wish: the first one, or the first whose name contains the text.
pub(super) fn chosen(
    all: Vec<(Adapter, wgpu::Adapter)>,
    name: Option<&str>,
    software: bool,
) -> Result<(Adapter, wgpu::Adapter), String> {
    if all.is_empty() {
        return Err("no Vulkan adapter was found (a driver and the Vulkan loader must be installed)".into());
    }
    let names = all.iter().map(|(a, _)| a.name.clone()).collect::<Vec<_>>().join(", ");
    let is = |adapter: &Adapter, wanted: &str| adapter.name.to_lowercase().contains(&wanted.to_lowercase());
    if let Some(wanted) = name.filter(|wanted| !all.iter().any(|(adapter, _)| is(adapter, wanted))) {
        return Err(format!(
            "no adapter is named like '{wanted}'; a device is 'auto', 'cpu', 'gpu' or a part of an adapter's name: {names}"
        ));
    }
    let mut usable: Vec<_> = all.into_iter().filter(|(adapter, _)| software || !adapter.software).collect();
    if usable.is_empty() {
        return Err(format!(
            "the only Vulkan adapters are software ({names}); SINEW_GPU_ALLOW_SOFTWARE=1 lets them count"
        ));
    }
    let place = name.map_or(Some(0), |wanted| usable.iter().position(|(adapter, _)| is(adapter, wanted)));
    match place {
        Some(place) => Ok(usable.swap_remove(place)),
        None => Err(format!(
            "the adapter named like '{}' is software; SINEW_GPU_ALLOW_SOFTWARE=1 lets it count",
            name.unwrap_or_default()
        )),
    }
}
