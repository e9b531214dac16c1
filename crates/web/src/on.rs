//! The same thing on one backend or the other.

use univi::{Cpu, gpu::Gpu};

/// A value that belongs to a backend: models are generic, JavaScript's classes can't be.
pub enum On<C, G> {
    /// On the CPU.
    Cpu(C),
    /// On WebGPU.
    Gpu(G),
}

/// `Of<T<Cpu>, T<Gpu>>`, for a generic `T`.
macro_rules! on_either {
    ($type:ident) => { $crate::on::On<$type<univi::Cpu>, $type<univi::gpu::Gpu>> };
}

/// The same expression for whichever it is.
macro_rules! with {
    ($value:expr, $bound:pat => $body:expr) => {
        match $value {
            $crate::on::On::Cpu($bound) => $body,
            $crate::on::On::Gpu($bound) => $body,
        }
    };
}

/// The same expression for whichever it is; its value is one of that backend, too.
macro_rules! map {
    ($value:expr, $bound:pat => $body:expr) => {
        match $value {
            $crate::on::On::Cpu($bound) => $crate::on::On::Cpu($body),
            $crate::on::On::Gpu($bound) => $crate::on::On::Gpu($body),
        }
    };
}

pub(crate) use {map, on_either, with};

/// A backend.
pub type Device = On<Cpu, Gpu>;
