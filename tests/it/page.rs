//! The report's page, clicked through in headless Chromium.

use std::path::{Path, PathBuf};

use crate::comparisons::render;
use evalsuite::compare::{Comparison, Digest};
use evalsuite::jobs::eval::StoredRun;
use evalsuite::report::Templates;

use crate::devtools::{Page, chromium};
use crate::report_runs::{large_run, scripted_run};

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

fn write_page(folder: &Path, runs: &[StoredRun]) -> PathBuf {
    let comparison = Comparison::new(runs, Vec::new(), None, vec!["evalsuite".to_owned()]);
    let page = render(&comparison, runs, "html", &Templates::bundled()).unwrap();
    let path = folder.join("report.html");
    std::fs::write(&path, page).unwrap();
    path
}

/// The chosen sample's row number, as the detail's heading names it.
fn chosen(page: &mut Page) -> usize {
    page.text(".detail h3").trim_start_matches("Sample ").parse().expect("the heading names a row")
}

#[test]
fn a_page_of_more_answers_than_it_can_show_has_its_charts_and_says_so() {
    let Some(chromium) = chromium() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let run = scripted_run(&scratch.path().join("run"));
    let digest = Digest::new(&run);
    let mut runs = [run];
    runs[0].forget_answers();
    let comparison = Comparison::of(&runs, &[digest], Vec::new(), None, Vec::new());
    let file = scratch.path().join("lean.html");
    std::fs::write(&file, render(&comparison, &runs, "html", &Templates::bundled()).unwrap()).unwrap();
    let mut page = Page::open(&chromium, &file, DESKTOP, false);
    assert!(page.text("#samples").contains("10 answers are more than a page can show"));
    assert!(page.js("document.querySelectorAll('#plot-flips svg *').length").as_u64().unwrap() > 3);
    assert!(page.js("document.querySelector('.browser').hidden").as_bool().unwrap());
}

#[test]
fn a_reader_finds_filters_and_reads_samples_by_mouse_and_by_keys() {
    let Some(chromium) = chromium() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let runs = [large_run(scratch.path(), 1319)];
    let file = write_page(scratch.path(), &runs);
    let mut page = Page::open(&chromium, &file, DESKTOP, false);

    // The list holds only what is in sight, and says how much there is.
    assert_eq!(page.text("#count"), "all 1,319");
    let lines = page.js("document.querySelectorAll('.option').length").as_u64().unwrap();
    assert!((10..60).contains(&lines), "{lines} lines are in the page");
    assert_eq!(page.js("document.querySelector('.option').getAttribute('aria-setsize')"), "1319");
    assert_eq!(page.js("document.querySelectorAll('.plot svg').length"), 3, "every chart is drawn");

    // Keys: down, up, the end of the list, a search by row, and back.
    page.click("#list .option:nth-child(3)");
    assert_eq!(chosen(&mut page), 2);
    page.key("j");
    page.key("j");
    page.key("k");
    assert_eq!(chosen(&mut page), 3);
    page.js("document.getElementById('list').focus()");
    page.key("End");
    assert_eq!(chosen(&mut page), 1318);
    assert_eq!(page.js("document.querySelector('[aria-selected=true]').getAttribute('aria-posinset')"), "1319");
    page.key("Enter");
    assert_eq!(page.js("document.activeElement.id"), "detail");
    page.key("Escape");
    assert_eq!(page.js("document.activeElement.id"), "list");
    page.key("/");
    assert_eq!(page.js("document.activeElement.id"), "search");
    page.type_text("#41");
    page.wait("document.getElementById('count').innerText === '1 of 1,319'");
    assert_eq!(chosen(&mut page), 41);
    page.key("Escape");
    page.wait("document.getElementById('count').innerText === 'all 1,319'");
    page.type_text("Question 77: a FARMER");
    page.wait("document.getElementById('count').innerText === '1 of 1,319'");
    assert_eq!(chosen(&mut page), 77);
    page.key("Enter");
    page.key("x");
    assert_eq!(page.text("#count"), "all 1,319");

    // Right in f32 and wrong in awq: rows that are no multiple of 3 and leave 1 on division by 4.
    let expected = (0..1319).filter(|row| row % 3 > 0 && row % 4 == 1).count();
    page.js(
        "(() => { const s = document.getElementById('right'); s.value = 0; s.dispatchEvent(new Event('change')); })()",
    );
    page.js(
        "(() => { const s = document.getElementById('wrong'); s.value = 2; s.dispatchEvent(new Event('change')); })()",
    );
    assert_eq!(page.text("#count"), format!("{expected} of 1,319"));
    assert_eq!(chosen(&mut page), 77, "the chosen sample stays chosen while it is there");
    page.js("document.getElementById('list').focus()");
    page.key("Home");
    assert_eq!(chosen(&mut page), 1);
    let marks =
        page.js("[...document.querySelectorAll('.option:first-child .m')].map(m => m.getAttribute('aria-label'))");
    assert_eq!(marks, serde_json::json!(["f32: right", "f16: wrong", "awq: wrong"]));
    page.click("#clear");
    assert_eq!(page.text("#count"), "all 1,319");

    // The chart's bar leads to the same samples; so do the buttons to theirs.
    page.click("#plot-flips .flip[aria-label*='right in f32 and wrong in awq'] rect");
    assert_eq!(page.text("#count"), format!("{expected} of 1,319"));
    page.key("x");
    let differ = (0..1319).filter(|row| row % 10 == 1 || row % 4 == 1).count();
    page.key("d");
    assert_eq!(page.text("#count"), format!("{differ} of 1,319"));
    let cut_off = "document.querySelector(\"[data-chip='cut off']\")";
    assert_eq!(page.js(&format!("{cut_off}.disabled")), true, "no sample is like that");
    page.key("d");
    assert_eq!(page.js(&format!("{cut_off}.getAttribute('aria-pressed')")), "false");
    page.click("[data-chip='cut off']");
    assert_eq!(page.js(&format!("{cut_off}.getAttribute('aria-pressed')")), "true");
    assert_eq!(page.text("#count"), format!("{} of 1,319", 1319_usize.div_ceil(50)));
    page.key("x");

    // The answer: the value is marked where the rule found it, and so is where the text leaves f32's.
    page.key("/");
    page.type_text("#1");
    page.wait("document.getElementById('count').innerText === '1 of 1,319'");
    assert_eq!(page.text(".answer:nth-child(1) mark.good"), "1");
    assert_eq!(page.text(".answer:nth-child(3) mark.wrong"), "8");
    assert!(page.text(".answer:nth-child(3) .after").contains('8'));
    assert!(page.text(".answer:nth-child(3) header").contains("leaves f32 after 40 tokens"));
    page.click("details.prompt summary");
    let prompt = page.text("details.prompt pre");
    assert!(prompt.starts_with("A worked example") && prompt.ends_with("Question 1?\nAnswer:"), "{prompt}");
    page.key("Escape");

    assert_eq!(page.errors, Vec::<String>::new());
    let outside: Vec<&String> = page.requests.iter().filter(|address| !address.starts_with("file://")).collect();
    assert!(outside.is_empty(), "the page asked for {outside:?}");
    assert!(page.pdf_base64_length() > 20_000, "it prints");
}

#[test]
fn rules_themes_and_help_answer_to_keys() {
    let Some(chromium) = chromium() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let file = write_page(scratch.path(), &[scripted_run(&scratch.path().join("run"))]);
    for dark in [false, true] {
        let mut page = Page::open(&chromium, &file, DESKTOP, dark);
        // The first stop of the Tab key is seen and leads past the table.
        page.key("Tab");
        assert_eq!(page.js("document.activeElement.className"), "skip");
        assert_eq!(page.js("getComputedStyle(document.activeElement).outlineStyle"), "solid");
        let background = |page: &mut Page| page.js("getComputedStyle(document.body).backgroundColor");
        let before = background(&mut page);
        assert_eq!(page.js("document.getElementById('theme').getAttribute('aria-pressed')"), dark.to_string());
        page.key("t");
        let after = background(&mut page);
        assert_ne!(before, after);
        page.click("#theme");
        assert_eq!(background(&mut page), before);

        let shown = "document.querySelector('tbody:not([hidden])').dataset.rule";
        assert_eq!(page.js(shown), "0");
        page.key("r");
        assert_eq!(page.js(shown), "1");
        page.click("#rules button");
        assert_eq!(page.js(shown), "0");
        assert_eq!(page.js("document.querySelectorAll('#headline tbody:not([hidden])').length"), 1);
        assert_eq!(page.js("document.querySelectorAll('#against tbody:not([hidden])').length"), 1);

        page.key("?");
        assert_eq!(page.js("document.getElementById('help').open"), true);
        page.key("j");
        assert_eq!(chosen(&mut page), 0, "keys behind the help do nothing");
        page.key("Escape");
        assert_eq!(page.js("document.getElementById('help').open"), false);
        assert_eq!(page.errors, Vec::<String>::new());
    }
}

#[test]
fn a_phone_shows_the_list_and_then_the_sample() {
    let Some(chromium) = chromium() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let file = write_page(scratch.path(), &[scripted_run(&scratch.path().join("run"))]);
    let mut page = Page::open(&chromium, &file, PHONE, false);
    let wider = page.js("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(wider, 0, "nothing sticks out to the side");
    // What people came for stands first, and in sight: variant, accuracy and its interval.
    assert_eq!(page.js("document.querySelector('table').id"), "headline");
    let headings = page.js("[...document.querySelectorAll('#headline thead th')].map(th => th.textContent)");
    let place = |name: &str| headings.as_array().unwrap().iter().position(|heading| heading == name).unwrap();
    assert_eq!(place("Precision"), 0, "{headings}");
    let right = format!(
        "document.querySelectorAll('#headline thead th')[{}].getBoundingClientRect().right",
        place("95 % interval")
    );
    assert!(page.js(&right).as_f64().unwrap() <= f64::from(PHONE.0), "the interval is in sight");
    let sees = "getComputedStyle(document.getElementById('detail')).display !== 'none'";
    assert_eq!(page.js(sees), false);
    page.click(".option:nth-child(4)");
    assert_eq!(page.js(sees), true);
    assert_eq!(chosen(&mut page), 3);
    page.click(".back");
    assert_eq!(page.js(sees), false);
    assert_eq!(page.errors, Vec::<String>::new());
}

#[test]
fn three_times_1319_samples_open_within_two_seconds() {
    let Some(chromium) = chromium() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let file = write_page(scratch.path(), &[large_run(scratch.path(), 1319)]);
    // From the navigation's begin to the end of the page's script. Other tests share the cores, so the best of three counts.
    let opened = (0..3).map(|_| {
        let mut page = Page::open(&chromium, &file, DESKTOP, false);
        page.js("Number(document.documentElement.dataset.ready)").as_f64().expect("the page says when it was ready")
    });
    let best = opened.fold(f64::INFINITY, f64::min);
    eprintln!("3 × 1319 samples: ready {best} ms after the navigation began");
    assert!(best < 2000.0, "{best} ms");
}

#[test]
fn a_sample_has_an_address_flips_are_walked_by_keys_and_answers_are_compared_by_word() {
    let Some(chromium) = chromium() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let file = write_page(scratch.path(), &[large_run(scratch.path(), 60)]);
    let mut page = Page::open(&chromium, &file, DESKTOP, false);

    // An address leads to its sample, and every sample tells its own.
    page.js("location.hash = '#sample-0-41'");
    page.wait("document.querySelector('.detail h3').innerText === 'Sample 41'");
    assert_eq!(page.js("document.querySelector('.detail h3 a').getAttribute('href')"), "#sample-0-41");
    // Filters that hide it are cleared; what there is not is left alone.
    page.key("/");
    page.type_text("#3");
    page.wait("document.getElementById('count').innerText === '1 of 60'");
    page.key("Escape");
    page.js("location.hash = '#sample-0-9'");
    page.wait("document.querySelector('.detail h3').innerText === 'Sample 9'");
    page.js("location.hash = '#sample-7-1'");
    page.js("location.hash = '#sample-0-999'");
    assert_eq!(chosen(&mut page), 9);

    // The table of flips: those of every row against its reference, one by one.
    let lines = "[...document.querySelectorAll('#flips-rows tr')]";
    let words =
        page.js(&format!("{lines}.map(line => [...line.children].slice(0, 3).map(cell => cell.innerText).join(' '))"));
    let words: Vec<&str> = words.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let is_lost = |row: usize| !row.is_multiple_of(3) && row % 4 == 1;
    let lost = (0..60).filter(|row| is_lost(*row)).map(|row| format!("{row} awq lost"));
    for line in lost {
        assert!(words.contains(&line.as_str()), "{line} is not among {words:?}");
    }
    assert!(page.text("#flips-count").contains("lost"));
    page.js(&format!("{lines}[0].focus()"));
    page.key("ArrowDown");
    page.key("ArrowDown");
    page.key("ArrowUp");
    assert_eq!(page.js(&format!("{lines}.indexOf(document.activeElement)")), 1);
    page.key("End");
    assert_eq!(page.js(&format!("{lines}.indexOf(document.activeElement)")), words.len() - 1);
    page.key("Home");
    page.key("Enter");
    assert_eq!(chosen(&mut page).to_string(), words[0].split(' ').next().unwrap());
    assert_eq!(page.js("document.activeElement.id"), "detail");

    // Two answers by word: what is f32's alone, and what is awq's alone.
    page.js("location.hash = '#sample-0-1'");
    page.wait("document.querySelector('.detail h3').innerText === 'Sample 1'");
    assert_eq!(page.js("document.querySelectorAll('.diff').length"), 0);
    page.click("#diff");
    assert_eq!(page.js("document.getElementById('diff').getAttribute('aria-pressed')"), "true");
    let of = |page: &mut Page, tag: &str| page.text(&format!(".answer:nth-child(3) .diff {tag}"));
    assert_eq!((of(&mut page, "del"), of(&mut page, "ins")), ("1".to_owned(), "8".to_owned()));
    // Without what was taken out it is awq's answer, without what was put in f32's.
    let kept = "(tag) => { const copy = document.querySelector('.answer:nth-child(3) .diff').cloneNode(true); copy.querySelectorAll(tag).forEach(one => one.remove()); return copy.textContent; }";
    let answer = |column: usize| {
        format!("JSON.parse(document.getElementById('data').textContent).groups[0].samples[1].c[{column}][0]")
    };
    assert_eq!(page.js(&format!("({kept})('del')")), page.js(&answer(2)));
    assert_eq!(page.js(&format!("({kept})('ins')")), page.js(&answer(0)));
    page.key("w");
    assert_eq!(page.js("document.querySelectorAll('.diff').length"), 0);
    assert_eq!(page.errors, Vec::<String>::new());
}
