//! The real hub client against a stand-in for the hub.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use evalsuite::files::sha256;
use evalsuite::hub::{Hub, HubSettings, RepositoryKind, cached_sha256};

use crate::hub_server::{Faults, HubServer, Repository};
use crate::program::evalsuite;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const LATER: &str = "89abcdef0123456789abcdef0123456789abcdef";
const SMALL: &[u8] = b"{\"model_type\": \"llama\"}";

fn large() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect()
}

fn repository(path: &str) -> Repository {
    let files = vec![
        ("config.json".to_owned(), SMALL.to_vec(), false),
        ("model.safetensors".to_owned(), large(), true),
        ("main/test-00000-of-00001.parquet".to_owned(), b"PAR1".to_vec(), true),
    ];
    Repository {
        path: path.to_owned(),
        revisions: vec![("main".to_owned(), COMMIT.to_owned())],
        files,
        gate: None,
        old_path: None,
    }
}

fn server() -> (HubServer, tempfile::TempDir) {
    (HubServer::start(vec![repository("owner/tiny")]), tempfile::tempdir().unwrap())
}

/// A mirror with a certificate of an authority that only the user knows.
#[test]
fn a_hub_by_tls_is_trusted_where_the_system_or_ssl_cert_file_names_its_authority() {
    let files = crate::files_of(&crate::checkout().join("models/bundled"));
    let files = files.into_iter().map(|(name, bytes)| {
        let large = name.ends_with("safetensors");
        (name, bytes, large)
    });
    let bundled = Repository { files: files.collect(), gate: Some("secret".to_owned()), ..repository("owner/tiny") };
    let server = HubServer::start_tls(vec![bundled]);
    let shown = |authority: Option<&Path>, endpoint: &str| {
        let cache = tempfile::tempdir().unwrap();
        let mut command = evalsuite();
        command.args(["gsm8k", "--model", "owner/tiny", "--engine", "cpu", "--show-prompt", "0"]);
        command.env("HF_ENDPOINT", endpoint).env("HF_HOME", cache.path()).env("HF_TOKEN", "secret");
        command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
        if let Some(authority) = authority {
            command.env("SSL_CERT_FILE", authority);
        }
        command.output().unwrap()
    };
    let authority = crate::data("tls/ca.pem");
    let output = shown(Some(authority.as_path()), &server.endpoint);
    assert!(output.status.success(), "{}", crate::program::text(&output.stderr));
    let asked = server.asked();
    assert!(asked.iter().any(|asked| asked.path.starts_with("/store/")), "large files come from the store");
    assert!(asked.iter().all(|asked| asked.header("authorization") == Some("Bearer secret")));
    server.forget();
    // Neither without it, nor under a name that the certificate does not have.
    for (authority, endpoint) in [
        (None, server.endpoint.clone()),
        (Some(crate::data("tls/server.key")), server.endpoint.clone()),
        (Some(authority), server.endpoint.replace("127.0.0.1", "localhost")),
    ] {
        let begun = Instant::now();
        let message = crate::program::mistake(&shown(authority.as_deref(), &endpoint));
        assert!(message.contains("certificate") && message.contains("SSL_CERT_FILE"), "{endpoint}: {message}");
        assert!(begun.elapsed() < Duration::from_secs(20), "it is not asked again");
    }
    assert!(server.asked().is_empty(), "nothing was asked, and no token told");
}

fn offline(settings: HubSettings) -> Hub {
    Hub::new(HubSettings { offline: true, ..settings })
}

fn model(hub: &Hub, revision: &str, file: &str) -> Result<std::path::PathBuf, String> {
    hub.file(RepositoryKind::Model, "owner/tiny", revision, file).map(|file| file.path).map_err(|e| e.to_string())
}

#[test]
fn what_is_fetched_lies_where_python_looks_for_it() {
    let (server, cache) = server();
    let hub = server.client(cache.path());
    let config = hub.file(RepositoryKind::Model, "owner/tiny", "main", "config.json").unwrap();
    assert_eq!(config.commit, COMMIT);
    let weights = model(&hub, "main", "model.safetensors").unwrap();
    let folder = cache.path().join("models--owner--tiny");
    let snapshot = folder.join("snapshots").join(COMMIT);
    assert_eq!(config.path, snapshot.join("config.json"));
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let digest = sha256(&large());
    let expected = [("config.json", &sha256(SMALL)[..40]), ("model.safetensors", &digest)];
    for (name, etag) in expected {
        let target = std::fs::read_link(snapshot.join(name)).unwrap();
        assert_eq!(target, Path::new("../../blobs").join(etag));
    }
    assert_eq!(std::fs::read(&config.path).unwrap(), SMALL);
    assert_eq!(std::fs::read(&weights).unwrap(), large());
    assert_eq!(cached_sha256(&weights), Some(digest), "a large file's blob is named after its hash");
    assert_eq!(cached_sha256(&config.path), None);
}

#[test]
fn one_question_a_revision_and_none_for_what_is_cached() {
    let (server, cache) = server();
    let hub = server.client(cache.path());
    model(&hub, "main", "config.json").unwrap();
    server.forget();
    model(&hub, "main", "config.json").unwrap();
    assert_eq!(hub.list(RepositoryKind::Model, "owner/tiny", "main").unwrap().len(), 3);
    assert!(server.asked().is_empty(), "the same client asked again: {:?}", server.asked());
    model(&server.client(cache.path()), "main", "config.json").unwrap();
    let paths: Vec<String> = server.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/api/models/owner/tiny/revision/main"], "a later run asks only whether the branch moved");
}

#[test]
fn offline_gives_what_is_cached_and_says_what_is_not() {
    let (server, cache) = server();
    model(&server.client(cache.path()), "main", "config.json").unwrap();
    server.forget();
    let hub = offline(server.settings(cache.path()));
    assert_eq!(std::fs::read(model(&hub, "main", "config.json").unwrap()).unwrap(), SMALL);
    assert_eq!(hub.list(RepositoryKind::Model, "owner/tiny", "main").unwrap(), ["config.json"]);
    for (revision, file) in [("main", "model.safetensors"), ("v2", "config.json"), (LATER, "config.json")] {
        let error = model(&hub, revision, file).unwrap_err();
        assert!(error.contains("not in the cache") && error.contains("--offline"), "{error}");
    }
    assert!(server.asked().is_empty(), "offline, yet it asked {:?}", server.asked());
}

#[test]
fn a_commit_that_python_cached_without_a_ref_is_found() {
    let (server, cache) = server();
    let folder = cache.path().join("models--owner--tiny");
    let snapshot = folder.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(folder.join("blobs")).unwrap();
    std::fs::write(folder.join("blobs/abc"), SMALL).unwrap();
    std::os::unix::fs::symlink("../../blobs/abc", snapshot.join("config.json")).unwrap();
    for hub in [offline(server.settings(cache.path())), server.client(cache.path())] {
        assert_eq!(model(&hub, COMMIT, "config.json").unwrap(), snapshot.join("config.json"));
    }
    assert!(server.asked().is_empty(), "a cached commit needs no network: {:?}", server.asked());
}

#[test]
fn a_broken_download_goes_on_where_it_broke_off() {
    let (server, cache) = server();
    server.fail(Faults { break_after: Some(123_456), ..Faults::default() });
    let path = model(&server.client(cache.path()), "main", "model.safetensors").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), large());
    let asked = server.asked();
    let ranges: Vec<&str> = asked
        .iter()
        .filter(|asked| asked.path.starts_with("/store/"))
        .filter_map(|asked| asked.header("range"))
        .filter(|range| *range != "bytes=0-0")
        .collect();
    assert_eq!(ranges, ["bytes=0-", "bytes=123456-"]);
}

#[test]
fn a_part_left_by_an_earlier_run_is_resumed_and_a_wrong_one_replaced() {
    let (server, cache) = server();
    let blobs = cache.path().join("models--owner--tiny/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.part", sha256(&large())));
    std::fs::write(&part, &large()[..1000]).unwrap();
    let path = model(&server.client(cache.path()), "main", "model.safetensors").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), large());
    assert!(server.asked().iter().any(|asked| asked.header("range") == Some("bytes=1000-")));
    // Longer than the file, and of another content: found by length or by hash, and fetched anew.
    for wrong in [vec![0; 400_000], vec![0; 1000]] {
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(blobs.join(sha256(&large()))).unwrap();
        std::fs::write(&part, wrong).unwrap();
        assert_eq!(
            std::fs::read(model(&server.client(cache.path()), "main", "model.safetensors").unwrap()).unwrap(),
            large()
        );
    }
}

#[test]
fn content_of_another_hash_is_refused_and_not_kept() {
    let (server, cache) = server();
    server.fail(Faults { corrupt: true, ..Faults::default() });
    let error = model(&server.client(cache.path()), "main", "model.safetensors").unwrap_err();
    assert!(error.contains("hash") && error.contains("hint:"), "{error}");
    assert_eq!(
        std::fs::read_dir(cache.path().join("models--owner--tiny/blobs"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_none())
            .count(),
        0
    );
    server.fail(Faults::default());
    assert_eq!(
        std::fs::read(model(&server.client(cache.path()), "main", "model.safetensors").unwrap()).unwrap(),
        large()
    );
}

#[test]
fn a_moved_branch_gives_its_new_files_and_fetches_only_what_changed() {
    let (server, cache) = server();
    let before = server.client(cache.path());
    model(&before, "main", "config.json").unwrap();
    let old = model(&before, "main", "model.safetensors").unwrap();
    server.change(|repositories| {
        repositories[0].revisions = vec![("main".to_owned(), LATER.to_owned()), ("old".to_owned(), COMMIT.to_owned())];
        repositories[0].files[0].1 = b"{}".to_vec();
    });
    // A run that has begun stays with its commit.
    assert!(model(&before, "main", "config.json").unwrap().to_string_lossy().contains(COMMIT));
    server.forget();
    let after = server.client(cache.path());
    let config = model(&after, "main", "config.json").unwrap();
    assert_eq!(std::fs::read(&config).unwrap(), b"{}");
    let new = model(&after, "main", "model.safetensors").unwrap();
    assert!(new.to_string_lossy().contains(LATER) && new != old);
    assert_eq!(std::fs::canonicalize(&new).unwrap(), std::fs::canonicalize(&old).unwrap());
    let contents = server.asked().into_iter().filter(|asked| asked.path.starts_with("/store/"));
    assert!(contents.into_iter().all(|asked| asked.header("range") == Some("bytes=0-0")), "weights fetched twice");
}

#[test]
fn a_dangling_link_is_mended() {
    let (server, cache) = server();
    let path = model(&server.client(cache.path()), "main", "config.json").unwrap();
    std::fs::remove_file(std::fs::canonicalize(&path).unwrap()).unwrap();
    assert_eq!(std::fs::read(model(&server.client(cache.path()), "main", "config.json").unwrap()).unwrap(), SMALL);
}

#[test]
fn datasets_have_their_own_addresses_and_folders() {
    let server = HubServer::start(vec![repository("datasets/owner/sums")]);
    let cache = tempfile::tempdir().unwrap();
    let hub = server.client(cache.path());
    let file = "main/test-00000-of-00001.parquet";
    let found = hub.file(RepositoryKind::Dataset, "owner/sums", "main", file).unwrap();
    assert_eq!(found.path, cache.path().join("datasets--owner--sums/snapshots").join(COMMIT).join(file));
    assert_eq!(std::fs::read(found.path).unwrap(), b"PAR1");
    let link = std::fs::read_link(cache.path().join("datasets--owner--sums/snapshots").join(COMMIT).join(file));
    assert!(link.unwrap().starts_with("../../../blobs"));
    let paths: Vec<String> = server.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths[0], "/api/datasets/owner/sums/revision/main");
    assert_eq!(paths[1], format!("/datasets/owner/sums/resolve/{COMMIT}/{file}"));
    let offline = offline(server.settings(cache.path()));
    assert_eq!(offline.list(RepositoryKind::Dataset, "owner/sums", "main").unwrap(), [file]);
}

#[test]
fn the_token_is_sent_and_its_lack_explained() {
    let (server, cache) = server();
    server.change(|repositories| repositories[0].gate = Some("hf_right".to_owned()));
    let error = model(&server.client(cache.path()), "main", "config.json").unwrap_err();
    assert!(error.contains("without a token") && error.contains("HF_TOKEN"), "{error}");
    let with = |token: &str| Hub::new(HubSettings { token: Some(token.to_owned()), ..server.settings(cache.path()) });
    let error = model(&with("hf_wrong"), "main", "config.json").unwrap_err();
    assert!(error.contains("gated") && !error.contains("hf_wrong"), "{error}");
    server.forget();
    model(&with("hf_right"), "main", "config.json").unwrap();
    assert!(server.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer hf_right")));
}

#[test]
fn a_gated_repository_says_where_its_terms_are() {
    let (server, cache) = server();
    server.change(|repositories| repositories[0].gate = Some("hf_right".to_owned()));
    server.fail(Faults { code: Some("GatedRepo"), ..Faults::default() });
    let error = model(&server.client(cache.path()), "main", "config.json").unwrap_err();
    let terms = format!("accept its terms on {}/owner/tiny", server.endpoint);
    assert!(error.contains("owner/tiny is gated") && error.contains(&terms) && error.contains("HF_TOKEN"), "{error}");
}

#[test]
fn a_repository_that_has_moved_is_followed_and_its_new_name_said() {
    let (server, cache) = server();
    server.change(|repositories| repositories[0].old_path = Some("former/name".to_owned()));
    let hub = server.client(cache.path());
    let path = hub.file(RepositoryKind::Model, "former/name", "main", "model.safetensors").unwrap().path;
    assert_eq!(std::fs::read(&path).unwrap(), large());
    assert!(path.starts_with(cache.path().join("models--former--name")));
    let output = evalsuite()
        .args(["gsm8k", "--model", "former/name", "--show-prompt", "0"])
        .envs([("HF_ENDPOINT", server.endpoint.as_ref()), ("HF_HOME", cache.path().as_os_str())])
        .envs([("HF_HUB_CACHE", ""), ("HF_HUB_OFFLINE", "")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("former/name has moved:") && said.contains("calls it owner/tiny now"), "{said}");
}

#[test]
fn a_hub_that_falls_silent_is_not_waited_for_without_end() {
    let (server, cache) = server();
    let hub = server.client(cache.path()).patience(Duration::from_millis(300));
    hub.commit(RepositoryKind::Model, "owner/tiny", "main").unwrap();
    // Some of the content comes each time: it goes on from there, and ends when nothing more does.
    server.fail(Faults { hang_after: Some(100_000), ..Faults::default() });
    let begun = Instant::now();
    assert_eq!(std::fs::read(model(&hub, "main", "model.safetensors").unwrap()).unwrap(), large());
    server.fail(Faults { hang_after: Some(0), ..Faults::default() });
    let error = model(&hub, "main", "config.json").unwrap_err();
    assert!(error.contains("cannot fetch config.json") && error.contains("timeout"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // A port that takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let hub = Hub::new(HubSettings { endpoint, ..server.settings(&cache.path().join("other")) });
    let error = model(&hub.patience(Duration::from_millis(200)), "main", "config.json").unwrap_err();
    assert!(error.contains("cannot fetch") && error.contains("timeout"), "{error}");
}

#[test]
fn ctrl_c_ends_a_wait_for_a_silent_hub() {
    let (server, cache) = server();
    server.fail(Faults { hang_after: Some(0), ..Faults::default() });
    let child = evalsuite()
        .args(["gsm8k", "--model", "owner/tiny"])
        .envs([("HF_ENDPOINT", server.endpoint.as_ref()), ("HF_HOME", cache.path().as_os_str())])
        .envs([("HF_HUB_CACHE", ""), ("HF_HUB_OFFLINE", ""), ("HF_HUB_DOWNLOAD_TIMEOUT", "1")])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (output, rest) = crate::signal_when(child, "trying again (1 of 3)", "-INT");
    assert_eq!(output.status.code(), Some(130), "{rest}");
    assert!(!rest.contains("trying again (3 of 3)"), "{rest}");
}

#[test]
fn what_is_missing_is_named() {
    let (server, cache) = server();
    let hub = Hub::new(HubSettings { token: Some("hf".to_owned()), ..server.settings(cache.path()) });
    let file = model(&hub, "main", "confg.json").unwrap_err();
    assert!(file.contains("no file confg.json") && file.contains("did you mean `config.json`"), "{file}");
    let revision = model(&hub, "v7", "config.json").unwrap_err();
    assert!(revision.contains("revision v7") && revision.contains("the repository is there"), "{revision}");
    let unknown = hub.file(RepositoryKind::Model, "owner/tinny", "main", "config.json").unwrap_err().to_string();
    assert!(unknown.contains("no owner/tinny") && unknown.contains("letter by letter"), "{unknown}");
    let outside = model(&hub, "main", "../../secret").unwrap_err();
    assert!(outside.contains("not a file name inside a repository"), "{outside}");
}

#[test]
fn a_server_that_stumbles_is_asked_again() {
    let (server, cache) = server();
    server.fail(Faults { status: Some((503, 2)), ..Faults::default() });
    assert_eq!(std::fs::read(model(&server.client(cache.path()), "main", "config.json").unwrap()).unwrap(), SMALL);
}

#[test]
fn ctrl_c_while_the_hub_is_asked_again_ends_with_130() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/gsm8k/bundled/f32.json");
    for arguments in [
        &["gsm8k"][..],
        &["quality"],
        &["perplexity"],
        &["bench"],
        &["quantize", "--out", "new"],
        &["golden", "check"],
        &["golden", "accept", "--rerun"],
    ] {
        let (server, cache) = server();
        std::fs::create_dir_all(cache.path().join("golden/gsm8k/owner--tiny")).unwrap();
        std::fs::copy(&golden, cache.path().join("golden/gsm8k/owner--tiny/f32.json")).unwrap();
        server.fail(Faults { status: Some((503, 100)), ..Faults::default() });
        let child = evalsuite()
            .args(arguments)
            .args(["--model", "owner/tiny"])
            .envs([("HF_ENDPOINT", server.endpoint.as_ref()), ("HF_HOME", cache.path().as_os_str())])
            .envs([("HF_HUB_CACHE", ""), ("HF_HUB_OFFLINE", "")])
            .current_dir(cache.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (output, rest) = crate::signal_when(child, "trying again (1 of 3)", "-INT");
        assert_eq!(output.status.code(), Some(130), "{arguments:?}: {rest}");
        assert!(rest.contains("interrupted before owner/tiny") || arguments[..2] == ["golden", "check"], "{rest}");
        assert!(!rest.contains("trying again (3 of 3)"), "{arguments:?} asked on: {rest}");
    }
}

#[test]
fn no_network_names_the_endpoint_and_falls_back_on_the_cache() {
    let (server, cache) = server();
    model(&server.client(cache.path()), "main", "config.json").unwrap();
    // Nobody listens there; a port that was free a moment ago may be another test's by now.
    let endpoint = "http://127.0.0.1:9";
    let away = || Hub::new(HubSettings { endpoint: endpoint.to_owned(), ..server.settings(cache.path()) });
    assert_eq!(std::fs::read(model(&away(), "main", "config.json").unwrap()).unwrap(), SMALL);
    for error in [
        model(&away(), "main", "model.safetensors").unwrap_err(),
        away().list(RepositoryKind::Model, "owner/other", "main").unwrap_err().to_string(),
    ] {
        assert!(error.contains(endpoint) && error.contains("--offline") && error.contains("local folder"), "{error}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_said() {
    let (server, cache) = server();
    let file = cache.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = model(&server.client(&file.join("below")), "main", "config.json").unwrap_err();
    assert!(error.contains("cannot write") && error.contains("HF_HOME"), "{error}");
}

#[test]
fn an_endpoint_that_is_no_hub_is_said() {
    let (server, cache) = server();
    let settings = HubSettings { endpoint: format!("{}/elsewhere", server.endpoint), ..server.settings(cache.path()) };
    let hub = Hub::new(HubSettings { token: Some("hf".to_owned()), ..settings });
    assert!(model(&hub, "main", "config.json").unwrap_err().contains("hint:"));
    let nonsense = Hub::new(HubSettings { endpoint: "not an address".to_owned(), ..server.settings(cache.path()) });
    let error = model(&nonsense, "main", "config.json").unwrap_err();
    assert!(error.contains("HF_ENDPOINT"), "{error}");
}
