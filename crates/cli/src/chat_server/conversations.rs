//! The conversations whose KV caches are kept, so that a request which goes on with one costs its
//! own words alone.

use std::collections::BTreeMap;

use univi::{Error, Model, Result, Session, session::SessionOptions};

/// Which of the conversations.
pub type Place = u64;

/// A conversation, by the hashes of its parts.
struct Kept {
    session: Session,
    keys: Vec<u64>,
    /// When it was used last, in requests.
    used: u64,
    /// Whether a request is answered in it.
    taken: bool,
}

/// The conversations that are kept.
pub struct Conversations {
    model: Model,
    limit: usize,
    kept: BTreeMap<Place, Kept>,
    requests: u64,
}

impl Conversations {
    /// Keeps up to `limit` conversations, at least 1.
    pub fn new(model: Model, limit: usize) -> Conversations {
        Conversations {
            model,
            limit: limit.max(1),
            kept: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Takes the conversation with the most of that of `keys` in its KV cache: one that goes on
    /// with it, a copy of one that it branches off from, else a new one in the place of the one
    /// that was unused for longest.
    ///
    /// # Errors
    /// `DeviceLost`.
    ///
    /// # Panics
    /// Where as many are taken as are kept.
    pub async fn place_for(&mut self, keys: Vec<u64>) -> Result<Place> {
        self.requests += 1;
        let place = match self.continued(&keys) {
            Some(place) => place,
            None => self.branched(&keys).await?,
        };
        let kept = self.kept.get_mut(&place).expect("it was found");
        kept.keys = keys;
        kept.used = self.requests;
        kept.taken = true;
        Ok(place)
    }

    /// Gives a conversation back, for others to go on with.
    pub fn give_back(&mut self, place: Place) {
        self.at(place).taken = false;
    }

    /// Returns the session of a conversation that is taken.
    pub fn session(&mut self, place: Place) -> &mut Session {
        &mut self.at(place).session
    }

    /// Returns the sessions of the conversations that are taken, in the order in which they were:
    /// the prompt that is computed first is the one that has waited for longest.
    pub fn taken(&mut self) -> Vec<(Place, &mut Session)> {
        let taken = self.kept.iter_mut().filter(|(_, kept)| kept.taken);
        let mut taken: Vec<_> = taken.collect();
        taken.sort_by_key(|(_, kept)| kept.used);
        let sessions = taken.into_iter();
        sessions
            .map(|(place, kept)| (*place, &mut kept.session))
            .collect()
    }

    /// Forgets all conversations that are not taken.
    pub fn clear(&mut self) {
        self.kept.retain(|_, kept| kept.taken);
    }

    fn at(&mut self, place: Place) -> &mut Kept {
        let kept = self.kept.get_mut(&place);
        kept.expect("what is taken stays")
    }

    /// The longest conversation that `keys` repeat or go on with.
    fn continued(&self, keys: &[u64]) -> Option<Place> {
        let goes_on = |kept: &Kept| !kept.taken && keys.starts_with(&kept.keys);
        let continued = self.kept.iter().filter(|(_, kept)| goes_on(kept));
        let longest = continued.max_by_key(|(_, kept)| kept.keys.len());
        longest.map(|(place, _)| *place)
    }

    /// A place for a conversation that goes on with none.
    async fn branched(&mut self, keys: &[u64]) -> Result<Place> {
        let shared = |kept: &Kept| {
            let pairs = kept.keys.iter().zip(keys);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let source = self.kept.values().max_by_key(|kept| shared(kept));
        let replaced = match self.kept.len() < self.limit {
            true => None,
            false => {
                let free = self.kept.iter().filter(|(_, kept)| !kept.taken);
                let unused = free.min_by_key(|(_, kept)| kept.used);
                Some(*unused.expect("a place for each that is taken").0)
            }
        };
        let of_replaced = replaced.map_or(0, |place| shared(&self.kept[&place]));
        let copied = match source {
            // The system text alone is read sooner than a KV cache is copied.
            Some(source) if shared(source) > of_replaced.max(1) => {
                match source.session.fork().await {
                    Ok(session) => Some(session),
                    // Without a copy there is more to compute, and nothing else is lost.
                    Err(Error::OutOfMemory { .. }) => None,
                    Err(e) => return Err(e),
                }
            }
            _ => None,
        };
        if let Some(place) = replaced {
            if let Some(session) = copied {
                self.at(place).session = session;
            }
            return Ok(place);
        }
        let kept = Kept {
            session: copied.unwrap_or_else(|| self.model.session(SessionOptions::default())),
            keys: Vec::new(),
            used: 0,
            taken: false,
        };
        // Requests are counted, and each makes one place at the most.
        self.kept.insert(self.requests, kept);
        Ok(self.requests)
    }
}
