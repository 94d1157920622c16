//! `evalsuite determinism`: what moves though nothing is changed, on the bundled model and on a server that is not to be relied on; and the
//! floor beside the differences of runs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use evalsuite::compare::NoiseFloors;
use evalsuite::jobs::eval::StoredRun;
use serde_json::{Value, json};

use crate::mock_server::{MockServer, chat, models, row_of, whole, write_rows};
use crate::program::{evalsuite, flowing, mistake, run, text};

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn an_engine_of_ours_moves_nothing_and_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let arguments = ["determinism", "--engine", "cpu", "--dtype", "f32,f16", "--limit", "9", "--max-tokens", "12"];
    let (code, table, said) = run(folder, &[&arguments[..], &["--out", "floor.json"]].concat());
    assert_eq!(code, Some(0), "{said}");
    for variant in ["f32", "f16"] {
        let sentence = format!(
            "{variant}: nothing moves: 9 answers are the same token for token at batch 1, 8, 9, twice, in any order; of others 29.9 % at \
             most would (95 %)"
        );
        assert!(flowing(&table).contains(&sentence), "{table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for command in ["show", "report"] {
        for format in ["terminal", "markdown", "json"] {
            let (code, shown, said) = run(folder, &[command, "floor.json", "--format", format]);
            assert_eq!(code, Some(0), "{said}");
            let is_whole = if format == "json" {
                shown.contains("\"determinism_format\": 1")
            } else {
                shown.contains("nothing moves")
            };
            assert!(is_whole, "{command} {format}: {shown}");
        }
    }
    let record = read(&folder.join("floor.json"));
    let passes = record["variants"][1]["passes"].as_array().unwrap();
    let kinds: Vec<(u64, bool)> =
        passes.iter().map(|pass| (pass["batch"].as_u64().unwrap(), pass["shuffled"].as_bool().unwrap())).collect();
    assert_eq!(kinds, [(1, true), (8, false), (8, true), (9, false), (9, true)]);
    for pass in passes {
        assert_eq!(
            (&pass["moved"], &pass["answers"], &pass["tokens_moved"]["value"]),
            (&json!([]), &json!(9), &json!(0.0))
        );
    }

    // A difference beside a floor of nothing is above it; another model's floor is refused.
    let (code, _, said) =
        run(folder, &["gsm8k", "--engine", "cpu", "--dtype", "f32,f16", "--limit", "9", "--out", "run"]);
    assert_eq!(code, Some(0), "{said}");
    for format in ["terminal", "markdown", "html"] {
        let (code, shown, said) = run(folder, &["report", "run", "--noise", "floor.json", "--format", format]);
        assert_eq!(code, Some(0), "{said}");
        assert!(flowing(&shown).contains("above the noise floor of 0.0 % [0.0, 29.9]"), "{format}: {shown}");
    }
    let floors = NoiseFloors::read(&folder.join("floor.json")).unwrap();
    let mut stored = StoredRun::read(&folder.join("run")).unwrap();
    floors.check(&stored).unwrap();
    stored.record.plan.target.model.sha256 = Some("00".repeat(32));
    let refused = floors.check(&stored).unwrap_err().to_string();
    assert!(refused.contains("the noise floor of bundled") && refused.contains("hint: "), "{refused}");
}

#[test]
fn mistakes_about_floors_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |arguments: &str| {
        let words = arguments.split_whitespace();
        mistake(&evalsuite().current_dir(scratch.path()).args(words).output().unwrap())
    };
    assert!(refused("determinism --limit 1").contains("one prompt has no batch"));
    assert!(refused("determinism --limit 0").contains("--limit 0"));
    // Once the message named `--batch`, which nobody had given.
    let told = refused("determinism --limit 70000");
    assert!(told.contains("--limit 70000 is more than 65536") && !told.contains("--batch"), "{told}");
    assert!(refused("determinism --out floor.json --resume").contains("floor.json.partial is not there"));
    assert!(refused("determinism --out there/floor.json").contains("there is no folder there"));
    assert!(refused("gsm8k --noise floor.json").contains("--noise is of no use without --baseline"));
    let made = evalsuite()
        .current_dir(scratch.path())
        .args(["gsm8k", "--dtype", "f32", "--limit", "2", "--out", "run"])
        .output();
    assert!(made.unwrap().status.success());
    assert!(refused("report run --noise floor.json").contains("floor.json: there is no such file"));
    assert!(refused("report run --noise run/record.json").contains("not a record of `evalsuite determinism`"));
}

const ROWS: usize = 9;

/// A server that answers a row of [`ROWS`], after so many answers before, wrongly or not; where `answer` says neither it refuses.
fn server(answer: impl Fn(usize, usize) -> Option<bool> + Send + Sync + 'static) -> MockServer {
    let answered = AtomicUsize::new(0);
    MockServer::start(move |asked| match asked.route.as_str() {
        "GET /v1/models" => models("m"),
        "POST /v1/chat/completions" => match answer(row_of(asked, ROWS), answered.load(Ordering::Relaxed)) {
            Some(is_wrong) => {
                answered.fetch_add(1, Ordering::Relaxed);
                chat(if is_wrong { "#### 8" } else { "#### 7" })
            }
            None => whole(401, "text/plain", "", "no longer"),
        },
        _ => whole(404, "text/plain", "", "no such route"),
    })
}

#[test]
fn what_a_dead_server_left_undone_is_gone_on_with() {
    let is_dead = Arc::new(AtomicBool::new(true));
    let dead = Arc::clone(&is_dead);
    // Row 0 is wrong always, row 4 in the third pass, row 2 in the fifth; the server dies behind the third.
    let server = server(move |row, before| {
        let pass = before / ROWS;
        (pass < 3 || !dead.load(Ordering::Relaxed))
            .then_some(row == 0 || (pass, row) == (2, 4) || (pass, row) == (4, 2))
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let folder = scratch.path();
    write_rows(folder, ROWS);
    let asking =
        ["determinism", "--endpoint", &address, "--no-stream", "--dataset", "rows.jsonl", "--out", "floor.json"];
    let (code, table, said) = run(folder, &asking);
    assert_eq!(code, Some(3), "{said}");
    assert!(table.contains("did not finish") && said.contains("401"), "{table}{said}");
    let kept = read(&folder.join("floor.json.partial"));
    assert_eq!((&kept["complete"], kept["variants"][0]["first"].as_array().unwrap().len()), (&json!(false), ROWS));
    assert_eq!(kept["variants"][0]["passes"].as_array().unwrap().len(), 2);
    assert_eq!(
        server.asked("POST /v1/chat/completions").iter().filter(|asked| asked.before < 3 * ROWS).count(),
        3 * ROWS
    );

    // One at a time the first pass goes in order, the second does not.
    let asked = server.asked("POST /v1/chat/completions");
    let rows = |pass: usize| -> Vec<usize> {
        asked[pass * ROWS..(pass + 1) * ROWS].iter().map(|asked| row_of(asked, ROWS)).collect()
    };
    assert!(rows(0).is_sorted() && !rows(1).is_sorted(), "{:?}, {:?}", rows(0), rows(1));

    // It is not begun anew over what is kept, nor gone on with by another command.
    let refused =
        |more: &[&str]| mistake(&evalsuite().current_dir(folder).args([&asking[..], more].concat()).output().unwrap());
    assert!(refused(&[]).contains("floor.json.partial holds the passes of a run that did not finish"));
    let told = refused(&["--resume", "--max-tokens", "9"]);
    assert!(told.contains("cannot be resumed by this command") && told.contains("max_tokens"), "{told}");

    is_dead.store(false, Ordering::Relaxed);
    let before = server.asked("POST /v1/chat/completions").len();
    let (code, table, said) = run(folder, &[&asking[..], &["--resume"]].concat());
    assert_eq!(code, Some(1), "{table}{said}");
    assert_eq!(
        server.asked("POST /v1/chat/completions").len() - before,
        3 * ROWS,
        "the passes that were missing alone"
    );
    assert!(!folder.join("floor.json.partial").exists());
    let record = read(&folder.join("floor.json"));
    assert_eq!((&record["complete"], &record["variants"][0]["right"]), (&json!(true), &json!(ROWS - 1)));
    assert!(record["variants"][0]["first"].is_null(), "nothing will be held against it any more");
    assert!(flowing(&table).contains("moved in any pass, by row: endpoint: 2, 4"), "{table}");
    let moved: Vec<usize> = record["variants"][0]["passes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pass| pass["moved"].as_array().unwrap().len())
        .collect();
    assert_eq!(moved, [0, 1, 0, 1, 0]);
    assert!(record["notes"].to_string().contains("more than one process"));
}

#[test]
fn what_was_done_before_ctrl_c_is_kept_and_gone_on_with() {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let at_once = Arc::clone(&most);
    let server = server(move |row, before| {
        at_once.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(25));
        now.fetch_sub(1, Ordering::Relaxed);
        Some(before >= ROWS && row == 6)
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let folder = scratch.path();
    write_rows(folder, ROWS);
    let asking =
        ["determinism", "--endpoint", &address, "--no-stream", "--dataset", "rows.jsonl", "--out", "floor.json"];
    let child =
        evalsuite().current_dir(folder).args(asking).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let partial = folder.join("floor.json.partial");
    let passes = || std::fs::read(&partial).ok().map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap());
    let has_two = |record: Value| !record["variants"][0]["passes"].as_array().unwrap().is_empty();
    while !passes().is_some_and(has_two) {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("kept in floor.json.partial") && said.contains("--resume"), "{said}");
    assert!(flowing(&shown).contains("interrupted after 2 of 6 passes; so far the noise floor: 11.1 %"), "{shown}");
    assert!(!folder.join("floor.json").exists());
    // What it says of itself is said again, and it is no floor to judge by.
    let (code, shown, _) = run(folder, &["show", "floor.json.partial"]);
    assert!(code == Some(0) && shown.contains("interrupted after 2 of 6 passes"), "{shown}");
    let (code, _, said) = run(
        folder,
        &[
            "gsm8k",
            "--endpoint",
            &address,
            "--no-stream",
            "--dataset",
            "rows.jsonl",
            "--reference",
            "endpoint",
            "--placebo",
            "--out",
            "run",
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    let (_, shown, _) = run(folder, &["report", "run", "--noise", "floor.json.partial"]);
    assert!(flowing(&shown).contains("floor.json.partial holds no floor of it"), "{shown}");
    let (code, table, said) = run(folder, &[&asking[..], &["--resume"]].concat());
    assert_eq!(code, Some(1), "{table}{said}");
    let record = read(&folder.join("floor.json"));
    let moved = |pass: &Value| {
        pass["moved"].as_array().unwrap().iter().map(|one| one["sample"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let all: Vec<Vec<u64>> = record["variants"][0]["passes"].as_array().unwrap().iter().map(moved).collect();
    assert_eq!(all, vec![vec![6]; 5]);
    let most = most.load(Ordering::Relaxed);
    assert!((3..=ROWS).contains(&most), "{most} requests at once, of up to 9");
}

#[test]
fn a_server_that_moves_has_a_floor_and_gates_name_what_lies_below_it() {
    // Right the first time that it is asked all rows; from then on wrong on rows 3 and 5, or on as many rows as `wrong` says.
    let wrong_rows = Arc::new(AtomicUsize::new(0));
    let rows = Arc::clone(&wrong_rows);
    let server = server(move |row, before| {
        Some(match rows.load(Ordering::Relaxed) {
            0 => before >= ROWS && [3, 5].contains(&row),
            wrong => row < wrong,
        })
    });
    let scratch = tempfile::tempdir().unwrap();
    let (address, folder) = (server.address(), scratch.path());
    write_rows(folder, ROWS);
    let asking = ["--endpoint", &address, "--no-stream", "--dataset", "rows.jsonl"];
    let (code, table, said) = run(folder, &[&["determinism", "--out", "floor.json"], &asking[..]].concat());
    assert_eq!(code, Some(1), "something moved: {table}{said}");
    let sentence = "endpoint: the noise floor: 22.2 % [6.3, 54.7] of 9 answers move with the batch (1, 8, 9) and the order, 22.2 % [6.3, \
                    54.7] become right or wrong, and accuracy moves by up to 22.2 points";
    assert!(flowing(&table).contains(sentence), "{table}");
    assert!(flowing(&table).contains("moved in any pass, by row: endpoint: 3, 5"), "{table}");
    let record = read(&folder.join("floor.json"));
    for pass in record["variants"][0]["passes"].as_array().unwrap() {
        let moved: Vec<&Value> = pass["moved"].as_array().unwrap().iter().map(|one| &one["sample"]).collect();
        assert_eq!((moved, &pass["lost"], &pass["gained"]), (vec![&json!(3), &json!(5)], &json!(2), &json!(0)));
        assert!(pass["tokens_moved"].is_null(), "the server tells none");
    }

    // One flip of nine is below the floor, six are above it; a gate names the first and decides neither by it.
    let wrong = |rows: usize| {
        wrong_rows.store(rows, Ordering::Relaxed);
        let name = format!("wrong-{rows}");
        let (code, _, said) = run(folder, &[&["gsm8k", "--out", &name], &asking[..]].concat());
        assert_eq!(code, Some(0), "{said}");
        name
    };
    let (one, seven) = (wrong(1), wrong(7));
    let gate = |run_of: &str, more: &[&str]| {
        let arguments = ["report", run_of, "--baseline", &one, "--noise", "floor.json"];
        let (code, shown, said) = run(folder, &[&arguments[..], more].concat());
        (code, flowing(&shown) + &said)
    };
    let (code, said) = gate(&seven, &[]);
    assert!(code == Some(1) && !said.contains("cannot be told from noise"), "{said}");
    let two = wrong(2);
    let (code, said) = gate(&two, &[]);
    assert_eq!(code, Some(1), "{said}");
    let named =
        "1 of 9 answers flip (11.1 %), which cannot be told from noise: 22.2 % [6.3, 54.7] flip with nothing changed";
    assert!(said.contains(named), "{said}");
    // Three of nine are more than the floor's own share, and within its interval.
    let (_, said) = gate(&wrong(4), &[]);
    assert!(said.contains("3 of 9 answers flip (33.3 %), which cannot be told from noise"), "{said}");
    let (code, said) = gate(&two, &["--margin", "60"]);
    assert!(code == Some(0) && said.contains(named), "{said}");
}

/// Files may grow to so many blocks of 512 bytes.
fn with_room(folder: &Path, blocks: usize, arguments: &[&str]) -> (Option<i32>, String) {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_evalsuite")]).args(arguments);
    let output = shell.current_dir(folder).output().expect("sh starts");
    (output.status.code(), text(&output.stderr))
}

/// What stays where a file can grow no more, as on a full disk, is what was written before, whole; the rest is made once there is room.
#[test]
fn where_nothing_more_can_be_written_the_passes_before_are_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let asking = ["determinism", "--engine", "cpu", "--dtype", "f16", "--limit", "9", "--quiet", "--out", "floor.json"];
    let partial = folder.join("floor.json.partial");
    let files = || std::fs::read_dir(folder).unwrap().count();
    let mut refused = 0;
    // How long the record is hangs on the machine's name too: the first room that holds a first pass does not hold all of them.
    let blocks = (16..200).step_by(2).find(|blocks| {
        let (code, said) = with_room(folder, *blocks, &asking);
        assert_eq!(code, Some(2), "{blocks} blocks: {said}");
        assert!(said.contains("cannot write floor.json.partial: File too large"), "{said}");
        assert!(
            said.contains("raise `ulimit -f`") && said.contains("what is done is kept, and `--resume` goes on"),
            "{said}"
        );
        refused += usize::from(!partial.exists());
        assert_eq!(files(), usize::from(partial.exists()), "nothing half-written is left");
        partial.exists()
    });
    assert!(blocks.is_some() && refused > 0, "{blocks:?}, {refused}");
    let kept = read(&partial);
    let passes = kept["variants"][0]["passes"].as_array().unwrap().len();
    assert_eq!((kept["variants"][0]["first"].as_array().unwrap().len(), &kept["complete"]), (9, &json!(false)));
    assert!(passes < 5, "{passes}");

    // As full as before it is refused again, and nothing is lost.
    let resume = [&asking[..], &["--resume"]].concat();
    let (code, said) = with_room(folder, blocks.unwrap(), &resume);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(read(&partial)["variants"][0]["first"], kept["variants"][0]["first"]);
    let (code, _, said) = run(folder, &resume);
    assert_eq!(code, Some(0), "{said}");
    assert!(!partial.exists());
    let record = read(&folder.join("floor.json"));
    assert_eq!((&record["complete"], record["variants"][0]["passes"].as_array().unwrap().len()), (&json!(true), 5));
    assert_eq!(
        record["variants"][0]["passes"].as_array().unwrap()[..passes],
        kept["variants"][0]["passes"].as_array().unwrap()[..]
    );
}
