// The three charts, as SVG. Each takes the comparison, the index of a rule and a width in pixels, and gives an element.

const SVG = "http://www.w3.org/2000/svg";
const MINUS = "−";

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, content);
const line = (x1, y1, x2, y2, kind) => svg("path", { d: `M${x1} ${y1}L${x2} ${y2}`, class: kind });
const colour = (row) => `var(--c${row % 8})`;
const percent = (fraction) => (100 * fraction).toFixed(1);
const signed = (fraction) => {
  const points = (100 * fraction).toFixed(1);
  return Number(points) < 0 ? points.replace("-", MINUS) : "+" + points.replace("-", "");
};
const probability = (p) => (p < 0.001 ? "p < 0.001" : "p " + p.toFixed(3));

function nothing(words) {
  const p = document.createElement("p");
  p.className = "empty";
  p.textContent = words;
  return p;
}

// Round numbers from the last below `low` to the first above `high`, in about `count` steps.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const list = [];
  for (let k = Math.floor(low / step + 1e-9); (k - 1) * step < high - step * 1e-9; k++) list.push(k * step);
  return list;
}

// 1, 2 and 5 times the powers of ten in [low, high], low above 0.
function decades(low, high) {
  const list = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) list.push(10 ** power, 2 * 10 ** power, 5 * 10 ** power);
  return list.filter((tick) => tick >= low && tick <= high);
}

const short = (value) => (value >= 10000 ? value / 1000 + "k" : String(Number(value.toPrecision(4))));

function accuracyAgainstSpeed({ rows }, rule, width) {
  const points = rows
    .map((row, index) => ({ row, index, score: row.scores[rule], x: row.tokens_per_second }))
    .filter(({ score, x }) => score && score.accuracy && x > 0)
    .map((point) => ({ ...point, y: point.score.accuracy.value, low: point.score.accuracy.low, high: point.score.accuracy.high }));
  if (points.length === 0) return nothing("No row has both an accuracy and a speed.");

  const height = 300;
  const [left, right, top, bottom] = [40, 14, 12, 40];
  const speeds = points.map((point) => point.x);
  const [slowest, fastest] = [Math.min(...speeds), Math.max(...speeds)];
  // Speeds far apart stand on a logarithmic axis, and it says so.
  const logarithmic = fastest / slowest > 8;
  const [from, to] = logarithmic ? [slowest / 1.6, fastest * 1.9] : [0, fastest * 1.22];
  const along = logarithmic ? (x) => Math.log(x / from) / Math.log(to / from) : (x) => (x - from) / (to - from);
  const yTicks = ticks(100 * Math.min(...points.map((p) => p.low)), 100 * Math.max(...points.map((p) => p.high)), 5);
  const [floor, roof] = [yTicks[0], yTicks[yTicks.length - 1]];
  const X = (x) => left + along(x) * (width - left - right);
  const Y = (y) => height - bottom - ((100 * y - floor) / (roof - floor || 1)) * (height - top - bottom);

  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Accuracy against tokens a second" });
  for (const tick of yTicks) {
    chart.append(line(left, Y(tick / 100), width - right, Y(tick / 100), "grid"));
    chart.append(text(left - 8, Y(tick / 100) + 4, short(tick), { "text-anchor": "end", class: "tick" }));
  }
  const xTicks = logarithmic ? decades(from, to) : ticks(from, to, Math.max(2, width / 110)).filter((tick) => tick <= to);
  for (const tick of xTicks) chart.append(text(X(tick), height - bottom + 17, short(tick), { "text-anchor": "middle", class: "tick" }));
  chart.append(line(left, height - bottom, width - right, height - bottom, "base"));
  chart.append(text(width - right, height - 4, `tokens/s${logarithmic ? ", logarithmic" : ""}`, { "text-anchor": "end", class: "tick" }));
  chart.append(text(2, height - 4, "accuracy, %", { class: "tick" }));

  const taken = points.map((p) => [X(p.x) - 7, Y(p.high) - 2, X(p.x) + 7, Y(p.low) + 2]);
  for (const p of points) {
    const [x, y] = [X(p.x), Y(p.y)];
    const stroke = colour(p.index);
    const title = `${p.row.label}: ${percent(p.y)} % [${percent(p.low)}, ${percent(p.high)}], ${p.x.toFixed(1)} tokens/s`;
    const whisker = `M${x} ${Y(p.low)}V${Y(p.high)}M${x - 4} ${Y(p.low)}h8M${x - 4} ${Y(p.high)}h8`;
    chart.append(
      svg("g", { class: "point" }, svg("title", {}, title),
        svg("path", { d: whisker, stroke, "stroke-width": 1.6, fill: "none" }),
        svg("circle", { cx: x, cy: y, r: 5, fill: p.row.source ? "var(--paper)" : stroke, stroke, "stroke-width": 2 })));
    const name = p.row.label.length > 26 ? p.row.label.slice(0, 25) + "…" : p.row.label;
    chart.append(text(...place(name, x, y, taken, [left, width - right], height - bottom), { class: "name halo", style: `fill:${stroke}` }));
  }
  return chart;
}

// The first place beside a point where its name covers nothing: right, left, and then further up and down.
function place(name, x, y, taken, [from, to], floor) {
  const wide = name.length * 6.7;
  for (const shift of [4, -10, 18, -24, 32, -38, 46, -52, 60]) {
    for (const start of [x + 10, x - 10 - wide]) {
      const box = [start, y + shift - 11, start + wide, y + shift + 3];
      const covers = taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
      if (start >= from && box[2] <= to && box[1] >= 0 && box[3] <= floor && !covers) {
        taken.push(box);
        return [start, y + shift, name];
      }
    }
  }
  return [Math.max(from, Math.min(x + 10, to - wide)), y - 8, name];
}

function divergence({ rows, divergences }, width) {
  const curves = divergences.filter((curve) => curve.n > 0);
  if (curves.length === 0) return nothing("There is no reference in the same model: add f32 to compare with.");

  const height = 300;
  const longest = Math.max(...curves.map((curve) => rows[curve.row].label.length));
  const [left, right, top, bottom] = [40, Math.min(width * 0.36, 46 + longest * 7.4), 12, 40];
  const last = Math.max(8, ...curves.flatMap((curve) => curve.first));
  const X = (t) => left + (t / (last * 1.03)) * (width - left - right);
  const Y = (share) => top + (1 - share) * (height - top - bottom);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Share of answers still the same by token" });
  for (const tick of [0, 25, 50, 75, 100]) {
    chart.append(line(left, Y(tick / 100), width - right, Y(tick / 100), "grid"));
    chart.append(text(left - 8, Y(tick / 100) + 4, tick, { "text-anchor": "end", class: "tick" }));
  }
  for (const tick of ticks(0, last, Math.max(2, (width - left - right) / 70)).filter((tick) => tick <= last))
    chart.append(text(X(tick), height - bottom + 17, tick, { "text-anchor": "middle", class: "tick" }));
  chart.append(line(left, height - bottom, width - right, height - bottom, "base"));
  chart.append(text(width - right, height - 4, "tokens into the answer", { "text-anchor": "end", class: "tick" }));
  chart.append(text(2, height - 4, "the same, %", { class: "tick" }));

  const ends = [];
  for (const curve of curves) {
    let path = `M${X(0)} ${Y(1)}`;
    curve.first.forEach((token, k) => (path += `H${X(token).toFixed(1)}V${Y(1 - (k + 1) / curve.n).toFixed(1)}`));
    path += `H${X(last * 1.03)}`;
    const share = curve.identical / curve.n;
    const title = `${rows[curve.row].label} against ${rows[curve.reference].label}: ${curve.identical} of ${curve.n} answers are the same to the last token`;
    chart.append(svg("path", { d: path, fill: "none", stroke: colour(curve.row), "stroke-width": 2, "stroke-linejoin": "round" }, svg("title", {}, title)));
    ends.push({ y: Y(share) + 4, label: `${rows[curve.row].label} ${percent(share)}`, row: curve.row });
  }
  ends.sort((a, b) => a.y - b.y);
  ends.forEach((end, k) => { if (k > 0) end.y = Math.max(end.y, ends[k - 1].y + 15); });
  const over = ends[ends.length - 1].y - (height - bottom + 6);
  for (const end of ends) chart.append(text(width - right + 7, over > 0 ? end.y - over : end.y, end.label, { class: "name", style: `fill:${colour(end.row)}` }));
  return chart;
}

// `choose(right, wrong)` is called with two rows' indices when a bar is chosen.
function flips({ rows, rules, pairs }, rule, width, choose) {
  let shown = pairs.filter((pair) => pair.rule === rules[rule]);
  // Against the reference first, and where there are many pairs alone: that is what most readers came for.
  const isReference = (pair) => rows[pair.other].reference === pair.reference;
  if (shown.length > 10 && shown.some(isReference)) shown = shown.filter(isReference);
  shown = [...shown.filter(isReference), ...shown.filter((pair) => !isReference(pair))].slice(0, 24);
  if (shown.length === 0) return nothing("No two rows answered the same questions by this rule.");

  const step = 50;
  const height = shown.length * step + 26;
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Answers lost and gained between precisions" });
  const most = Math.max(1, ...shown.map((pair) => Math.max(pair.lost, pair.gained)));
  const middle = width / 2;
  const reach = middle - 40;
  chart.append(text(middle - 8, 12, "right → wrong", { "text-anchor": "end", class: "tick" }));
  chart.append(text(middle + 8, 12, "wrong → right", { class: "tick" }));
  shown.forEach((pair, k) => {
    const y = 24 + k * step;
    const [from, to] = [rows[pair.reference], rows[pair.other]];
    const names = `${from.label} → ${from.run === to.run ? to.precision : to.label}`;
    const interval = ` [${signed(pair.difference_low)}, ${signed(pair.difference_high)}]`;
    const fits = (names.length + interval.length) * 6.6 + 110 < width;
    const figures = `${signed(pair.difference)}${fits ? interval : ""}, ${probability(pair.mcnemar_p)}`;
    chart.append(text(0, y + 12, names, { class: "name" }));
    chart.append(text(width, y + 12, figures, { "text-anchor": "end", class: "tick" }));
    const bar = (count, kind, side, right, wrong) => {
      const long = Math.max(count > 0 ? 2 : 0, (count / most) * reach);
      const words = `${count} ${kind === "lost" ? "right" : "wrong"} in ${rows[pair.reference].label} and ${kind === "lost" ? "wrong" : "right"} in ${rows[pair.other].label}`;
      const group = svg("g", { class: "flip", role: "button", tabindex: 0, "aria-label": words }, svg("title", {}, words),
        svg("rect", { x: side < 0 ? middle - long : middle, y: y + 18, width: long, height: 14, class: kind }),
        text(middle + side * (long + 5), y + 29.5, count, { "text-anchor": side < 0 ? "end" : "start" }));
      group.addEventListener("click", () => choose(right, wrong));
      group.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); choose(right, wrong); }
      });
      chart.append(group);
    };
    bar(pair.lost, "lost", -1, pair.reference, pair.other);
    bar(pair.gained, "gained", 1, pair.other, pair.reference);
    chart.append(line(middle, y + 15, middle, y + 35, "base"));
  });
  return chart;
}
