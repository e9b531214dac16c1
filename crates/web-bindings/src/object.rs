//! Plain JavaScript objects, and errors.

use js_sys::{Object, Reflect};
use univi::{Error, Result};
use wasm_bindgen::prelude::*;

/// A plain object with these properties.
pub fn object<const N: usize>(properties: [(&str, JsValue); N]) -> JsValue {
    let object = Object::new();
    for (name, value) in properties {
        set(&object, name, &value);
    }
    object.into()
}

/// The number called `name`, which must be one that can count something.
///
/// # Errors
/// `BadRequest`: JavaScript's numbers may be negative, broken or not numbers at all.
pub fn whole(name: &str, value: Option<f64>) -> Result<Option<u64>> {
    let countable = |n: f64| (0. ..=u32::MAX.into()).contains(&n) && n.fract() == 0.;
    match value {
        Some(n) if !countable(n) => Err(Error::BadRequest {
            reason: format!(
                "{name} is {n}, expected a whole number from 0 to {}",
                u32::MAX
            ),
        }),
        value => Ok(value.map(|n| n as u64)),
    }
}

/// What JavaScript catches: an `Error` whose `code` is [`Error::code`].
pub fn thrown(error: Error) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    set(&thrown, "code", &error.code().into());
    thrown.into()
}

fn set(object: &JsValue, name: &str, value: &JsValue) {
    // Only frozen objects and proxies refuse, and these are neither.
    Reflect::set(object, &name.into(), value).expect("a fresh object takes properties");
}
