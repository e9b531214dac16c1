//! Ctrl-C: ends the program at once, or stops an answer where a listener waits for it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{out, temporary};

static LISTENING: AtomicBool = AtomicBool::new(false);
static PRESSED: AtomicBool = AtomicBool::new(false);

/// What the shell sees after Ctrl-C.
pub const EXIT_CODE: u8 = 130;

/// Takes over Ctrl-C. Without a listener, and at the second time, it ends the program.
pub fn install() {
    let handler = || {
        let heard = LISTENING.load(Ordering::SeqCst) && !PRESSED.swap(true, Ordering::SeqCst);
        if !heard {
            // The line that a progress bar or an answer was on is over.
            out::note("");
            temporary::remove_all();
            std::process::exit(EXIT_CODE.into());
        }
    };
    // Without a handler the system ends the program, which is nearly as well.
    if let Err(e) = ctrlc::set_handler(handler) {
        out::note(&format!("Ctrl-C can't be handled: {e}"));
    }
}

/// Returns whether a listener was there when Ctrl-C was pressed last.
pub fn heard() -> bool {
    PRESSED.load(Ordering::SeqCst)
}

/// Until dropped, [`Listener::pressed`] reports Ctrl-C, which does not end the program.
pub struct Listener(());

impl Listener {
    /// Begins to listen. Only one at a time.
    pub fn new() -> Listener {
        PRESSED.store(false, Ordering::SeqCst);
        LISTENING.store(true, Ordering::SeqCst);
        Listener(())
    }

    /// Whether Ctrl-C was pressed since.
    pub fn pressed(&self) -> bool {
        heard()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENING.store(false, Ordering::SeqCst);
    }
}
