//! The client of the Hub against a server that behaves as the Hub does, and misbehaves on demand.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use univi::{Error, Result};
use univi_hub::{Hub, HubAddress, HubSettings, Repository};
use univi_tests::test_hub::{FaultKind, Request, TestHub, TestHubOptions};

const LARGE: &str = "weights/large model.bin";
const LARGE_BYTES: usize = 1_000_000;

/// Numbers that repeat late.
fn numbers(count: usize) -> Vec<u8> {
    let number = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    (0..count).map(number).collect()
}

/// A repository `org/model` on a server of its own, and an empty cache.
struct Setting {
    hub: TestHub,
    settings: HubSettings,
    folder: PathBuf,
}

impl Setting {
    fn new(name: &str, options: TestHubOptions) -> Setting {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hub-{name}"));
        let _ = fs::remove_dir_all(&folder);
        let repository = folder.join("served/org/model");
        fs::create_dir_all(repository.join("weights")).unwrap();
        fs::write(repository.join("config.json"), "{}").unwrap();
        fs::write(repository.join(LARGE), numbers(LARGE_BYTES)).unwrap();
        let hub = TestHub::start(&folder.join("served"), options);
        let settings = HubSettings {
            endpoint: hub.endpoint(),
            token: None,
            cache: folder.join("cache"),
            is_offline: false,
            patience: Duration::from_millis(500),
            first_wait: Duration::from_millis(1),
        };
        Setting {
            hub,
            settings,
            folder,
        }
    }

    fn try_open(&self, address: &str) -> Result<Repository> {
        let hub = Hub::new(self.settings.clone())?;
        Repository::open(Arc::new(hub), &HubAddress::parse(address)?)
    }

    fn open(&self) -> Repository {
        self.try_open("hf:org/model").unwrap()
    }

    #[track_caller]
    fn refused(&self, address: &str, says: &str) {
        let error = self.try_open(address).err().expect("it is refused");
        let error = error.to_string();
        assert!(error.starts_with("hf:") && error.contains(says), "{error}");
    }
}

fn read(repository: &Repository, offset: u64, len: u64) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    let file = repository.file(LARGE).unwrap();
    repository.read(file, offset, len, &mut |chunk| {
        read.extend_from_slice(chunk);
        Ok(())
    })?;
    Ok(read)
}

#[track_caller]
fn fails<T>(result: Result<T>, says: &str) {
    let error = result.err().expect("it fails").to_string();
    assert!(error.contains(says), "{error}");
}

fn sent(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.bytes).sum()
}

#[test]
fn a_repository_is_listed_page_by_page() {
    let options = TestHubOptions {
        page_files: 7,
        ..TestHubOptions::default()
    };
    let setting = Setting::new("pages", options);
    for i in 0..40 {
        let path = format!("served/org/model/part-{i:02}.json");
        fs::write(setting.folder.join(path), "[]").unwrap();
    }
    let repository = setting.open();
    assert_eq!(repository.files().count(), 42);
    let large = repository.file(LARGE).unwrap();
    assert_eq!((large.bytes, large.sha256.is_some()), (1_000_000, true));
    let small = repository.file("config.json").unwrap();
    assert_eq!((small.bytes, small.sha256.is_some()), (2, false));
    // What is listed is the commit, whatever the branch comes to mean.
    let requests = setting.hub.take_requests();
    let is_tree = |request: &&Request| request.path.contains("/tree/");
    let trees: Vec<_> = requests.iter().filter(is_tree).collect();
    assert_eq!(trees.len(), 6);
    for request in trees {
        assert!(request.path.ends_with(repository.commit()), "{request:?}");
    }
}

#[test]
fn ranges_come_from_the_storage_without_the_token() {
    let options = TestHubOptions {
        token: Some("hf_secret".into()),
        gated: vec!["org/model".into()],
        ..TestHubOptions::default()
    };
    let mut setting = Setting::new("ranges", options);
    setting.settings.token = Some("hf_secret".into());
    let repository = setting.open();
    let expected = numbers(LARGE_BYTES);
    setting.hub.take_requests();
    for (offset, len) in [(0, 10), (999_990, 10), (123_456, 500_000), (0, 1_000_000)] {
        let found = read(&repository, offset, len).unwrap();
        assert!(found == expected[offset as usize..][..len as usize]);
    }
    assert!(read(&repository, 5, 0).unwrap().is_empty());
    fails(read(&repository, 999_991, 10), "has 1000000 bytes");
    let requests = setting.hub.take_requests();
    let (storage, hub): (Vec<_>, Vec<_>) = requests.iter().partition(|r| r.is_storage);
    // The signed address is asked for once.
    assert_eq!(hub.len(), 1, "{hub:?}");
    assert!(hub[0].has_token && hub[0].path.contains(repository.commit()));
    assert_eq!(storage.len(), 4);
    for request in storage {
        assert!(!request.has_token && [200, 206].contains(&request.status));
    }
    // Nothing was written to the disk.
    assert!(!setting.settings.cache.exists());
    let debug = format!("{:?}", setting.settings);
    assert!(!debug.contains("hf_secret"), "{debug}");
}

#[test]
fn what_passes_is_tried_again() {
    let options = TestHubOptions {
        signature_uses: 2,
        ..TestHubOptions::default()
    };
    let setting = Setting::new("tries", options);
    let unavailable = FaultKind::Status(503, None);
    setting.hub.fault("/api/", 2, unavailable);
    let repository = setting.open();
    let expected = numbers(LARGE_BYTES);
    for fault in [
        FaultKind::Drop(0),
        FaultKind::Drop(200_000),
        FaultKind::Stall(0),
        FaultKind::Stall(300_000),
        FaultKind::Status(429, Some(0)),
        FaultKind::Status(500, None),
    ] {
        for times in [1, 3] {
            setting.hub.take_requests();
            setting.hub.fault("storage:", times, fault.clone());
            let found = read(&repository, 100, 900_000).unwrap();
            assert!(found == expected[100..900_100], "{fault:?}");
            // What has come is not fetched again.
            let sent = sent(&setting.hub.take_requests());
            assert!(
                (900_000..910_000).contains(&sent),
                "{fault:?}: {sent} bytes"
            );
            setting.hub.heal();
        }
    }
    // A signed address that ended is asked for anew.
    setting.hub.expire();
    assert!(read(&repository, 0, 1000).unwrap() == expected[..1000]);
}

#[test]
fn a_server_that_asks_for_patience_gets_it() {
    let setting = Setting::new("patience", TestHubOptions::default());
    let busy = |seconds| FaultKind::Status(429, Some(seconds));
    setting.hub.fault("/api/", 1, busy(1));
    let begun = Instant::now();
    setting.open();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    setting.hub.fault("/api/", 1, busy(86_400));
    setting.refused("hf:org/model", "asks to wait 86400 seconds");
}

#[test]
fn what_stays_wrong_is_named() {
    let mut setting = Setting::new("wrong", TestHubOptions::default());
    setting.refused("hf:org/other", "look at the name, or set HF_TOKEN");
    setting.refused("hf:org/model@missing", "no such revision");
    let always = |path: &str, kind| setting.hub.fault(path, u32::MAX, kind);
    always("/api/", FaultKind::Status(502, None));
    setting.refused("hf:org/model", "tried 6 times");
    setting.hub.heal();
    let repository = setting.open();
    always("storage:", FaultKind::Status(403, None));
    let named = "hf:org/model/weights/large model.bin: 127.0.0.1";
    fails(read(&repository, 0, 10), named);
    setting.hub.heal();
    always("storage:", FaultKind::IgnoreRange);
    fails(read(&repository, 5, 10), "does not send parts");
    setting.hub.heal();

    // No Hub at all, and nobody who listens.
    setting.settings.endpoint = format!("{}/org/model/resolve/main", setting.hub.endpoint());
    setting.refused("hf:org/model", "no such file");
    setting.settings.endpoint = "http://127.0.0.1:9".into();
    setting.refused("hf:org/model", "127.0.0.1");
    setting.settings.is_offline = true;
    setting.refused("hf:org/model", "HF_HUB_OFFLINE");
    setting.settings.endpoint = "a mirror".into();
    fails(setting.try_open("hf:org/model"), "HF_ENDPOINT");
}

#[test]
fn a_listing_that_makes_no_sense_is_refused() {
    let setting = Setting::new("nonsense", TestHubOptions::default());
    for (answer, says) in [
        (r#"{"sha":"../../etc"}"#, "which is none"),
        ("<html>", "is HF_ENDPOINT a mirror of the Hub?"),
        ("", "is HF_ENDPOINT a mirror of the Hub?"),
    ] {
        setting
            .hub
            .fault("/revision/", 1, FaultKind::Body(answer.into()));
        setting.refused("hf:org/model", says);
    }
    let digest = "0123456789".repeat(4);
    for (path, oid, says) in [
        ("../../x", &*digest, "leaves the folder"),
        ("/etc/x", &digest, "leaves the folder"),
        ("a\\\\..\\\\b", &digest, "leaves the folder"),
        ("a", "../x", "which is none"),
        ("a", "", "which is none"),
    ] {
        let answer = format!(r#"[{{"type":"file","oid":"{oid}","size":5,"path":"{path}"}}]"#);
        setting.hub.fault("/tree/", 1, FaultKind::Body(answer));
        setting.refused("hf:org/model", says);
    }
}

#[test]
fn gated_repositories_say_so() {
    let options = TestHubOptions {
        token: Some("hf_right".into()),
        gated: vec!["org/model".into()],
        ..TestHubOptions::default()
    };
    let mut setting = Setting::new("gated", options);
    let repository = setting.open();
    fails(read(&repository, 0, 10), "is gated: agree to its terms");
    setting.settings.token = Some("hf_wrong".into());
    setting.refused("hf:org/model", "does not know this token");
    setting.settings.token = Some("hf_right".into());
    assert_eq!(read(&setting.open(), 0, 10).unwrap().len(), 10);
}

#[test]
fn downloads_go_on_where_they_stopped() {
    let setting = Setting::new("downloads", TestHubOptions::default());
    let repository = setting.open();
    let file = repository.file(LARGE).unwrap();
    // Stopped in the middle, as by a kill.
    let stopped = repository.download(file, &mut |done| match done > 400_000 {
        true => Err(Error::Aborted),
        false => Ok(()),
    });
    assert_eq!(stopped.unwrap_err(), Error::Aborted);
    assert!(!repository.is_cached(file) && !repository.snapshot().exists());
    setting.hub.take_requests();
    let mut first = None;
    let path = repository.download(file, &mut |done| {
        first.get_or_insert(done);
        Ok(())
    });
    let path = path.unwrap();
    assert!(first.unwrap() > 400_000);
    assert!(fs::read(&path).unwrap() == numbers(LARGE_BYTES));
    let sent = sent(&setting.hub.take_requests());
    assert!(sent < 600_000, "{sent}");

    // The layout of the Hub's own tools.
    let folder = setting.settings.cache.join("models--org--model");
    let snapshot = folder.join("snapshots").join(repository.commit());
    assert_eq!(path, snapshot.join(LARGE));
    let noted = fs::read_to_string(folder.join("refs/main")).unwrap();
    assert_eq!(noted, repository.commit());
    if cfg!(unix) {
        let blob = folder.join("blobs").join(file.sha256.as_ref().unwrap());
        let real = |path: &Path| fs::canonicalize(path).unwrap();
        assert_eq!(real(&path), real(&blob));
        let blobs = fs::read_dir(folder.join("blobs")).unwrap();
        assert_eq!(blobs.count(), 1, "nothing incomplete is left");
    }

    // A second time nothing is asked for; without a network it is found.
    repository.download(file, &mut |_| Ok(())).unwrap();
    assert!(setting.hub.take_requests().is_empty());
    let cached = |address: &str| {
        let address = HubAddress::parse(address).unwrap();
        setting.settings.cached(&address)
    };
    assert_eq!(cached("hf:org/model"), Some(snapshot.clone()));
    let pinned = format!("hf:org/model@{}", repository.commit());
    assert_eq!(cached(&pinned), Some(snapshot));
    assert_eq!(cached("hf:org/model@other"), None);
    assert_eq!(cached("hf:org/other"), None);
}

#[test]
fn damaged_downloads_are_refused_and_do_not_stay() {
    let setting = Setting::new("damaged", TestHubOptions::default());
    let repository = setting.open();
    let file = repository.file(LARGE).unwrap();
    let out = setting.folder.join("out");
    let download = || repository.download_into(&out, file, &mut |_| Ok(()));
    setting
        .hub
        .fault("storage:", 1, FaultKind::Corrupt(777_777));
    fails(download(), "SHA-256");
    assert_eq!(fs::read_dir(out.join("weights")).unwrap().count(), 0);
    setting.hub.heal();
    let path = download().unwrap();
    assert!(path == out.join(LARGE));
    assert!(fs::read(&path).unwrap() == numbers(LARGE_BYTES));

    // A small one has no SHA-256 in the listing, but Git's name.
    let small = repository.file("config.json").unwrap();
    assert_eq!(small.sha256, None);
    setting
        .hub
        .fault("config.json", 1, FaultKind::Corrupt(small.bytes / 2));
    fails(repository.read_whole(small), "Git's SHA-1");
    repository.read_whole(small).unwrap();

    // One that is right stays, one that was changed is fetched again.
    setting.hub.take_requests();
    download().unwrap();
    assert!(setting.hub.take_requests().is_empty());
    let mut changed = numbers(LARGE_BYTES);
    changed[5] ^= 1;
    fs::write(&path, changed).unwrap();
    download().unwrap();
    assert!(fs::read(&path).unwrap() == numbers(LARGE_BYTES));
}
