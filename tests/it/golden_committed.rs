//! The committed golden files: what the bundled model and `SmolLM2` gave, on any number of threads and by any
//! instruction set; and faults planted where they would hurt, each of which must turn the check red and be found.

use std::path::Path;
use std::process::Output;

use crate::program::{evalsuite, text};
use crate::skip::skip;

/// The program in the checkout, where the committed golden files and their recipes' paths are. It writes nothing.
fn check(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    evalsuite()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("EVALSUITE_SIMD")
        .envs(environment.iter().copied())
        .args(["golden", "check", "--ci"])
        .args(arguments)
        .output()
        .expect("the program starts")
}

const HINT: &str = "if the change is meant: `evalsuite golden accept --rerun --model bundled`";

/// Instruction sets that this machine has, by the name that `EVALSUITE_SIMD` takes and the one that the engine says.
fn instruction_sets() -> Vec<(&'static str, &'static str)> {
    let mut found = vec![("portable", "portable")];
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        if avx2 {
            found.push(("avx2", "AVX2"));
        }
        if avx2 && avx512 {
            found.push(("avx512", "AVX-512"));
        }
    }
    for name in ["avx2", "avx512"] {
        if !found.iter().any(|(found, _)| *found == name) {
            skip(name, format!("this machine has no {name}: golden files are not held against its kernels"));
        }
    }
    found
}

#[test]
fn the_bundled_model_gives_its_golden_files_on_any_threads_and_instruction_set() {
    let sets = instruction_sets();
    let best = *sets.last().unwrap();
    let mut context = vec![("1", best), ("3", best)];
    context.extend(sets.iter().filter(|set| **set != best).map(|set| ("2", *set)));
    for (threads, (set, name)) in context {
        // Without fused multiply-add in hardware a token takes thirty times as long: one suite has all the kernels too.
        let (suite, all): (&[&str], usize) = if set == "portable" { (&["--suite", "quality"], 3) } else { (&[], 6) };
        let arguments = [&["--model", "bundled", "--threads", threads], suite].concat();
        let output = check(&arguments, &[("EVALSUITE_SIMD", set)]);
        let (said, told) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{threads} threads, {set}; {HINT}\n{said}\n{told}");
        assert!(said.ends_with(&format!("golden: all {all} hold\n")), "{said}");
        // Without this the variable could be ignored and nobody would know.
        assert!(told.contains(name) && told.contains(&format!("{threads} thread")), "{threads}, {name}: {told}");
    }
}

#[test]
fn smollm2_gives_its_golden_files() {
    let model = crate::smollm2();
    if !model.exists() {
        skip("smollm2", format!("{} is missing; set EVALSUITE_SMOLLM2", model.display()));
        return;
    }
    let output = check(&["--model", model.to_str().unwrap()], &[]);
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}\n{told}");
    assert!(said.contains("quality SmolLM2-135M-Instruct.Q4_1 f16") && said.contains("golden: all 2 hold"), "{said}");
}

#[test]
fn committed_golden_files_are_small_and_name_no_machine_s_paths() {
    let mut bytes = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let file = std::fs::read_to_string(&path).unwrap();
                bytes += file.len();
                let golden: serde_json::Value = serde_json::from_str(&file).unwrap();
                let recipe = &golden["recipe"];
                for word in [vec![&recipe["model"]], recipe["arguments"].as_array().unwrap().iter().collect()].concat()
                {
                    assert!(!word.as_str().unwrap().starts_with('/'), "{}: {word}", path.display());
                }
            }
        }
    }
    assert!(bytes > 0 && bytes < 200_000, "{bytes} bytes of golden files");
}

/// A red check of one golden file of the bundled model; what it said.
fn red(dtype: &str, arguments: &[&str]) -> String {
    let output = check(&[&["--suite", "gsm8k", "--model", "bundled", "--dtype", dtype][..], arguments].concat(), &[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{said}\n{}", text(&output.stderr));
    assert!(said.contains(&format!("changed   gsm8k bundled {dtype}: ")), "{said}");
    assert!(said.contains(&format!("golden: 1 of 1 does not hold: gsm8k bundled {dtype}: ")), "{said}");
    said
}

#[test]
fn one_scale_of_one_awq_group_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in evalsuite::bundled::awq_model_files() {
        let mut bytes = bytes.to_vec();
        if name == "model.safetensors" {
            let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
            let scales = &tensors["model.layers.1.mlp.down_proj.scales"];
            assert_eq!(scales["dtype"], "F16");
            let at = header + scales["data_offsets"][0].as_u64().unwrap() as usize;
            // The first group of the first output: a scale of 8, which no sound layer has.
            bytes[at..at + 2].copy_from_slice(&half::f16::from_f32(8.0).to_le_bytes());
        }
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let said = red("awq", &["--awq", folder.path().to_str().unwrap()]);
    assert!(said.contains("its AWQ form: sha256 was "), "{said}");
    assert!(said.contains("its AWQ form changed; ") && said.contains(" of 40 outputs differ ("), "{said}");
    let first = said.lines().find(|line| line.contains("row ")).expect("the first output that differs");
    assert!(first.contains(": token ") && first.contains(" was \"") && first.contains("(id "), "{said}");
}

/// The default protocol with one change, in a file of its own.
fn changed_protocol(folder: &Path, from: &str, to: &str) -> String {
    let (_, text) = evalsuite::bundled::PROTOCOLS.iter().find(|(name, _)| *name == "stepwise").unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let path = folder.join("changed.toml");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn one_space_less_in_a_prompt_template_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let protocol = changed_protocol(folder.path(), "write #### followed", "write ####followed");
    let said = red("f32", &["--", "--limit", "40", "--protocol", &protocol]);
    assert!(said.contains("40 of 40 outputs differ (40 in the prompt"), "{said}");
    assert!(said.contains("40 rows (0, 1, 2, 3, 4 and 35 more): the prompt changed at character "), "{said}");
    assert!(said.contains("write #### followed") && said.contains("write ####followed"), "{said}");
    assert!(said.contains("note: the protocol: was stepwise") && said.contains("raise it"), "{said}");
}

#[test]
fn a_loosened_extractor_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = r"'#### (\-?[0-9\.\,]+)'";
    // The rule alone says it, even where every answer comes out the same …
    let protocol = changed_protocol(folder.path(), pattern, r"'#### (\-?[0-9\.\,\$]+)'");
    let said = red("f32", &["--", "--limit", "40", "--protocol", &protocol]);
    let rule = r"rule strict of protocol stepwise: was the last match of /#### (\-?[0-9\.\,]+)/";
    assert!(said.contains(rule) && said.contains(r", is the last match of /#### (\-?[0-9\.\,\$]+)/"), "{said}");
    assert!(said.contains("rule strict of protocol stepwise changed; no output of 40 differs"), "{said}");
    // … and where answers do not, each is named.
    let protocol = changed_protocol(folder.path(), pattern, r"'([0-9])'");
    let said = red("f32", &["--", "--limit", "40", "--protocol", &protocol]);
    assert!(said.contains(rule) && said.contains("rule strict of protocol stepwise changed; "), "{said}");
    assert!(said.contains(" of 40 outputs differ (") && said.contains(" in scores), the first is "), "{said}");
    let first = said.lines().find(|line| line.contains("row ")).expect("the first score that differs");
    assert!(first.contains(": rule strict extracted \"") && first.contains(", now \""), "{said}");
    assert!(!said.contains("token ") && !said.contains("rule numeric"), "{said}");
}
