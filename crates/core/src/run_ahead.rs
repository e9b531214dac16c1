//! Tokens that are computed before the ones that they follow have been read.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::{Backend, Result, sampler::Sampler};

/// A token that the device has chosen, and whose id is on its way back.
pub struct ComingToken<B: Backend> {
    /// `[1]`
    pub ids: B::Ids,
    reading: Pin<Box<dyn Future<Output = Result<Vec<u32>>>>>,
    read: Option<Result<Vec<u32>>>,
}

impl<B: Backend> ComingToken<B> {
    /// Begins to choose a token by its `logits: [1, vocabulary]`.
    pub fn new(b: &B, logits: &B::Tensor, sampler: &mut Sampler) -> ComingToken<B> {
        let ids = b.choose(logits, &sampler.next_choice());
        ComingToken {
            reading: Box::pin(b.read_ids(&ids)),
            read: None,
            ids,
        }
    }

    /// Looks whether the id is there, and waits for nothing.
    pub fn has_come(&mut self) -> bool {
        if self.read.is_none() {
            let context = &mut Context::from_waker(Waker::noop());
            if let Poll::Ready(read) = self.reading.as_mut().poll(context) {
                self.read = Some(read);
            }
        }
        self.read.is_some()
    }

    /// Waits for the id, or for [`NOT_FINITE`](crate::backend::NOT_FINITE).
    ///
    /// # Errors
    /// As [`Backend::read`].
    pub async fn id(&mut self) -> Result<u32> {
        let read = match self.read.take() {
            Some(read) => read,
            None => self.reading.as_mut().await,
        };
        Ok(read?[0])
    }
}

/// How many tokens are computed beyond the one that is awaited, so that the device has work while
/// an id is on its way back and the next dispatches are recorded. Some browsers bring results back
/// ten times a second, however fast the device is; a backend that computes at the call is never
/// awaited. So it is found out as it goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunAhead {
    /// So many.
    pub tokens: usize,
}

impl RunAhead {
    /// What an answer that ends leaves computed for nothing.
    const MOST: usize = 8;

    /// Learns that after a token was awaited, so many of those ahead of it were still under way.
    pub fn adapt(&mut self, under_way: usize) {
        self.tokens = match under_way {
            0 => (self.tokens + 1).min(RunAhead::MOST),
            1 => self.tokens,
            _ => self.tokens - 1,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::RunAhead;

    /// The tokens ahead after `awaited` tokens, of which a device brings `at_once` back together.
    fn ahead(at_once: usize, awaited: usize) -> usize {
        let mut run_ahead = RunAhead::default();
        for _ in 0..awaited {
            let under_way = run_ahead.tokens.saturating_sub(at_once - 1);
            run_ahead.adapt(under_way);
        }
        run_ahead.tokens
    }

    #[test]
    fn as_many_run_ahead_as_keep_the_device_at_work() {
        assert_eq!(ahead(1, 0), 0);
        assert_eq!(ahead(1, 50), 1);
        assert_eq!(ahead(5, 50), 5);
        assert_eq!(ahead(100, 50), RunAhead::MOST);
    }

    #[test]
    fn fewer_do_once_the_device_is_slower() {
        let mut run_ahead = RunAhead { tokens: 6 };
        for _ in 0..50 {
            run_ahead.adapt(run_ahead.tokens);
        }
        assert_eq!(run_ahead.tokens, 1);
    }
}
