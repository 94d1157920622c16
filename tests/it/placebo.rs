//! `--placebo`: columns that should not matter, and what variants change beyond them.

use std::collections::HashMap;

use evalsuite::jobs::eval::{PlaceboRecord, StoredRun};
use evalsuite::record::StoredCompletion;
use serde_json::Value;

use crate::mock_server::{Asked, MockServer, Step, chat, models, row_of, whole, write_rows};
use crate::program::{evalsuite, flowing, refused, says, text};

fn column<'a>(run: &'a StoredRun, name: &str) -> &'a [StoredCompletion] {
    &run.completions.iter().find(|(variant, _)| variant.as_str() == name).unwrap().1
}

fn names(run: &StoredRun) -> Vec<&str> {
    run.completions.iter().map(|(variant, _)| variant.as_str()).collect()
}

#[test]
fn what_awq_changes_beyond_bf16_is_what_the_answers_say() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    let (table, said) = says(folder, 0, "gsm8k --engine cpu --dtype f32,awq --placebo --limit 60 --out run");
    assert!(said.contains("bf16 is a placebo: another arithmetic of 16 bits"), "{said}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let stored = StoredRun::read(&folder.join("run")).unwrap();
    assert_eq!(names(&stored), ["f32", "awq", "bf16"]);
    let rule = stored.record.headline();
    let of_f32: HashMap<usize, &StoredCompletion> =
        column(&stored, "f32").iter().map(|one| (one.sample, one)).collect();
    let flips = |name: &str| {
        let flips = column(&stored, name).iter().filter(|one| one.is_right(rule) != of_f32[&one.sample].is_right(rule));
        flips.count() as f64 / 60.0
    };
    let tokens =
        |name: &str| column(&stored, name).iter().map(|one| one.output_tokens().unwrap()).sum::<usize>() as f64;
    let record = stored.record.placebos.iter().find(|one| one.rule == rule).unwrap();
    assert_eq!((record.variant.as_str(), record.placebo.as_str(), record.n), ("awq", "bf16", 60));
    assert!(flips("awq") > 0.0, "the bundled model is made to show damage");
    assert_eq!((record.flips.variant, record.flips.placebo), (flips("awq"), flips("bf16")));
    let lengths = record.lengths.unwrap();
    assert!((lengths.excess - (tokens("awq") - tokens("bf16")) / tokens("f32")).abs() < 1e-12);
    assert!(record.flips.low <= record.flips.excess && record.flips.excess <= record.flips.high);
    assert!(record.tokens.unwrap().variant > record.tokens.unwrap().placebo);
    // A record a rule, and what was written is what the journals give.
    assert_eq!(stored.record.placebos.len(), stored.record.dtypes[0].rules.len());
    let written: Value = serde_json::from_slice(&std::fs::read(folder.join("run/record.json")).unwrap()).unwrap();
    assert_eq!(written["placebos"], serde_json::to_value(&stored.record.placebos).unwrap());

    let sentence = format!("the placebo bf16 ({:.1} % of its answers flip", flips("awq") * 100.0);
    assert!(flowing(&table).contains(&sentence), "{table}");
    for command in ["show", "report"] {
        for format in ["terminal", "markdown"] {
            let (shown, _) = says(folder, 0, &format!("{command} run --format {format}"));
            assert!(
                shown.contains("Beyond placebos") && flowing(&shown).contains(&sentence),
                "{command} {format}: {shown}"
            );
        }
    }
    let (page, _) = says(folder, 0, "report run --format html");
    assert!(page.contains("id=\"placebo\"") && page.contains("answers that flip") && page.contains(&sentence));
    let (shown, _) = says(folder, 0, "report run --format json");
    let report: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(report["placebos"][0]["numbers"], serde_json::to_value(record.flips).unwrap());

    // A run without a placebo says nothing of one, and is none to go on with by.
    says(folder, 0, "gsm8k --engine cpu --dtype f32,awq --limit 5 --out plain");
    for format in ["terminal", "markdown", "html"] {
        assert!(!says(folder, 0, &format!("report plain --format {format}")).0.contains("Beyond placebos"));
    }
    let told = refused(folder, "gsm8k --engine cpu --dtype f32,awq,bf16 --limit 60 --out run --resume");
    assert!(told.contains("placebos"), "{told}");
}

#[test]
fn another_seed_is_a_placebo_of_what_is_drawn() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    let drawn = "gsm8k --engine cpu --temperature 0.8 --limit 8 --max-tokens 24";
    says(folder, 0, &format!("{drawn} --dtype f32,f16 --repeats 2 --seed 3 --placebo --out run"));
    says(folder, 0, &format!("{drawn} --dtype f32 --repeats 2 --seed 4 --out other"));
    let (stored, other) =
        (StoredRun::read(&folder.join("run")).unwrap(), StoredRun::read(&folder.join("other")).unwrap());
    assert_eq!(names(&stored), ["f32", "f16", "bf16", "f32-seed4"]);
    let answers =
        |all: &[StoredCompletion]| all.iter().map(|one| (one.sample, one.repeat, one.text.clone())).collect::<Vec<_>>();
    assert_eq!(answers(column(&stored, "f32-seed4")), answers(column(&other, "f32")));
    assert_ne!(answers(column(&stored, "f32-seed4")), answers(column(&stored, "f32")));
    let rule = stored.record.headline();
    let pairs: Vec<(&str, &str)> = stored
        .record
        .placebos
        .iter()
        .filter(|one| one.rule == rule)
        .map(|one| (one.variant.as_str(), one.placebo.as_str()))
        .collect();
    assert_eq!(pairs, [("f16", "bf16"), ("f16", "f32-seed4")]);
    assert!(stored.record.placebos.iter().all(|one| one.n == 16));
    // Resumed by its own command there is nothing left to do, and the same comes out.
    says(folder, 0, "resume run");
    assert_eq!(StoredRun::read(&folder.join("run")).unwrap().record, stored.record);
}

const ROWS: usize = 16;

fn answer(asked: &Asked) -> Vec<Step> {
    match asked.route.as_str() {
        "GET /v1/models" => models("m"),
        "POST /v1/chat/completions" => chat("#### 7"),
        _ => whole(404, "text/plain", "", "no such route"),
    }
}

#[test]
fn an_endpoint_s_placebo_is_another_batch_in_another_order() {
    let (server, world) = (MockServer::start(answer), tempfile::tempdir().unwrap());
    let folder = world.path();
    write_rows(folder, ROWS);
    let asking = format!("gsm8k --endpoint {} --no-stream --dataset rows.jsonl --batch 2", server.address());
    says(folder, 0, &format!("{asking} --reference endpoint --placebo --out run"));
    let stored = StoredRun::read(&folder.join("run")).unwrap();
    assert_eq!(names(&stored), ["endpoint", "endpoint-batch1"]);
    assert!(stored.completions.iter().all(|(_, all)| all.len() == ROWS));
    let order: Vec<usize> = server.asked("POST /v1/chat/completions").iter().map(|asked| row_of(asked, ROWS)).collect();
    let (own, placebo) = order.split_at(ROWS);
    // Of two at a time each can overtake one other, so that as many pairs at most change places.
    let turned = |order: &[usize]| -> usize {
        order.iter().enumerate().map(|(place, row)| order[place..].iter().filter(|later| *later < row).count()).sum()
    };
    assert!(turned(own) <= ROWS, "{own:?}");
    assert!(turned(placebo) > ROWS, "{placebo:?}");
}

/// Once, where no `--batch` was given, the placebo had the very number of places that the run had.
#[test]
fn an_endpoint_s_placebo_has_half_of_its_places() {
    let (server, world) = (MockServer::start(answer), tempfile::tempdir().unwrap());
    write_rows(world.path(), 1);
    let asking = format!("gsm8k --endpoint {} --no-stream --dataset rows.jsonl", server.address());
    says(world.path(), 0, &format!("{asking} --reference endpoint --placebo --out run"));
    let stored = StoredRun::read(&world.path().join("run")).unwrap();
    assert_eq!(names(&stored), ["endpoint", "endpoint-batch16"]);
}

/// A run without f32 was refused, though on a GPU f16 and AWQ beside it are what people run.
#[test]
fn without_f32_the_most_exact_precision_is_the_reference() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    let (table, said) = says(folder, 0, "gsm8k --engine cpu --dtype awq,f16 --placebo --limit 12 --out run");
    assert!(said.contains("changes are told against f16, the run's reference"), "{said}");
    assert!(
        said.contains("bf16 is a placebo: another arithmetic of 16 bits") && table.contains("Δ f16"),
        "{said}{table}"
    );
    let stored = StoredRun::read(&folder.join("run")).unwrap();
    assert_eq!(names(&stored), ["f16", "awq", "bf16"]);
    assert_eq!(stored.record.plan.reference().unwrap().as_str(), "f16");
    let pairs = |run: &StoredRun| -> Vec<(String, String, usize)> {
        let of = |one: &PlaceboRecord| (one.variant.to_string(), one.placebo.to_string(), one.n);
        run.record.placebos.iter().filter(|one| one.rule == run.record.headline()).map(of).collect()
    };
    assert_eq!(pairs(&stored), [("awq".to_owned(), "bf16".to_owned(), 12)]);
    // Named, it is the same run.
    says(folder, 0, "gsm8k --engine cpu --dtype awq,f16 --reference f16 --placebo --limit 12 --out named");
    let named = StoredRun::read(&folder.join("named")).unwrap();
    assert_eq!(named.record.plan.target, stored.record.plan.target);
    assert_eq!(
        (named.record.placebos, named.record.answers_sha256),
        (stored.record.placebos, stored.record.answers_sha256)
    );
    says(folder, 0, "resume run");
}

#[test]
fn placebos_that_cannot_be_are_refused() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    // Packed weights have no other arithmetic, greedy answers no seed, and the CPU no batch that matters.
    let packed = refused(folder, "gsm8k --engine cpu --dtype awq --placebo");
    assert!(packed.contains("nothing of awq can be changed that should not matter"), "{packed}");
    let both =
        evalsuite().current_dir(folder).args(["gsm8k", "--placebo", "--until", "no worse than 2"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
    assert!(text(&both.stderr).contains("cannot be used with"));
    assert!(std::fs::read_dir(folder).unwrap().next().is_none(), "nothing is begun");
}
