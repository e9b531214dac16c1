use super::*;

fn transfer(bytes: Option<u64>, kept: u64) -> Transfer {
    let validator = (kept > 0).then(|| "\"v1\"".to_string());
    Transfer::new("a.gguf", bytes, kept, validator, 7)
}

fn head(status: u16) -> ResponseHead {
    ResponseHead {
        status,
        validator: Some("\"v1\"".into()),
        ..ResponseHead::default()
    }
}

fn ranged(range: &str) -> ResponseHead {
    ResponseHead {
        content_range: Some(range.into()),
        ..head(206)
    }
}

#[test]
fn a_file_comes_whole() {
    let mut t = transfer(None, 0);
    assert_eq!(
        t.request(),
        Request {
            from: 0,
            to: None,
            if_range: None
        }
    );
    let whole = ResponseHead {
        content_length: Some(10),
        ..head(200)
    };
    assert_eq!(t.on_response(&whole).unwrap(), ResponseAction::Continues);
    assert_eq!(t.validator(), Some("\"v1\""));
    t.received(4).unwrap();
    t.received(6).unwrap();
    assert_eq!(t.ended().unwrap(), None);
}

#[test]
fn a_broken_one_goes_on_where_it_broke() {
    let mut t = transfer(Some(10), 0);
    t.on_response(&head(200)).unwrap();
    t.received(4).unwrap();
    let pause = t.ended().unwrap().unwrap();
    assert!((250..750).contains(&pause), "{pause}");
    assert_eq!(
        t.request(),
        Request {
            from: 4,
            to: None,
            if_range: Some("\"v1\"".into())
        }
    );
    assert_eq!(
        t.on_response(&ranged("bytes 4-9/10")).unwrap(),
        ResponseAction::Continues
    );
    t.received(6).unwrap();
    assert_eq!(t.ended().unwrap(), None);
}

#[test]
fn a_server_without_ranges_sends_it_again() {
    let mut t = transfer(Some(10), 4);
    assert_eq!(t.on_response(&head(200)).unwrap(), ResponseAction::Skip(4));
    t.received(6).unwrap();
    assert_eq!(t.ended().unwrap(), None);
    // Nobody can tell that it is the same where the server names no version.
    let mut t = Transfer::new("a.gguf", None, 4, None, 7);
    let nameless = ResponseHead {
        validator: None,
        ..head(200)
    };
    assert_eq!(t.on_response(&nameless).unwrap(), ResponseAction::Restart);
}

#[test]
fn a_changed_file_begins_anew() {
    let other = |status| ResponseHead {
        validator: Some("\"v2\"".into()),
        ..head(status)
    };
    let mut t = transfer(None, 4);
    assert_eq!(t.on_response(&other(200)).unwrap(), ResponseAction::Restart);
    assert_eq!((t.done_bytes(), t.validator()), (0, Some("\"v2\"")));
    let mut t = transfer(None, 4);
    let part = ResponseHead {
        content_range: Some("bytes 4-9/10".into()),
        ..other(206)
    };
    assert!(matches!(
        t.on_response(&part).unwrap(),
        ResponseAction::Pause(_)
    ));
    assert_eq!(t.request().from, 0);
}

#[test]
fn what_is_kept_may_be_all_or_too_much() {
    let mut t = transfer(None, 10);
    let satisfied = ResponseHead {
        content_range: Some("bytes */10".into()),
        ..head(416)
    };
    assert_eq!(t.on_response(&satisfied).unwrap(), ResponseAction::Complete);
    let mut t = transfer(None, 12);
    assert!(matches!(
        t.on_response(&satisfied).unwrap(),
        ResponseAction::Pause(_)
    ));
    assert_eq!(t.request().from, 0);
}

#[test]
fn a_length_that_may_be_that_of_a_packed_body_is_no_error() {
    let packed = |bytes| ResponseHead {
        content_length: Some(bytes),
        may_be_packed: true,
        ..head(200)
    };
    // Known length, shorter on its way.
    let mut t = transfer(Some(10), 0);
    assert_eq!(
        t.on_response(&packed(4)).unwrap(),
        ResponseAction::Continues
    );
    t.received(10).unwrap();
    assert_eq!(t.ended().unwrap(), None);
    // Unknown length: what comes is longer, so it was packed.
    let mut t = transfer(None, 0);
    t.on_response(&packed(4)).unwrap();
    t.received(10).unwrap();
    assert_eq!(t.ended().unwrap(), None);
    // It is shorter, so it broke off.
    let mut t = transfer(None, 0);
    t.on_response(&packed(4)).unwrap();
    t.received(3).unwrap();
    assert!(t.ended().unwrap().is_some());
    // What comes may not be longer than the file.
    let mut t = transfer(Some(10), 0);
    t.on_response(&packed(4)).unwrap();
    assert_eq!(t.received(11).unwrap_err().code(), "bad-file");
}

#[test]
fn a_range_comes_and_goes_on_where_it_broke() {
    let mut t = Transfer::of_range("a.bin", 100..110, Some(1000), 7);
    let request = |from| Request {
        from,
        to: Some(109),
        if_range: None,
    };
    assert_eq!(t.request(), request(100));
    assert_eq!(
        t.on_response(&ranged("bytes 100-109/1000")).unwrap(),
        ResponseAction::Continues
    );
    t.received(4).unwrap();
    assert!(t.ended().unwrap().is_some());
    assert_eq!(t.request(), request(104));
    // Unanswered, it never becomes a request for the whole file.
    for _ in 0..=MAX_UNANSWERED_RANGES {
        t.unanswered("the server can't be reached").unwrap();
    }
    assert_eq!(t.request(), request(104));
    // The range that comes may be hidden from a page.
    assert_eq!(
        t.on_response(&head(206)).unwrap(),
        ResponseAction::Continues
    );
    assert_eq!(t.clone().received(7).unwrap_err().code(), "bad-file");
    t.received(6).unwrap();
    assert_eq!(t.ended().unwrap(), None);
    // The first byte, too, is asked for by a range.
    let first = Transfer::of_range("a.bin", 0..1, None, 7);
    assert_eq!((first.request().from, first.request().to), (0, Some(0)));
}

#[test]
fn a_range_that_is_another_one_is_refused() {
    let mut t = Transfer::of_range("a.bin", 100..110, Some(1000), 7);
    let error = t.on_response(&head(200)).unwrap_err();
    assert_eq!(error.code(), "io");
    assert!(error.to_string().contains("knows no ranges"), "{error}");
    let elsewhere = ranged("bytes 0-9/1000");
    assert_eq!(t.on_response(&elsewhere).unwrap_err().code(), "io");
    let longer = ranged("bytes 100-109/1001");
    assert_eq!(t.on_response(&longer).unwrap_err().code(), "bad-file");
    let beyond = ResponseHead {
        content_range: Some("bytes */105".into()),
        ..head(416)
    };
    let error = t.on_response(&beyond).unwrap_err();
    assert_eq!(error.code(), "bad-file");
    assert!(error.to_string().contains("105 bytes"), "{error}");
}

#[test]
fn a_file_that_ends_early_twice_is_another_one() {
    let mut t = transfer(Some(10), 0);
    t.on_response(&head(200)).unwrap();
    t.received(6).unwrap();
    assert!(t.ended().unwrap().is_some());
    // It has no byte behind these, and says so or hides it.
    let mut hidden = t.clone();
    let beyond = ResponseHead {
        content_range: Some("bytes */6".into()),
        ..head(416)
    };
    let error = t.on_response(&beyond).unwrap_err();
    assert_eq!(error.code(), "bad-file");
    assert!(
        error.to_string().contains("6 bytes, expected 10"),
        "{error}"
    );
    assert!(matches!(
        hidden.on_response(&head(416)).unwrap(),
        ResponseAction::Pause(_)
    ));
    hidden.on_response(&head(200)).unwrap();
    hidden.received(6).unwrap();
    assert_eq!(hidden.ended().unwrap_err().code(), "bad-file");
}

#[test]
fn what_a_hash_guards_needs_no_version() {
    let mut t = transfer(Some(10), 4).pinned(true);
    assert_eq!(
        t.request(),
        Request {
            from: 4,
            to: None,
            if_range: None
        }
    );
    let part = ResponseHead {
        validator: Some("\"v2\"".into()),
        ..ranged("bytes 4-9/10")
    };
    assert_eq!(t.on_response(&part).unwrap(), ResponseAction::Continues);
    let whole = ResponseHead {
        validator: None,
        ..head(200)
    };
    assert_eq!(t.on_response(&whole).unwrap(), ResponseAction::Skip(4));
    // The range that the server sends may be hidden.
    assert_eq!(
        t.on_response(&head(206)).unwrap(),
        ResponseAction::Continues
    );
}

#[test]
fn a_server_that_refuses_if_range_still_resumes() {
    let mut t = transfer(None, 4);
    assert!(t.request().if_range.is_some());
    t.unanswered("the server can't be reached").unwrap();
    assert_eq!(
        t.request(),
        Request {
            from: 4,
            to: None,
            if_range: None
        }
    );
    assert_eq!(
        t.on_response(&ranged("bytes 4-9/10")).unwrap(),
        ResponseAction::Continues
    );
    // Without a version in the answer, it may be any.
    let nameless = ResponseHead {
        validator: None,
        ..ranged("bytes 4-9/10")
    };
    assert!(matches!(
        t.on_response(&nameless).unwrap(),
        ResponseAction::Pause(_)
    ));
    assert_eq!(t.request().from, 0);
}

#[test]
fn a_server_that_refuses_ranges_sends_the_whole_file() {
    let mut t = transfer(Some(10), 4).pinned(true);
    for _ in 0..MAX_UNANSWERED_RANGES {
        assert_eq!(t.request().from, 4);
        t.unanswered("the server can't be reached").unwrap();
    }
    assert_eq!(t.request().from, 0);
    assert_eq!(t.on_response(&head(200)).unwrap(), ResponseAction::Skip(4));
    t.received(6).unwrap();
    assert_eq!(t.ended().unwrap(), None);
}

#[test]
fn patience_has_an_end() {
    let mut t = transfer(Some(10), 0);
    let mut pauses = Vec::new();
    let error = loop {
        match t.on_response(&head(503)) {
            Ok(ResponseAction::Pause(ms)) => pauses.push(ms),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(pauses.len(), 4);
    assert!(pauses.is_sorted() && pauses[3] >= 2000, "{pauses:?}");
    assert_eq!(error.code(), "io");
    assert!(error.to_string().contains("a.gguf") && error.to_string().contains("503"));
    // A byte is a sign of life.
    let mut t = transfer(Some(100), 0);
    for _ in 0..20 {
        t.broke("stalled", None).unwrap();
        t.received(1).unwrap();
    }
}

#[test]
fn a_server_may_ask_for_patience() {
    let asks = |ms| ResponseHead {
        retry_after_ms: Some(ms),
        ..head(429)
    };
    let mut t = transfer(None, 0);
    assert_eq!(
        t.on_response(&asks(1500)).unwrap(),
        ResponseAction::Pause(1500)
    );
    assert_eq!(t.on_response(&asks(3_600_000)).unwrap_err().code(), "io");
}

#[test]
fn what_is_not_the_file_is_refused() {
    let page = ResponseHead {
        content_type: Some("text/html; charset=utf-8".into()),
        ..head(200)
    };
    assert_eq!(
        transfer(None, 0).on_response(&page).unwrap_err().code(),
        "bad-file"
    );
    for status in [301, 401, 403, 404, 410, 418] {
        let error = transfer(None, 0).on_response(&head(status)).unwrap_err();
        assert_eq!(error.code(), "io");
        assert!(error.to_string().contains(&status.to_string()));
    }
    let longer = ResponseHead {
        content_length: Some(11),
        ..head(200)
    };
    assert_eq!(
        transfer(Some(10), 0)
            .on_response(&longer)
            .unwrap_err()
            .code(),
        "bad-file"
    );
    let elsewhere = ranged("bytes 0-9/10");
    assert_eq!(
        transfer(Some(10), 4)
            .on_response(&elsewhere)
            .unwrap_err()
            .code(),
        "io"
    );
    let mut t = transfer(Some(10), 0);
    t.on_response(&head(200)).unwrap();
    assert_eq!(t.received(11).unwrap_err().code(), "bad-file");
}
