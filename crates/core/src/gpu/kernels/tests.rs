//! Shaders against the Rust that records them, by naga's reflection.

use std::{collections::BTreeMap, fs, path::Path};

use naga::{AddressSpace, ScalarKind, StorageAccess, TypeInner};

use super::all;
use crate::gpu::kernel::{Constants, Field, Kernel, PARAMS_BYTES};

fn parsed(kernel: &Kernel) -> naga::Module {
    let source = kernel.shader(Constants::HARDWARE).source;
    naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)))
}

/// What is bound to each number.
fn bindings(module: &naga::Module) -> BTreeMap<u32, &naga::GlobalVariable> {
    let variables = module.global_variables.iter();
    variables
        .filter_map(|(_, variable)| {
            let binding = variable.binding.as_ref()?;
            assert_eq!(binding.group, 0);
            Some((binding.binding, variable))
        })
        .collect()
}

#[test]
fn params_are_what_the_shader_reads() {
    for kernel in all() {
        let module = parsed(&kernel);
        let params = bindings(&module)[&0];
        assert_eq!(params.space, AddressSpace::Uniform, "{}", kernel.name);
        let TypeInner::Struct { members, span } = &module.types[params.ty].inner else {
            panic!("{}: binding 0 is no struct", kernel.name);
        };
        assert!(u64::from(*span) <= PARAMS_BYTES, "{}", kernel.name);
        let field = |member: &naga::StructMember| {
            let TypeInner::Scalar(scalar) = module.types[member.ty].inner else {
                panic!("{}: {:?} is no scalar", kernel.name, member.name);
            };
            let ty = match (scalar.kind, scalar.width) {
                (ScalarKind::Uint, 4) => "u32",
                (ScalarKind::Float, 4) => "f32",
                other => panic!("{}: {:?} is {other:?}", kernel.name, member.name),
            };
            let name = member.name.clone().unwrap_or_default();
            (name, ty, member.offset as usize)
        };
        let in_shader: Vec<_> = members.iter().map(field).collect();
        let in_rust: Vec<_> = kernel
            .params
            .iter()
            .map(|&Field { name, ty, offset }| (name.to_owned(), ty, offset))
            .collect();
        assert_eq!(in_rust, in_shader, "{}", kernel.name);
    }
}

#[test]
fn buffers_are_what_the_shader_binds() {
    for kernel in all() {
        let module = parsed(&kernel);
        let found: Vec<(u32, bool)> = bindings(&module)
            .into_iter()
            .filter(|&(number, _)| number > 0)
            .map(|(number, variable)| match variable.space {
                AddressSpace::Storage { access } => (number, access.contains(StorageAccess::STORE)),
                other => panic!("{}: {other:?}", kernel.name),
            })
            .collect();
        let buffers = kernel.reads + kernel.writes;
        let expected: Vec<(u32, bool)> = (0..buffers)
            .map(|i| (i as u32 + 1, i >= kernel.reads))
            .collect();
        assert_eq!(found, expected, "{}: number, written", kernel.name);
    }
}

#[test]
fn constants_are_those_that_the_shader_has() {
    for kernel in all() {
        let module = parsed(&kernel);
        let overrides = module.overrides.iter();
        let found: Vec<&str> = overrides
            .filter_map(|(_, constant)| constant.name.as_deref())
            .collect();
        let shader = kernel.shader(Constants::HARDWARE);
        let given: Vec<&str> = shader.constants.iter().map(|(name, _)| *name).collect();
        assert_eq!(given, found, "{}", kernel.name);
    }
}

/// Every file of WGSL below this folder.
fn sources() -> Vec<(String, String)> {
    fn visit(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                visit(&path, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "wgsl")
            {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path.display().to_string(), text));
            }
        }
    }
    let mut found = Vec::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gpu/kernels");
    visit(Path::new(folder), &mut found);
    found
}

#[test]
fn every_shader_is_of_a_kernel() {
    let shaders: Vec<String> = all()
        .map(|kernel| kernel.shader(Constants::HARDWARE).source)
        .collect();
    for (path, text) in sources() {
        let used = shaders.iter().any(|shader| shader.contains(&text));
        assert!(used, "{path}: no kernel in the lists has it");
    }
}

#[test]
fn no_function_stands_in_two_shaders() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in sources() {
        for (start, _) in text.match_indices("\nfn ") {
            let function = &text[start..];
            let end = function.find("\n}").expect("an end");
            if let Some(other) = seen.insert(function[..end].to_owned(), path.clone()) {
                panic!("{path} and {other} both have{}", &function[..end]);
            }
        }
    }
}
