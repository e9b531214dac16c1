//! What `univi serve` keeps to itself, and what it lets workers reach.

use std::fs;

use super::{Reply, Server, site};

#[test]
fn names_that_begin_with_a_dot_are_hidden_unless_asked_for() {
    let dir = site("dotfiles");
    let page = dir.join("page");
    fs::create_dir_all(page.join(".git")).unwrap();
    for (file, text) in [(".env", "KEY=1"), (".git/config", "[core]"), ("a.b", "ab")] {
        fs::write(page.join(file), text).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(".env", page.join("environment")).unwrap();

    let server = Server::start(&page, &[]);
    assert_eq!(server.get("/a.b").text(), "ab");
    for path in ["/.env", "/%2eenv", "/.git/config", "/.git/", "/environment"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let server = Server::start(&page, &["--dotfiles"]);
    assert_eq!(server.get("/.env").text(), "KEY=1");
    assert_eq!(server.get("/.git/config").text(), "[core]");

    // A folder that is named is served, whatever its own name is.
    let server = Server::start(&page.join(".git"), &[]);
    assert_eq!(server.get("/config").text(), "[core]");
}

#[test]
fn scripts_carry_the_policy_that_holds_workers() {
    let dir = site("policy");
    let policy = |reply: &Reply| reply.header("content-security-policy").map(str::to_owned);
    let server = Server::start(&dir.join("page"), &[]);
    let script = server.get("/app.js");
    let own = policy(&script).unwrap();
    assert!(own.contains("default-src 'none'"), "{own}");
    assert!(own.contains("connect-src 'self' blob: data:"), "{own}");
    let etag = format!("If-None-Match: {}", script.header("etag").unwrap());
    let unchanged = server.ask("GET", "/app.js", &[&etag]);
    assert_eq!((unchanged.status, policy(&unchanged)), (304, Some(own)));
    // A page brings its own.
    assert_eq!(policy(&server.get("/")), None);

    let further = ["--connect-src", "https://models.example/"];
    let server = Server::start(&dir.join("page"), &further);
    let wider = policy(&server.get("/app.js")).unwrap();
    assert!(wider.ends_with("data: https://models.example"), "{wider}");
}
