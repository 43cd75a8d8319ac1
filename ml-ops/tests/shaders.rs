//! Every shader is valid WGSL, and its workgroup memory is what its table says.
#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used, clippy::panic)]

use naga::valid::{Capabilities, ValidationFlags, Validator};
use sinew_ml::gpu::shaders::{Shader, bindings};

#[test]
fn every_shader_is_valid() {
    let all = Shader::all();
    assert!(all.len() > 400);
    for shader in all {
        let text = shader.source();
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{shader:?}: {}\n{text}", e.emit_to_string(&text)));
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
        validator.validate(&module).unwrap_or_else(|e| panic!("{shader:?}: {}\n{text}", e.emit_to_string(&text)));
        let layouts = {
            let mut layouter = naga::proc::Layouter::default();
            layouter.update(module.to_ctx()).unwrap();
            layouter
        };
        let workgroup = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
        let bytes: u32 = workgroup.map(|(_, v)| layouts[v.ty].size).sum();
        assert!(bytes <= shader.workgroup_bytes(), "{shader:?} needs {bytes} bytes of workgroup memory");
        // The parser of bindings sees what naga sees.
        let declared = module.global_variables.iter().filter_map(|(_, v)| v.binding.as_ref().map(|b| b.binding));
        let mut declared: Vec<u32> = declared.collect();
        let mut parsed: Vec<u32> = bindings(&text).into_iter().map(|(binding, _)| binding).collect();
        declared.sort_unstable();
        parsed.sort_unstable();
        assert_eq!(declared, parsed, "{shader:?}");
    }
}
