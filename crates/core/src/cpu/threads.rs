//! Work that is shared out among threads, some hundred times for each token of an answer.
//!
//! rayon's own loops, called from a thread that is not one of its own, hand all work over and
//! sleep until it is done: a change of threads, and of caches, at each product. Here the caller
//! works too, and waits only for threads that have begun. Helpers look out for more work for a
//! while before they sleep, since the next product follows at once.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rayon::prelude::*;

/// Times that a thread looks before it sleeps: some 50 microseconds.
const LOOKS: usize = 2000;

/// Does `work` with each of `items`, on all threads; which does what has no influence on results.
pub(super) fn for_each<I: Send>(items: impl IntoIterator<Item = I>, work: impl Fn(I) + Sync) {
    let items: Vec<Mutex<Option<I>>> = items
        .into_iter()
        .map(|item| Mutex::new(Some(item)))
        .collect();
    let one = |i: usize| work(lock(&items[i]).take().expect("each item is taken once"));
    if items.len() < 2 || rayon::current_num_threads() == 1 {
        return (0..items.len()).for_each(one);
    }
    // On one of rayon's threads, others of them may be free.
    if rayon::current_thread_index().is_some() {
        return (0..items.len()).into_par_iter().for_each(one);
    }
    Helpers::get().run(items.len(), &one);
}

/// What `work` makes of each of `items`, in their order.
pub(super) fn map<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> T + Sync,
) -> Vec<T> {
    let items: Vec<I> = items.into_iter().collect();
    let mut found: Vec<Option<T>> = items.iter().map(|_| None).collect();
    for_each(items.into_iter().zip(&mut found), |(item, found)| {
        *found = Some(work(item));
    });
    found
        .into_iter()
        .map(|found| found.expect("each item is worked on"))
        .collect()
}

/// Threads that help whoever has work.
struct Helpers {
    state: Mutex<State>,
    /// Told when there is work and somebody sleeps.
    work_came: Condvar,
    /// How often there was work. Changed under the lock, so that helpers may look without it.
    works: AtomicUsize,
    /// Helpers that are at it; as `works`.
    active: AtomicUsize,
    /// Told when the last helper leaves a work.
    helper_left: Condvar,
}

#[derive(Default)]
struct State {
    work: Option<Work>,
    sleeping: usize,
    /// What a helper's part of the work panicked with.
    panic: Option<Box<dyn Any + Send>>,
}

/// Calls that are to be made with `0..count`, by whoever increments `next`.
#[derive(Clone, Copy)]
struct Work {
    call: &'static (dyn Fn(usize) + Sync),
    next: &'static AtomicUsize,
    count: usize,
}

impl Work {
    fn run(self) {
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= self.count {
                return;
            }
            (self.call)(i);
        }
    }
}

impl Helpers {
    fn get() -> &'static Helpers {
        static HELPERS: OnceLock<&'static Helpers> = OnceLock::new();
        HELPERS.get_or_init(|| {
            let helpers: &'static Helpers = Box::leak(Box::new(Helpers {
                state: Mutex::default(),
                work_came: Condvar::new(),
                works: AtomicUsize::new(0),
                active: AtomicUsize::new(0),
                helper_left: Condvar::new(),
            }));
            for i in 1..rayon::current_num_threads() {
                let thread = thread::Builder::new().name(format!("univi-{i}"));
                // Fewer helpers, where the system has no more threads.
                let _ = thread.spawn(|| helpers.help());
            }
            helpers
        })
    }

    /// Calls `call` with all of `0..count`. Where another thread's work is under way, this one
    /// does its own alone.
    fn run(&self, count: usize, call: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        // SAFETY: `Finish` takes the work away and waits for every helper that has it, before
        // `call` and `next` go, also where `call` panics.
        let work = unsafe {
            Work {
                call: std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(
                    call,
                ),
                next: std::mem::transmute::<&AtomicUsize, &'static AtomicUsize>(&next),
                count,
            }
        };
        let mut state = lock(&self.state);
        if state.work.is_some() {
            drop(state);
            return work.run();
        }
        state.work = Some(work);
        state.panic = None;
        self.works.fetch_add(1, Ordering::Release);
        if state.sleeping > 0 {
            self.work_came.notify_all();
        }
        drop(state);

        let finish = Finish(self);
        work.run();
        drop(finish);
        if let Some(panic) = lock(&self.state).panic.take() {
            resume_unwind(panic);
        }
    }

    fn help(&self) {
        let mut seen = 0;
        loop {
            look_out(|| self.works.load(Ordering::Acquire) != seen);
            let mut state = lock(&self.state);
            while self.works.load(Ordering::Acquire) == seen {
                state.sleeping += 1;
                state = wait(&self.work_came, state);
                state.sleeping -= 1;
            }
            seen = self.works.load(Ordering::Acquire);
            let Some(work) = state.work else {
                continue;
            };
            self.active.fetch_add(1, Ordering::Release);
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(|| work.run()));
            let mut state = lock(&self.state);
            if let Err(panic) = result {
                state.panic = Some(panic);
            }
            if self.active.fetch_sub(1, Ordering::Release) == 1 {
                self.helper_left.notify_all();
            }
        }
    }
}

/// Waits for what is about to happen, for so long.
fn look_out(happened: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if happened() {
            return;
        }
        std::hint::spin_loop();
    }
}

/// Ends a work when it goes.
struct Finish<'a>(&'a Helpers);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let Finish(helpers) = self;
        // Who comes from now on finds nothing left to do.
        look_out(|| helpers.active.load(Ordering::Acquire) == 0);
        let mut state = lock(&helpers.state);
        while helpers.active.load(Ordering::Acquire) > 0 {
            state = wait(&helpers.helper_left, state);
        }
        state.work = None;
    }
}

/// No panic leaves a state that others can't go on with.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On threads of its own, as callers of the library have them: not one of rayon's.
    #[test]
    fn all_items_are_worked_on_whoever_calls_and_panics_reach_the_caller() {
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                thread::spawn(move || {
                    for round in 0..50 {
                        let found = map(0..100usize, |i| i * round + caller);
                        let expected: Vec<_> = (0..100).map(|i| i * round + caller).collect();
                        assert_eq!(found, expected);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().expect("each gets its own results");
        }
        for bad in [0, 50, 99] {
            let caught = catch_unwind(|| for_each(0..100, |i| assert_ne!(i, bad)));
            assert!(caught.is_err(), "item {bad}");
            assert_eq!(map(0..9, |i| i + 1), (1..10).collect::<Vec<_>>());
        }
    }
}
