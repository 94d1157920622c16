//! Prompts: the published hashes, the few-shot draws, and real chat templates.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evalsuite::files::sha256;
use evalsuite::hub::Hub;
use evalsuite::task::{
    ChatTemplate, ChatUse, Dataset, DatasetSpec, Fewshot, Message, Protocol, Sample, Task, TaskError,
};
use serde::Deserialize;

use crate::program::{evalsuite, text};
use crate::shared_file;

fn hub() -> Hub {
    Hub::from_environment(true).unwrap()
}

fn spec(source: &str, split: &str) -> DatasetSpec {
    DatasetSpec { source: source.to_owned(), split: split.to_owned(), revision: String::new(), sha256: None }
}

fn load(
    protocol: &Protocol,
    file: Option<&Path>,
    spec: &DatasetSpec,
    rows: usize,
) -> Result<(Fewshot, Option<String>), TaskError> {
    Fewshot::load(protocol, file, (&Task::gsm8k().unwrap(), spec), &hub(), 0..rows)
}

#[derive(Deserialize)]
struct Published {
    num_fewshot: usize,
    until: Vec<String>,
    first_prompt: String,
    prompt_sha256: Vec<String>,
}

fn check_prompts(task: &str, fewshot: Option<&str>) {
    let files = [shared_file("conformance/prompts.json"), shared_file("gsm8k/main")];
    let [Some(prompts), Some(folder)] = files else { return };
    let published: BTreeMap<String, Published> = serde_json::from_slice(&std::fs::read(prompts).unwrap()).unwrap();
    let published = &published[task];
    let protocol = Protocol::open(&task.replace('_', "-")).unwrap();
    assert_eq!(protocol.fewshot_count, published.num_fewshot);
    assert_eq!(protocol.stop_strings, published.until);
    assert_eq!((protocol.chat, protocol.max_tokens), (ChatUse::Never, 256));

    let spec = spec(folder.to_str().unwrap(), "test");
    let dataset = Dataset::open(&spec, &hub()).unwrap();
    let file: Option<PathBuf> = fewshot.map(|name| shared_file(name).expect("the shared folder is incomplete"));
    let (fewshot, hash) = load(&protocol, file.as_deref(), &spec, dataset.samples.len()).unwrap();
    assert_eq!(hash.is_some(), published.num_fewshot > 0);
    let render = |sample: &Sample| protocol.render(sample, &fewshot, None).unwrap();
    assert_eq!(render(&dataset.samples[0]).text, published.first_prompt);
    let hashes: Vec<String> = dataset.samples.iter().map(|sample| sha256(render(sample).text.as_bytes())).collect();
    assert_eq!(hashes.len(), 1319);
    let different = hashes.iter().zip(&published.prompt_sha256).filter(|(ours, theirs)| ours != theirs).count();
    assert_eq!(different, 0, "{task}: prompts that differ");
    assert_eq!(hashes.len(), published.prompt_sha256.len());
}

#[test]
fn gsm8k_prompts_are_the_published_ones() {
    check_prompts("gsm8k", None);
}

#[test]
fn gsm8k_cot_prompts_are_the_published_ones() {
    check_prompts("gsm8k_cot", Some("fewshot/gsm8k_cot.jsonl"));
}

#[test]
fn gsm8k_cot_zeroshot_prompts_are_the_published_ones() {
    check_prompts("gsm8k_cot_zeroshot", None);
}

#[test]
fn gsm8k_cot_llama_prompts_are_the_published_ones() {
    check_prompts("gsm8k_cot_llama", Some("fewshot/gsm8k_cot_llama.jsonl"));
}

#[test]
fn five_shots_are_drawn_as_published_and_do_not_depend_on_how_many_rows_follow() {
    #[derive(Deserialize)]
    struct Indices {
        indices: Vec<[usize; 5]>,
    }
    let files = [shared_file("fewshot/gsm8k_5shot_indices.json"), shared_file("gsm8k/train.jsonl")];
    let [Some(indices), Some(train)] = files else { return };
    let published: Indices = serde_json::from_slice(&std::fs::read(indices).unwrap()).unwrap();
    let test = spec(train.with_file_name("test.jsonl").to_str().unwrap(), "test");
    let train = Dataset::open(&spec(train.to_str().unwrap(), "train"), &hub()).unwrap();
    let protocol = Protocol::open("gsm8k").unwrap();
    let load = |rows| match load(&protocol, None, &test, rows).unwrap() {
        (Fewshot::PerSample(examples), Some(hash)) => (examples, hash),
        other => panic!("{other:?}"),
    };
    let (examples, hash) = load(1319);
    assert_eq!(hash, train.sha256);
    assert_eq!(examples.len(), published.indices.len());
    for (ours, theirs) in examples.values().zip(&published.indices) {
        let theirs = theirs.map(|row| (train.samples[row].question.clone(), train.samples[row].answer.clone()));
        assert_eq!(ours.as_slice(), theirs);
    }
    let first: BTreeMap<_, _> = examples.into_iter().take(10).collect();
    assert_eq!(load(10).0, first);
}

fn sample(question: &str) -> Sample {
    Sample::new(0, question, "#### 1")
}

#[test]
fn braces_in_a_question_survive() {
    let protocol = Protocol::open("gsm8k-cot-zeroshot").unwrap();
    let text = protocol.render(&sample("Is {question} {{a}} or {answer}?"), &Fewshot::None, None).unwrap().text;
    assert_eq!(text, "Q: Is {question} {{a}} or {answer}?\nA: Let's think step by step.");
}

#[test]
fn stepwise_is_the_text_that_the_bundled_model_knows() {
    let protocol = Protocol::open("stepwise").unwrap();
    assert_eq!((protocol.max_tokens, protocol.stop_strings.len(), protocol.chat), (512, 0, ChatUse::Auto));
    let rendered = protocol.render(&sample("How many?"), &Fewshot::None, None).unwrap();
    assert_eq!(
        rendered.text,
        "How many?\n\nReason step by step, one step a line. Then, on a last line of its own, write #### followed by the \
         final answer as a number."
    );
    assert!(rendered.add_special_tokens);
}

fn message<T: std::fmt::Debug>(result: Result<T, TaskError>) -> String {
    let message = result.unwrap_err().to_string();
    assert!(message.contains("\nhint: ") && message.len() < 1500, "{message}");
    message
}

#[test]
fn an_unknown_protocol_gives_the_nearest_name() {
    assert!(message(Protocol::open("gsm8k-coot")).contains("did you mean `gsm8k-cot`"));
    assert!(message(Protocol::open("none/such.toml")).contains("none/such.toml"));
}

#[test]
fn a_protocol_of_the_users_works_like_a_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, evalsuite::bundled::PROTOCOLS[1].1.replace("name = \"direct\"", "name = \"mine\"")).unwrap();
    assert_eq!(Protocol::open(path.to_str().unwrap()).unwrap().name, "mine");
}

#[test]
fn examples_that_are_missing_or_too_many_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shots.jsonl");
    let cot = Protocol::open("gsm8k-cot").unwrap();
    let load = |protocol: &Protocol, file| load(protocol, file, &spec("bundled", "test"), 1);
    let text = message(load(&cot, None));
    assert!(
        text.contains("--fewshot FILE") && text.contains("gsm8k-cot.yaml") && text.contains("\"target\""),
        "{text}"
    );
    assert!(message(load(&cot, Some(&file))).contains("cannot read"));
    std::fs::write(&file, "{\"question\": \"a\", \"target\": \"b\"}\n{\"question\": \"a\"}\n").unwrap();
    assert!(message(load(&cot, Some(&file))).contains("line 2 of"));
    std::fs::write(&file, "{\"question\": \"a\", \"target\": \"b\"}\n").unwrap();
    assert!(message(load(&cot, Some(&file))).contains("holds 1 examples, and protocol `gsm8k-cot` needs 8"));
    let direct = Protocol::open("direct").unwrap();
    assert!(message(load(&direct, Some(&file))).contains("takes no examples"));
    assert!(message(cot.render(&sample("q"), &Fewshot::None, None)).contains("needs 8 examples"));
}

const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + \
                      '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}\
                      {% endif %}";
/// What the template of `SmolLM2` does: a system message of its own unless the first message is one.
const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
                       {{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face\
                       <|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + message.role + '\n' + message.content + \
                       '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' if add_generation_prompt }}";
const LLAMA2: &str = "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = '<<SYS>>\n' \
                      + messages[0]['content'].strip() + '\n<</SYS>>\n\n' %}{% else %}{% set rest = messages %}\
                      {% set system = '' %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != \
                      (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant must take turns') }}{% endif %}\
                      {% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + \
                      m['content'].strip() + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}\
                      {% endif %}{% endfor %}";
const ZEPHYR: &str = "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + \
                      message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + \
                      message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n\
                      {{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != \
                       (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}\
                       {% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}\
                       {{ message['content'] + eos_token + ' ' }}{% endif %}{% endfor %}";

fn template(source: &str) -> ChatTemplate {
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    ChatTemplate::new(source, &tokens.into()).unwrap()
}

#[test]
fn the_common_templates_render_as_transformers_renders_them() {
    let messages = [Message::new("system", "Be brief."), Message::new("user", "2 + 2?")];
    let render = |source: &str| template(source).render(&messages).unwrap();
    assert_eq!(
        render(CHATML),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(render(LLAMA2), "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n2 + 2? [/INST]");
    // The blocks' own line breaks are trimmed, those after an expression stay.
    assert_eq!(render(ZEPHYR), "<|system|>\nBe brief.</s>\n<|user|>\n2 + 2?</s>\n<|assistant|>\n");
    let text = message(template(MISTRAL).render(&messages));
    assert!(text.contains("line 1") && text.contains("Conversation roles must alternate"), "{text}");
    assert_eq!(template(MISTRAL).render(&messages[1..]).unwrap(), "<s>[INST] 2 + 2? [/INST]");
}

#[test]
fn smollm2_conversations_render_as_transformers_rendered_them() {
    #[derive(Deserialize)]
    struct Reference {
        samples: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        messages: Option<Vec<Turn>>,
        prompt: String,
    }
    #[derive(Deserialize)]
    struct Turn {
        role: String,
        content: String,
    }
    let Some(path) = shared_file("reference/smollm2-f32-greedy.json") else { return };
    let reference: Reference = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut rendered = 0;
    for Case { messages, prompt } in reference.samples {
        let Some(messages) = messages else { continue };
        let messages: Vec<Message> = messages.iter().map(|turn| Message::new(&turn.role, &turn.content)).collect();
        assert_eq!(template(SMOLLM2).render(&messages).unwrap(), prompt);
        if messages[0].role == "system" {
            assert_eq!(template(CHATML).render(&messages).unwrap(), prompt);
        }
        rendered += 1;
    }
    assert!(rendered > 0);
}

const WITH_SYSTEM: &str = r#"
name = "with-system"
version = 1
description = "d"
source = "our own"
chat = "auto"
system = "Be brief."
prompt = "{question}"
stops = []
reference = "full"
[[rule]]
name = "numeric"
extractor = "numeric"
"#;

fn protocol(text: &str) -> Protocol {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.toml");
    std::fs::write(&path, text).unwrap();
    Protocol::open(path.to_str().unwrap()).unwrap()
}

#[test]
fn a_system_text_goes_into_the_users_message_where_the_template_takes_none() {
    let protocol = protocol(WITH_SYSTEM);
    let render = |chat: Option<&ChatTemplate>| protocol.render(&sample("2 + 2?"), &Fewshot::None, chat).unwrap();
    let mistral = render(Some(&template(MISTRAL)));
    assert_eq!(mistral.text, "<s>[INST] Be brief.\n\n2 + 2? [/INST]");
    assert!(!mistral.add_special_tokens, "the template wrote the BOS itself");
    assert_eq!(render(Some(&template(LLAMA2))).text, "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n2 + 2? [/INST]");
    assert_eq!(render(None).text, "Be brief.\n\n2 + 2?");
}

#[test]
fn the_use_of_a_template_is_the_protocols_and_may_be_overridden() {
    let chatml = template(CHATML);
    let mut zeroshot = Protocol::open("gsm8k-cot-zeroshot").unwrap();
    let render = |protocol: &Protocol, chat| protocol.render(&sample("q"), &Fewshot::None, chat);
    let plain = render(&zeroshot, Some(&chatml)).unwrap();
    assert!(plain.text.starts_with("Q: q") && plain.add_special_tokens);
    zeroshot.chat = ChatUse::Auto;
    assert!(render(&zeroshot, Some(&chatml)).unwrap().text.starts_with("<|im_start|>user\nQ: q\nA: Let's"));
    let required = protocol(&WITH_SYSTEM.replace("\"auto\"", "\"required\""));
    assert!(message(render(&required, None)).contains("needs a chat template"));
}

fn output_of(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let output = evalsuite().args(words).current_dir(folder).output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_new_protocol_is_written_once_checked_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| output_of(folder.path(), words);
    let (code, stdout, stderr) = run(&["protocol", "new", "mine"]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("written: mine.toml"), "{stderr}");
    let (code, _, stderr) = run(&["protocol", "new", "mine.toml"]);
    assert!(code == 2 && stderr.contains("hint: give another name"), "{code}: {stderr}");
    let (code, stdout, stderr) = run(&["protocol", "check", "mine.toml", "--completion", "#### 36"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("protocol mine, version 1, is sound") && stdout.contains("strict finds \"36\": right"),
        "{stdout}"
    );
    let (_, stdout, _) = run(&["protocol", "check", "mine.toml", "--question", "2 + 2?", "--answer", "#### 4"]);
    assert!(stdout.contains("\n2 + 2?\n\nReason step by step."), "{stdout}");
    let (code, stdout, _) = run(&["protocol", "explain", "mine.toml"]);
    assert!(code == 0 && stdout.contains("max_tokens = 512"), "{stdout}");
    let text = std::fs::read_to_string(folder.path().join("mine.toml")).unwrap();
    std::fs::write(folder.path().join("mine.toml"), text.replace("max_tokens =", "max_token =")).unwrap();
    let (code, _, stderr) = run(&["protocol", "check", "mine.toml"]);
    assert!(
        code == 2 && stderr.contains("unknown key `max_token`") && stderr.contains("`max_tokens`"),
        "{code}: {stderr}"
    );
}
