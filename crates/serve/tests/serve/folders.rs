//! What a server shows of its folders, and what it lets workers reach.

use std::{fs, path::Path};

use univi_serve::{Error, Mount, Origin, ServeOptions};

use crate::{
    client::{Reply, Server},
    site,
};

#[test]
fn no_way_out_of_the_folder() {
    let site = site();
    let dir = site.path();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.join("secret"), dir.join("page/out")).unwrap();
        std::os::unix::fs::symlink(dir, dir.join("page/up")).unwrap();
        std::os::unix::fs::symlink("app.js", dir.join("page/in.js")).unwrap();
    }
    let models = Mount::new("/models", dir.join("models")).unwrap();
    let server = Server::with(ServeOptions::new(dir.join("page")).mount(models));
    #[cfg(unix)]
    assert_eq!(server.get("/in.js").text(), "1");
    for path in [
        "/../secret",
        "/models/../../secret",
        "/models/../app.js",
        "/..%2fsecret",
        "/..%5csecret",
        "/%2e%2e/secret",
        "/%2E%2E%2Fsecret",
        "/.%2e/secret",
        "//secret",
        "/./app.js",
        "/app.js/",
        "/app.js%00",
        "/%00",
        "/%zz",
        "/%ff",
        "/out",
        "/up/secret",
        "/up/page/../secret",
        "/sub%20folder",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    // The form that proxies use.
    assert_eq!(server.get("http://here/app.js").status, 200);
    assert_eq!(server.get("http://here/../secret").status, 404);
}

#[test]
fn names_that_begin_with_a_dot_are_hidden_unless_asked_for() {
    let site = site();
    let dir = site.path();
    let page = dir.join("page");
    fs::create_dir_all(page.join(".git")).unwrap();
    for (file, text) in [(".env", "KEY=1"), (".git/config", "[core]"), ("a.b", "ab")] {
        fs::write(page.join(file), text).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(".env", page.join("environment")).unwrap();

    let server = Server::start(&page);
    assert_eq!(server.get("/a.b").text(), "ab");
    for path in ["/.env", "/%2eenv", "/.git/config", "/.git/", "/environment"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let server = Server::with(ServeOptions::new(&page).dotfiles(true));
    assert_eq!(server.get("/.env").text(), "KEY=1");
    assert_eq!(server.get("/.git/config").text(), "[core]");

    // A folder that is named is served, whatever its own name is.
    let server = Server::start(&page.join(".git"));
    assert_eq!(server.get("/config").text(), "[core]");
}

#[test]
fn scripts_carry_the_policy_that_holds_workers() {
    let site = site();
    let dir = site.path();
    let policy = |reply: &Reply| reply.header("content-security-policy").map(str::to_owned);
    let server = Server::start(&dir.join("page"));
    let script = server.get("/app.js");
    let own = policy(&script).unwrap();
    assert!(own.contains("default-src 'none'"), "{own}");
    assert!(own.contains("connect-src 'self' blob: data:"), "{own}");
    let etag = format!("If-None-Match: {}", script.header("etag").unwrap());
    let unchanged = server.ask("GET", "/app.js", &[&etag]);
    assert_eq!((unchanged.status, policy(&unchanged)), (304, Some(own)));
    // A page brings its own.
    assert_eq!(policy(&server.get("/")), None);

    let further = Origin::parse("https://models.example/").unwrap();
    let server = Server::with(ServeOptions::new(dir.join("page")).connect_src(further));
    let wider = policy(&server.get("/app.js")).unwrap();
    assert!(wider.ends_with("data: https://models.example"), "{wider}");
}

#[test]
fn what_cannot_be_served_is_an_error() {
    let site = site();
    let dir = site.path();
    let bind = |options| univi_serve::Server::bind(options).err().unwrap();
    let at = |mount: &Path| Mount::new("/models", mount).unwrap();
    let missing = bind(ServeOptions::new(dir.join("nothing")));
    assert!(matches!(missing, Error::Folder { .. }), "{missing}");
    assert!(missing.to_string().contains("nothing"), "{missing}");
    let missing = bind(ServeOptions::new(dir).mount(at(&dir.join("nothing"))));
    assert!(matches!(missing, Error::Folder { .. }), "{missing}");
    let file = bind(ServeOptions::new(dir.join("secret")));
    assert!(matches!(file, Error::NotAFolder { .. }), "{file}");
    let twice = bind(ServeOptions::new(dir).mount(at(dir)).mount(at(dir)));
    assert!(matches!(twice, Error::SameMount { .. }), "{twice}");
    let first = univi_serve::Server::bind(ServeOptions::new(dir)).unwrap();
    let port = first.address().port();
    let taken = bind(ServeOptions::new(dir).port(port));
    assert!(
        matches!(&taken, Error::Listen { address, .. } if address.port() == port),
        "{taken}"
    );
    for address in ["", "models", "/", "/a/../b", "//a"] {
        assert!(Mount::new(address, dir).is_err(), "{address}");
    }
    for origin in [
        "",
        "a b",
        "models.example",
        "ftp://a",
        "http://u:p@h",
        "http://a/b",
    ] {
        assert!(Origin::parse(origin).is_err(), "{origin}");
    }
}
