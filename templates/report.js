// The page: rules, theme, charts, and the samples as a list that holds only the lines in sight.

const { comparison, groups } = JSON.parse(document.getElementById("data").textContent);
const { rows, rules } = comparison;
const $ = (id) => document.getElementById(id);
const LINE = 44;
const CUT = ["length", "context"];

// A sample's answer: text, why it ended, output tokens, tokens before it leaves its reference, and what each rule read:
// [value, begin, end, right].
const [TEXT, FINISH, TOKENS, LEAVES, READINGS] = [0, 1, 2, 3, 4];
const [VALUE, BEGIN, END, RIGHT] = [0, 1, 2, 3];

const state = { rule: 0, group: 0, query: "", right: -1, wrong: -1, chips: new Set(), at: 0, visible: [], diff: false };
const reading = (sample, column) => sample.c[column] && sample.c[column][READINGS][state.rule];
const isRight = (sample, column) => { const read = reading(sample, column); return Boolean(read && read[RIGHT]); };
const isCut = (answer) => Boolean(answer) && CUT.includes(answer[FINISH]);

// What can be asked of a sample, in the order of the buttons.
const CHIPS = {
  "values differ": (sample) => new Set(sample.c.map((_, column) => { const read = reading(sample, column); return read ? read[VALUE] : undefined; })).size > 1,
  "text differs": (sample) => sample.c.some((answer) => answer && answer[LEAVES] !== null),
  "nothing extracted": (sample) => sample.c.some((answer, column) => { const read = reading(sample, column); return answer && read && read[VALUE] === null; }),
  "cut off": (sample) => sample.c.some(isCut),
  "all wrong": (sample) => sample.c.every((_, column) => !isRight(sample, column)),
};

function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const group = () => groups[state.group];
const current = () => group().samples[state.visible[state.at]];

// ---- rule, theme, charts

function chooseRule(index) {
  state.rule = index;
  document.querySelectorAll("[data-rule]").forEach((element) => {
    const own = Number(element.dataset.rule) === index;
    if (element.tagName === "TBODY") element.hidden = !own;
    else element.setAttribute("aria-pressed", own);
  });
  draw();
  renderFlips();
  filter();
}

function draw() {
  const into = (id, make) => { const frame = $(id); frame.replaceChildren(make(Math.max(280, frame.clientWidth || 400))); };
  into("plot-accuracy", (width) => accuracyAgainstSpeed(comparison, state.rule, width));
  into("plot-divergence", (width) => divergence(comparison, width));
  into("plot-flips", (width) => flips(comparison, state.rule, width, chooseFlip));
}

// Rows of another group mean its samples.
function chooseFlip(right, wrong) {
  chooseGroup(groups.findIndex((one) => one.rows.includes(right)));
  Object.assign(state, { query: "", right: group().rows.indexOf(right), wrong: group().rows.indexOf(wrong) });
  state.chips.clear();
  showFilters();
  filter();
  $("samples").scrollIntoView();
  $("list").focus({ preventScroll: true });
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function toggleTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  // A browser may keep nothing for a page from disk; the choice then lasts as long as the page.
  try { localStorage.setItem("evalsuite-theme", document.documentElement.dataset.theme); } catch { }
  $("theme").setAttribute("aria-pressed", isDark());
}

// ---- filters

function chooseGroup(index) {
  if (index === state.group || index < 0) return;
  state.group = index;
  Object.assign(state, { right: -1, wrong: -1, at: 0 });
  setUpGroup();
}

function setUpGroup() {
  const names = group().rows.map((row) => rows[row].label);
  const options = () => [el("option", { value: -1 }, "any"), ...names.map((name, column) => el("option", { value: column }, name))];
  $("right").replaceChildren(...options());
  $("wrong").replaceChildren(...options());
  $("list-head").replaceChildren(
    el("span", {}, "row"), el("span", {}, "question"),
    el("span", { class: "marks" }, ...group().rows.map((row) => el("span", { title: rows[row].label }, groupIsPlain() ? "" : el("small", {}, rows[row].name), rows[row].precision))));
  const narrow = matchMedia("(max-width: 820px)").matches;
  const wide = narrow ? 30 : groupIsPlain() ? 38 : 50;
  const frame = $("list-head").parentElement.style;
  frame.setProperty("--mark", `${wide}px`);
  frame.setProperty("--marks", `${names.length * wide}px`);
  $("group").value = state.group;
}

const groupIsPlain = () => new Set(group().rows.map((row) => rows[row].run)).size === 1;

function words(sample) {
  sample.words ??= [sample.q, sample.a, ...sample.c.map((answer) => answer && answer[TEXT])].join("\n").toLowerCase();
  return sample.words;
}

function passes(sample) {
  if (state.right >= 0 && !isRight(sample, state.right)) return false;
  if (state.wrong >= 0 && (!sample.c[state.wrong] || isRight(sample, state.wrong))) return false;
  const number = /^#(\d+)$/.exec(state.query);
  if (number) return sample.i === Number(number[1]);
  return state.query === "" || words(sample).includes(state.query);
}

function filter() {
  const kept = current();
  const samples = group().samples;
  const base = [];
  samples.forEach((sample, index) => { if (passes(sample)) base.push(index); });
  const chosen = Object.keys(CHIPS).filter((name) => state.chips.has(name));
  state.visible = base.filter((index) => chosen.every((name) => CHIPS[name](samples[index])));
  state.at = Math.max(0, state.visible.indexOf(samples.indexOf(kept)));

  $("chips").replaceChildren(...Object.entries(CHIPS).map(([name, holds]) => {
    const count = state.visible.reduce((sum, index) => sum + (holds(samples[index]) ? 1 : 0), 0);
    const pressed = state.chips.has(name);
    return el("button", { type: "button", "data-chip": name, "aria-pressed": pressed, disabled: count === 0 && !pressed ? "" : null, onclick: () => toggleChip(name) }, `${name} ${count}`);
  }));
  $("clear").hidden = !(state.query || state.right >= 0 || state.wrong >= 0 || state.chips.size);
  const all = samples.length.toLocaleString("en");
  const shown = state.visible.length.toLocaleString("en");
  $("count").textContent = shown === all ? `all ${all}` : `${shown} of ${all}`;
  $("list").scrollTop = 0;
  choose(state.at);
}

function toggleChip(name) {
  const had = document.activeElement && document.activeElement.dataset.chip === name;
  if (!state.chips.delete(name)) state.chips.add(name);
  filter();
  if (had) document.querySelector(`[data-chip="${name}"]`).focus();
}

function clearFilters() {
  Object.assign(state, { query: "", right: -1, wrong: -1 });
  state.chips.clear();
  showFilters();
  filter();
}

function showFilters() {
  $("search").value = state.query;
  $("right").value = state.right;
  $("wrong").value = state.wrong;
}

// ---- addresses of samples: #sample-GROUP-ROW, #sample-GROUP-ROW-REPEAT

const address = (sample) => `#sample-${state.group}-${sample.i}${sample.k > 0 ? `-${sample.k}` : ""}`;

// Where an address is of a sample, shows it, whatever filters are set.
function visit(hash) {
  const named = /^#sample-(\d+)-(\d+)(?:-(\d+))?$/.exec(hash);
  const at = named && groups[named[1]] ? groups[named[1]].samples.findIndex((one) => one.i === Number(named[2]) && one.k === Number(named[3] ?? 0)) : -1;
  if (at < 0) return false;
  chooseGroup(Number(named[1]));
  if (!state.visible.includes(at)) clearFilters();
  choose(state.visible.indexOf(at));
  $("samples").scrollIntoView();
  open();
  return true;
}

// ---- flips: answers that are right in a row and wrong in its reference, or the other way round

const MOST_FLIPS = 500;

function listFlips() {
  const found = [];
  groups.forEach((one, g) => one.rows.forEach((row, column) => {
    const reference = one.rows.indexOf(rows[row].reference);
    if (reference < 0 || rows[row].reference === null) return;
    for (const sample of one.samples) {
      const [own, theirs] = [column, reference].map((at) => sample.c[at] && sample.c[at][READINGS][state.rule]);
      if (own && theirs && own[RIGHT] !== theirs[RIGHT]) found.push({ g, sample, row, own, theirs });
    }
  }));
  return found;
}

function renderFlips() {
  const found = listFlips();
  $("flips-title").parentElement.hidden = found.length === 0;
  const counted = (is) => found.filter((one) => one.own[RIGHT] === is).length.toLocaleString("en");
  const shown = found.length > MOST_FLIPS ? `; the first ${MOST_FLIPS} are shown` : "";
  $("flips-count").textContent = `${counted(false)} lost, ${counted(true)} gained${shown}. Walk with ↑ and ↓, read with Enter.`;
  const value = (read) => read[VALUE] ?? "nothing";
  $("flips-rows").replaceChildren(...found.slice(0, MOST_FLIPS).map(({ g, sample, row, own, theirs }, at) => {
    const kept = state.group;
    state.group = g;
    const link = el("a", { href: address(sample) }, name(sample));
    state.group = kept;
    return el("tr", { tabindex: at === 0 ? 0 : -1, onclick: () => visit(link.getAttribute("href")) },
      el("th", { scope: "row" }, link), el("td", {}, rows[row].label),
      el("td", { class: own[RIGHT] ? "good" : "bad" }, own[RIGHT] ? "gained" : "lost"),
      el("td", {}, value(theirs)), el("td", {}, value(own)), el("td", { class: "question" }, sample.q ?? ""));
  }));
}

// One row can be reached by Tab, the others by arrows.
function onFlipKey(event) {
  const line = event.target.closest("tr");
  const lines = [...$("flips-rows").children];
  const at = lines.indexOf(line);
  const next = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: lines.length - 1 }[event.key];
  if (at < 0 || (next === undefined && event.key !== "Enter")) return;
  event.preventDefault();
  event.stopPropagation();
  if (event.key === "Enter") { visit(line.querySelector("a").getAttribute("href")); $("detail").focus(); return; }
  const to = lines[Math.max(0, Math.min(next, lines.length - 1))];
  line.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

// ---- the list

function mark(sample, column) {
  const answer = sample.c[column];
  if (!answer) return el("span", { class: "m none" });
  const read = reading(sample, column);
  const [kind, sign, word] = !read || read[VALUE] === null ? ["none", "–", "nothing extracted"] : read[RIGHT] ? ["right", "✓", "right"] : ["wrong", "✗", "wrong"];
  const cut = isCut(answer);
  const label = `${rows[group().rows[column]].label}: ${word}${cut ? ", cut off" : ""}`;
  return el("span", { class: `m ${kind}${cut ? " cut" : ""}`, title: label, "aria-label": label, role: "img" }, sign);
}

const name = (sample) => (sample.k > 0 ? `${sample.i}.${sample.k}` : String(sample.i));

function renderList() {
  const list = $("list");
  const first = Math.max(0, Math.floor(list.scrollTop / LINE) - 5);
  const last = Math.min(state.visible.length, first + Math.ceil(list.clientHeight / LINE) + 10);
  const lines = [];
  for (let k = first; k < last; k++) {
    const sample = group().samples[state.visible[k]];
    lines.push(el("div", { class: "option", role: "option", id: `option-${k}`, "aria-selected": k === state.at, "aria-posinset": k + 1, "aria-setsize": state.visible.length, style: `top:${k * LINE}px`, onclick: () => { choose(k); open(); } },
      el("span", { class: "index" }, name(sample)),
      el("span", { class: "question" }, sample.q ?? "the run folder holds no questions"),
      el("span", { class: "marks" }, ...sample.c.map((_, column) => mark(sample, column)))));
  }
  const spacer = $("spacer");
  spacer.style.height = `${state.visible.length * LINE}px`;
  spacer.replaceChildren(...lines);
  if (state.visible.length === 0) spacer.replaceChildren(el("p", { class: "nothing" }, "No sample is like that. ", el("button", { type: "button", class: "text", onclick: clearFilters }, "Clear the filters")));
  list.setAttribute("aria-activedescendant", state.visible.length ? `option-${state.at}` : "");
}

function choose(at) {
  state.at = Math.max(0, Math.min(at, state.visible.length - 1));
  const list = $("list");
  const top = state.at * LINE;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + LINE > list.scrollTop + list.clientHeight) list.scrollTop = top + LINE - list.clientHeight;
  renderList();
  renderDetail();
}

// ---- one sample

// Text with marks: [begin, end, class] of each, which may overlap.
function marked(content, marks) {
  const edges = [...new Set([0, content.length, ...marks.flatMap(([begin, end]) => [begin, end])])].filter((edge) => edge <= content.length).sort((a, b) => a - b);
  const parts = [];
  for (let k = 0; k + 1 < edges.length; k++) {
    const [begin, end] = [edges[k], edges[k + 1]];
    const kinds = marks.filter((one) => one[0] <= begin && end <= one[1]).map((one) => one[2]);
    const piece = content.slice(begin, end);
    const value = kinds.find((kind) => kind !== "after");
    const inner = value ? el("mark", { class: value }, piece) : piece;
    parts.push(kinds.includes("after") ? el("span", { class: "after" }, inner) : inner);
  }
  return el("div", { class: "said" }, ...parts);
}

function commonLength(a, b) {
  let k = 0;
  while (k < a.length && k < b.length && a[k] === b[k]) k++;
  return k;
}

// The words of two texts, [kind, text] of each run of words: "same", "del" of the first alone, "ins" of the second alone.
function wordDiff(before, after) {
  const [a, b] = [before, after].map((content) => content.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? []);
  let [first, endA, endB] = [0, a.length, b.length];
  while (first < endA && first < endB && a[first] === b[first]) first++;
  while (endA > first && endB > first && a[endA - 1] === b[endB - 1]) { endA--; endB--; }
  const [n, m] = [endA - first, endB - first];
  const parts = [["same", a.slice(0, first).join("")]];
  const push = (kind, word) => { if (parts[parts.length - 1][0] === kind) parts[parts.length - 1][1] += word; else parts.push([kind, word]); };
  if (n * m > 4e6) {
    // Longer texts would hold the page up: what lies between is another text.
    push("del", a.slice(first, endA).join(""));
    push("ins", b.slice(first, endB).join(""));
  } else {
    // longest[i][j]: words that a from i and b from j have in common, in order.
    const longest = Array.from({ length: n + 1 }, () => new Uint32Array(m + 1));
    for (let i = n - 1; i >= 0; i--) for (let k = m - 1; k >= 0; k--) longest[i][k] = a[first + i] === b[first + k] ? longest[i + 1][k + 1] + 1 : Math.max(longest[i + 1][k], longest[i][k + 1]);
    let [i, k] = [0, 0];
    while (i < n || k < m) {
      if (i < n && k < m && a[first + i] === b[first + k]) { push("same", a[first + i]); i++; k++; }
      else if (i < n && (k === m || longest[i + 1][k] >= longest[i][k + 1])) push("del", a[first + i++]);
      else push("ins", b[first + k++]);
    }
  }
  push("same", a.slice(endA).join(""));
  return parts.filter(([, content]) => content !== "");
}

function differences(before, after) {
  const part = ([kind, content]) => kind === "same" ? content : el(kind, {}, content);
  return el("div", { class: "said diff" }, ...wordDiff(before, after).map(part));
}

function toggleDiff() {
  state.diff = !state.diff;
  renderDetail();
}

function answerCard(sample, column) {
  const row = rows[group().rows[column]];
  const answer = sample.c[column];
  if (!answer) return el("section", { class: "answer" }, el("header", {}, el("b", {}, row.label)), el("div", { class: "said quiet" }, "no answer"));
  const read = reading(sample, column);
  const marks = [];
  const value = read ? read[VALUE] : null;
  if (value !== null && read[END] > read[BEGIN]) marks.push([read[BEGIN], read[END], read[RIGHT] ? "good" : "wrong"]);
  const reference = sample.c[group().rows.indexOf(row.reference)];
  if (reference && answer[LEAVES] !== null) marks.push([commonLength(reference[TEXT], answer[TEXT]), answer[TEXT].length, "after"]);
  const ended = { length: "cut off by the limit of tokens", context: "cut off by the context", stop_string: "ended by a stop string" }[answer[FINISH]];
  const leaves = answer[LEAVES] === null ? (reference ? `same as ${rows[row.reference].label}` : null) : `leaves ${rows[row.reference].label} after ${answer[LEAVES]} tokens`;
  const facts = [`${answer[TOKENS]} tokens`, ended, leaves].filter(Boolean).join(" · ");
  return el("section", { class: "answer", "aria-label": row.label },
    el("header", {}, el("span", { class: "value" }, mark(sample, column), " ", value ?? "nothing"), el("b", {}, row.label), el("small", {}, facts)),
    state.diff && reference && reference[TEXT] !== answer[TEXT] ? differences(reference[TEXT], answer[TEXT])
      : answer[TEXT].trim() === "" ? el("div", { class: "said quiet" }, "an empty answer") : marked(answer[TEXT], marks));
}

function promptText(sample, k) {
  const [run, beginning] = group().beginnings[k];
  const rest = sample.p[k];
  if (rest === null || rest === undefined) return null;
  const of = group().beginnings.length > 1 ? `, run ${run + 1}` : "";
  return el("details", { class: "prompt" }, el("summary", {}, `Prompt as the model read it${of}`), el("pre", {}, beginning + rest));
}

function renderDetail() {
  const detail = $("detail");
  const sample = current();
  if (!sample) return detail.replaceChildren(el("p", { class: "nothing" }, "No sample is chosen."));
  const begin = sample.a === null ? -1 : sample.a.lastIndexOf("####") + 4;
  const gold = sample.a === null ? el("p", { class: "quiet" }, "n/a") : marked(sample.a, begin > 3 ? [[begin + sample.a.slice(begin).search(/\S|$/), sample.a.length, "good"]] : []);
  detail.replaceChildren(
    el("div", { class: "detail-head" },
      el("button", { type: "button", class: "back", onclick: close }, "← List"),
      el("h3", {}, el("a", { href: address(sample), title: "The address of this sample" }, `Sample ${name(sample)}`)),
      group().rows.some((row) => group().rows.includes(rows[row].reference)) ? el("button", { type: "button", id: "diff", "aria-pressed": state.diff, title: "Words that differ from the reference's answer (w)", onclick: () => { toggleDiff(); $("diff").focus(); } }, "Diff") : null,
      el("button", { type: "button", "aria-label": "Previous sample", title: "Previous (k)", onclick: () => choose(state.at - 1) }, "↑"),
      el("button", { type: "button", "aria-label": "Next sample", title: "Next (j)", onclick: () => choose(state.at + 1) }, "↓")),
    el("p", { class: "said" }, sample.q ?? "The run folder holds no questions: give its run's command with --resume to add them."),
    el("h4", {}, "Reference answer"), gold,
    el("div", { class: "answers" }, ...sample.c.map((_, column) => answerCard(sample, column))),
    ...sample.p.map((_, k) => promptText(sample, k)).filter(Boolean));
  detail.scrollTop = 0;
  detail.setAttribute("aria-label", `Sample ${name(sample)}`);
}

const open = () => $("detail").classList.add("open");
function close() {
  $("detail").classList.remove("open");
  $("list").focus({ preventScroll: true });
}

// ---- keys

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (event.target === $("search") && state.query) { state.query = ""; showFilters(); filter(); }
    else close();
    return event.preventDefault();
  }
  if (typing) {
    if (event.target === $("search") && event.key === "Enter") close();
    return;
  }
  const inList = event.target === $("list") || event.target === document.body;
  const actions = {
    "/": () => { $("search").focus(); $("search").select(); $("samples").scrollIntoView(); },
    j: () => choose(state.at + 1),
    k: () => choose(state.at - 1),
    d: () => toggleChip("values differ"),
    x: clearFilters,
    t: toggleTheme,
    w: toggleDiff,
    r: () => chooseRule((state.rule + 1) % rules.length),
    "?": () => $("help").showModal(),
  };
  if (inList) Object.assign(actions, { Enter: () => { open(); $("detail").focus(); } });
  if (event.target === $("list")) {
    const page = Math.max(1, Math.floor($("list").clientHeight / LINE) - 1);
    Object.assign(actions, {
      ArrowDown: actions.j, ArrowUp: actions.k, Home: () => choose(0), End: () => choose(state.visible.length - 1),
      PageDown: () => choose(state.at + page), PageUp: () => choose(state.at - page),
    });
  }
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
}

// ---- begin

function begin() {
  try { const theme = localStorage.getItem("evalsuite-theme"); if (theme) document.documentElement.dataset.theme = theme; } catch { }
  $("theme").setAttribute("aria-pressed", isDark());
  $("theme").addEventListener("click", toggleTheme);
  $("help-open").addEventListener("click", () => $("help").showModal());
  if ($("rules")) $("rules").addEventListener("click", (event) => { if (event.target.dataset.rule) chooseRule(Number(event.target.dataset.rule)); });
  $("group").replaceChildren(...groups.map((one, index) => el("option", { value: index }, comparison.runs[rows[one.rows[0]].run].dataset)));
  $("group-label").hidden = groups.length < 2;
  $("group").addEventListener("change", (event) => { chooseGroup(Number(event.target.value)); filter(); });
  let waiting = 0;
  $("search").addEventListener("input", (event) => {
    state.query = event.target.value.trim().toLowerCase();
    clearTimeout(waiting);
    waiting = setTimeout(filter, 60);
  });
  for (const side of ["right", "wrong"]) $(side).addEventListener("change", (event) => { state[side] = Number(event.target.value); filter(); });
  $("clear").addEventListener("click", clearFilters);
  $("list").addEventListener("scroll", renderList, { passive: true });
  document.addEventListener("keydown", onKey);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); setUpGroup(); showFilters(); renderList(); } });
  if (groups.length === 0) return;
  setUpGroup();
  chooseRule(0);
  $("flips-rows").addEventListener("keydown", onFlipKey);
  addEventListener("hashchange", () => visit(location.hash));
  visit(location.hash);
}

begin();
document.documentElement.dataset.ready = Math.round(performance.now());
