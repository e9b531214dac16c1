//! A repository of the Hub at one commit.

use std::{collections::BTreeMap, sync::Arc};

use univi::{Error, Result};

use crate::{
    HubAddress,
    client::Hub,
    digest::FileDigest,
    listing::{RemoteFile, RevisionAnswer, TreeEntry, add_page, is_digest},
};

/// A repository at one commit: its files, and how to read them. Threads share one.
pub struct Repository {
    pub(crate) hub: Arc<Hub>,
    pub(crate) address: HubAddress,
    pub(crate) commit: String,
    files: BTreeMap<String, RemoteFile>,
}

impl Repository {
    /// Asks the Hub which commit the address means and which files it has.
    ///
    /// # Errors
    /// `Io` where the Hub refuses or can't be reached, `BadFile` for a listing that makes no
    /// sense, `BadRequest` where the settings are offline.
    pub fn open(hub: Arc<Hub>, address: &HubAddress) -> Result<Repository> {
        let what = HubAddress {
            path: None,
            ..address.clone()
        };
        let what = what.to_string();
        if hub.settings().is_offline {
            let reason = "the Hub is not asked: HF_HUB_OFFLINE is set".into();
            return Err(Error::BadRequest { reason }.in_file(what));
        }
        let (owner, name) = address.repository.split_once('/').unwrap_or_default();
        let revision = ["api", "models", owner, name, "revision", address.revision()];
        let (answer, _) = hub.json::<RevisionAnswer>(&hub.address(&revision), &what)?;
        let commit = answer.sha;
        if !is_digest(&commit) {
            let reason = format!("names the commit {commit:?}, which is none");
            let format = "answer of the Hub";
            return Err(Error::BadFile { format, reason }.in_file(what));
        }
        let tree = ["api", "models", owner, name, "tree", &commit];
        let mut next = Some(hub.address(&tree) + "?recursive=true");
        let mut files = BTreeMap::new();
        while let Some(page) = next {
            let (entries, after) = hub.json::<Vec<TreeEntry>>(&page, &what)?;
            let is_empty = entries.is_empty();
            add_page(&mut files, entries).map_err(|e| e.in_file(&*what))?;
            // Else a server that always names a next page would be asked for ever.
            next = after.filter(|after| !is_empty && *after != page);
        }
        Ok(Repository {
            hub,
            address: address.clone(),
            commit,
            files,
        })
    }

    /// Returns what the repository was opened by.
    pub fn address(&self) -> &HubAddress {
        &self.address
    }

    /// Returns the commit, in hexadecimal digits. What is read is of this one, whatever the
    /// revision comes to mean.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Returns the files, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = &RemoteFile> {
        self.files.values()
    }

    /// Returns the file of a path, `None` where there is none.
    pub fn file(&self, path: &str) -> Option<&RemoteFile> {
        self.files.get(path)
    }

    /// Returns how a file of the repository is named for people.
    pub fn name_of(&self, path: &str) -> String {
        let address = HubAddress {
            path: Some(path.to_string()),
            ..self.address.clone()
        };
        address.to_string()
    }

    /// Reads `len` bytes of a file from `offset` on, in order and in chunks of any size. Transfers
    /// that break or stall go on where they stopped.
    ///
    /// # Errors
    /// `Io` where the Hub refuses or can't be reached, or the file is shorter; those of `on_bytes`.
    pub fn read(
        &self,
        file: &RemoteFile,
        offset: u64,
        len: u64,
        on_bytes: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let what = self.name_of(&file.path);
        if offset.checked_add(len).is_none_or(|end| end > file.bytes) {
            let reason = format!("has {} bytes, not {len} at {offset}", file.bytes);
            return Err(Error::Io { reason }.in_file(what));
        }
        let (owner, name) = self.address.repository.split_once('/').unwrap_or_default();
        let mut parts = vec![owner, name, "resolve", &self.commit];
        parts.extend(file.path.split('/'));
        let address = self.hub.address(&parts);
        self.hub
            .read(&address, [offset, len, file.bytes], &what, on_bytes)
    }

    /// Reads a whole file into memory, and checks its digest.
    ///
    /// # Errors
    /// As [`Repository::read`]; `BadFile` for a wrong hash.
    pub fn read_whole(&self, file: &RemoteFile) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read(file, 0, file.bytes, &mut |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        let mut digest = FileDigest::of(file);
        digest.update(&bytes);
        self.check_hash(file, digest)?;
        Ok(bytes)
    }

    /// Compares the digest of all bytes of a file with the listing's.
    pub(crate) fn check_hash(&self, file: &RemoteFile, digest: FileDigest) -> Result<()> {
        match digest.finish() {
            Some((name, found)) if found != file.etag => Err(Error::BadFile {
                format: "file of the Hub",
                reason: format!(
                    "{name} is {found}, the Hub says {}: a proxy changed it, or the Hub is at \
                     fault; try again",
                    file.etag
                ),
            }
            .in_file(self.name_of(&file.path))),
            _ => Ok(()),
        }
    }
}
