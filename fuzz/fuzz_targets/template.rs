//! A chat template, in this process: what is short nests too little to need the child that the program renders it in. What takes much memory
//! is that child's to find; run it with `-rss_limit_mb=4096 -malloc_limit_mb=0`.

#![no_main]

use std::collections::BTreeMap;

use evalsuite::task::{ChatTemplate, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|template: &str| {
    if template.len() > 400 {
        return;
    }
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let Ok(compiled) = ChatTemplate::own(template, &tokens) else { return };
    let _ = compiled.render(&[Message::new("system", "Be brief."), Message::new("user", "How many?")]);
});
