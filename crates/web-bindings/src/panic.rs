//! Panics as JavaScript errors.

/// Makes a panic leave the module as a JavaScript `Error` that says what and where it was, rather
/// than as a trap that says nothing. Nothing of the instance may be used afterwards.
pub fn throw_panics() {
    std::panic::set_hook(Box::new(|info| {
        let panic = js_sys::Error::new(&info.to_string());
        panic.set_name("Panic");
        wasm_bindgen::throw_val(panic.into())
    }));
}
