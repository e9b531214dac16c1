//! The conversations whose KV caches are kept, so that a request which goes on with one costs its
//! own words alone.

use univi::{Error, Model, Result, Session, session::SessionOptions};

/// A conversation, by the hashes of its parts.
struct Kept {
    session: Session,
    keys: Vec<u64>,
    /// When it was used last, in requests.
    used: u64,
}

/// The conversations that are kept.
pub struct Conversations {
    model: Model,
    limit: usize,
    kept: Vec<Kept>,
    requests: u64,
}

impl Conversations {
    /// Keeps up to `limit` conversations, at least 1.
    pub fn new(model: Model, limit: usize) -> Conversations {
        Conversations {
            model,
            limit: limit.max(1),
            kept: Vec::new(),
            requests: 0,
        }
    }

    /// Returns the session with the most of the conversation of `keys` in its KV cache: one that
    /// the conversation goes on with, a copy of one that it branches off from, else a new one in
    /// the place of the one that was unused for longest.
    ///
    /// # Errors
    /// `DeviceLost`.
    pub async fn session_for(&mut self, keys: Vec<u64>) -> Result<&mut Session> {
        self.requests += 1;
        let index = match self.continued(&keys) {
            Some(index) => index,
            None => self.branched(&keys).await?,
        };
        let kept = &mut self.kept[index];
        kept.keys = keys;
        kept.used = self.requests;
        Ok(&mut kept.session)
    }

    /// Forgets all conversations.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// The longest conversation that `keys` repeat or go on with.
    fn continued(&self, keys: &[u64]) -> Option<usize> {
        let continued = (0..self.kept.len()).filter(|&i| keys.starts_with(&self.kept[i].keys));
        continued.max_by_key(|&i| self.kept[i].keys.len())
    }

    /// A place for a conversation that goes on with none.
    async fn branched(&mut self, keys: &[u64]) -> Result<usize> {
        let shared = |kept: &Kept| {
            let pairs = kept.keys.iter().zip(keys);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let source = (0..self.kept.len()).max_by_key(|&i| shared(&self.kept[i]));
        let place = match self.kept.len() < self.limit {
            true => None,
            false => (0..self.kept.len()).min_by_key(|&i| self.kept[i].used),
        };
        let copied = match source {
            // The system text alone is read sooner than a KV cache is copied.
            Some(source)
                if shared(&self.kept[source]) > 1
                    && place.is_none_or(|place| {
                        shared(&self.kept[place]) < shared(&self.kept[source])
                    }) =>
            {
                match self.kept[source].session.fork().await {
                    Ok(session) => Some(session),
                    // Without a copy there is more to compute, and nothing else is lost.
                    Err(Error::OutOfMemory { .. }) => None,
                    Err(e) => return Err(e),
                }
            }
            _ => None,
        };
        if let Some(place) = place {
            if let Some(session) = copied {
                self.kept[place].session = session;
            }
            return Ok(place);
        }
        let session = copied.unwrap_or_else(|| self.model.session(SessionOptions::default()));
        self.kept.push(Kept {
            session,
            keys: Vec::new(),
            used: 0,
        });
        Ok(self.kept.len() - 1)
    }
}
