//! Memory that requests take while they arrive and wait.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Memory that requests may take together. Copies share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<State>);

#[derive(Debug)]
struct State {
    limit: u64,
    taken: AtomicU64,
}

impl Budget {
    /// Makes a budget of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        Budget(Arc::new(State {
            limit,
            taken: AtomicU64::new(0),
        }))
    }

    /// Begins with nothing.
    pub fn reserve(&self) -> Reserved {
        Reserved {
            budget: self.clone(),
            bytes: 0,
        }
    }

    /// Returns the bytes that are taken.
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::SeqCst)
    }
}

/// A part of a [`Budget`], until it is dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Budget,
    bytes: u64,
}

impl Reserved {
    /// Takes `bytes` more; returns whether they were there. What nobody else takes a part of is
    /// always there, so that a single request of any length is answered.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let state = &self.budget.0;
        let grown = state
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
                let is_alone = taken == self.bytes;
                (is_alone || taken + bytes <= state.limit).then_some(taken + bytes)
            });
        if grown.is_ok() {
            self.bytes += bytes;
        }
        grown.is_ok()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_there_again() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.reserve(), budget.reserve());
        assert!(a.grow(100), "it is alone");
        assert!(!b.grow(1));
        drop(a);
        assert!(b.grow(4));
        let mut c = budget.reserve();
        assert!(c.grow(6) && !c.grow(1) && !b.grow(1));
        assert_eq!(budget.taken(), 10);
        drop((b, c));
        assert_eq!(budget.taken(), 0);
    }
}
