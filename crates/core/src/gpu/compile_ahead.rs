//! Pipelines that are compiled before wgpu is asked for them.

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::{
    kernel::{Kernel, Shader},
    recorder::Recorder,
};

/// Compiles what wgpu will be asked for soon, on a device of its own making, so that its driver has
/// it at hand by then: a browser compiles in the background only for `createComputePipelineAsync`,
/// which wgpu does not call.
#[derive(Clone)]
pub struct CompileAhead(pub Rc<CompileShader>);

/// Begins to compile.
pub type CompileShader = dyn Fn(&wgpu::Device, &Shader) -> Compiling;

/// What comes out at the end is kept until wgpu has been asked.
pub type Compiling = Pin<Box<dyn Future<Output = Box<dyn Any>>>>;

impl fmt::Debug for CompileAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompileAhead")
    }
}

/// The pipelines of a device that are needed soon.
pub(super) struct Upcoming {
    device: wgpu::Device,
    compile: Option<CompileAhead>,
    /// Those that are being compiled.
    begun: RefCell<Vec<(Kernel, Compiling)>>,
}

impl Upcoming {
    pub fn new(device: &wgpu::Device, compile: Option<CompileAhead>) -> Upcoming {
        Upcoming {
            device: device.clone(),
            compile,
            begun: RefCell::default(),
        }
    }

    /// Creates the pipelines of `kernels`, or begins to.
    pub fn prepare(&self, recorder: &RefCell<Recorder>, kernels: impl IntoIterator<Item = Kernel>) {
        let mut recorder = recorder.borrow_mut();
        let mut begun = self.begun.borrow_mut();
        for kernel in kernels {
            match &self.compile {
                None => drop(recorder.pipeline(kernel)),
                Some(_) if recorder.has_pipeline(kernel) => {}
                Some(_) if begun.iter().any(|(other, _)| other.key() == kernel.key()) => {}
                Some(CompileAhead(compile)) => {
                    begun.push((
                        kernel,
                        compile(&self.device, &kernel.shader(recorder.constants())),
                    ));
                }
            }
        }
    }

    /// Takes over a pipeline that has been compiled by now, if there is one: while weights are on
    /// their way there is time, though not for all of them at once.
    pub fn take_over_one(&self, recorder: &RefCell<Recorder>) {
        let mut begun = self.begun.borrow_mut();
        let mut context = Context::from_waker(Waker::noop());
        let ready = begun
            .iter_mut()
            .enumerate()
            .find_map(
                |(i, (_, compiling))| match compiling.as_mut().poll(&mut context) {
                    Poll::Ready(compiled) => Some((i, compiled)),
                    Poll::Pending => None,
                },
            );
        if let Some((i, compiled)) = ready {
            let (kernel, _) = begun.swap_remove(i);
            recorder.borrow_mut().pipeline(kernel);
            drop(compiled);
        }
    }

    /// Waits for all of them, and takes them over.
    pub async fn take_over(&self, recorder: &RefCell<Recorder>) {
        let begun = self.begun.take();
        for (kernel, compiling) in begun {
            let compiled = compiling.await;
            recorder.borrow_mut().pipeline(kernel);
            drop(compiled);
        }
    }
}
