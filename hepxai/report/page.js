"use strict";
const within = (root, query) => [...root.querySelectorAll(query)];
const SVG = "http://www.w3.org/2000/svg";
function make(parent, name, attributes, text) {
  const e = parent.namespaceURI === SVG || name === "svg" ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) e.setAttribute(key, value);
  if (text !== undefined) e.textContent = text;
  return parent.appendChild(e);
}
const minus = text => String(text).replace("-", "−");
const number = v => v === null ? "–" : minus(v);

// --- contents: light or dark, fold and unfold, the section in view ---
const root = document.documentElement, nav = document.querySelector("nav"), parts = within(document, "section > details");
const tools = make(nav, "div", { class: "tools" });
function tool(text, work) { make(tools, "button", { type: "button" }, text).addEventListener("click", work); }
tool("Light / dark", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
tool("Fold all", () => parts.forEach(d => { d.open = false; }));
tool("Unfold all", () => parts.forEach(d => { d.open = true; }));
function unfoldTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (!target) return;
  within(target, ":scope > details").forEach(d => { d.open = true; });
  target.scrollIntoView();
}
addEventListener("hashchange", unfoldTarget);
unfoldTarget();
const links = new Map(within(nav, "a").map(a => [a.getAttribute("href").slice(1), a])), inView = new Set();
const observer = new IntersectionObserver(entries => {
  for (const e of entries) inView[e.isIntersecting ? "add" : "delete"](e.target.id);
  const first = [...links.keys()].find(id => inView.has(id));
  links.forEach((a, id) => id === first ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current"));
}, { rootMargin: "0px 0px -60% 0px" });
within(document, "section[id]").forEach(s => observer.observe(s));

// --- hover values ---
const tip = make(document.body, "div", { id: "tip", role: "status", hidden: "" });
function showTip(e) {
  const spot = e.target.closest && e.target.closest("[data-tip]");
  tip.hidden = !spot;
  if (!spot) return;
  tip.textContent = spot.dataset.tip;
  const box = spot.getBoundingClientRect(), x = e.clientX || box.x + box.width / 2, y = e.clientY || box.y + box.height / 2;
  tip.style.left = Math.max(4, Math.min(x + 12, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (y + tip.offsetHeight + 24 > innerHeight ? y - tip.offsetHeight - 12 : y + 14) + "px";
}
for (const kind of ["pointermove", "pointerdown", "focusin", "focusout"]) document.addEventListener(kind, showTip);

// --- sortable tables ---
function quantity(text) {
  const plain = text.replace(/[−–](?=[\d.])/g, "-").replace(/(\d),(?=\d{3})/g, "$1");
  const first = plain.match(/-?(\d+\.?\d*|\.\d+)/), power = plain.match(/×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)/);
  const digits = power ? [...power[1]].map(c => c === "⁻" ? "-" : "⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c)).join("") : 0;
  return first ? +first[0] * 10 ** +digits : NaN;
}
function sortable(table) {
  const body = table.tBodies[0], original = [...body.rows];
  within(table, "thead th").forEach((th, column) => {
    const text = th.textContent;
    th.textContent = "";
    make(th, "button", { type: "button", title: "Sort" }, text || "·").addEventListener("click", () => {
      const before = th.getAttribute("aria-sort"), next = { ascending: "descending", descending: null }[before];
      within(table, "th").forEach(h => h.removeAttribute("aria-sort"));
      const order = before ? next : "ascending";
      if (!order) { body.replaceChildren(...original); return; }
      th.setAttribute("aria-sort", order);
      const words = th.classList.contains("word"), sign = order === "ascending" ? 1 : -1;
      const key = row => words ? row.cells[column].textContent : quantity(row.cells[column].textContent);
      body.replaceChildren(...[...original].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (words) return sign * x.localeCompare(y);
        return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
      }));
    });
  });
}
within(document, "main table").filter(t => t.tHead && t.tBodies[0].rows.length > 1).forEach(sortable);

// --- event browser ---
const MARKERS = { o: 0, s: 4.785, "^": 3.5, D: 4, v: 3.25, p: 5.25, h: 6, 8: 8 };
function markerPath(marker, x, y, r) {
  const kind = MARKERS[marker];
  if (!kind) return `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`;
  const corners = Math.floor(kind), turn = { s: 45, "^": -90, v: 90, p: -90, h: 0, 8: 22.5, D: 0 }[marker] * Math.PI / 180;
  const points = Array.from({ length: corners }, (_, k) => turn + 2 * Math.PI * k / corners);
  return "M" + points.map(t => `${(x + 1.15 * r * Math.cos(t)).toFixed(1)},${(y + 1.15 * r * Math.sin(t)).toFixed(1)}`).join("L") + "Z";
}
function eventBrowser(box) {
  const D = JSON.parse(box.querySelector("script").textContent), bar = make(box, "div", { class: "bar" });
  const control = (label, name, attributes) => make(make(bar, "label", {}, label + " "), name, attributes);
  const choices = (select, names) => names.forEach((n, i) => make(select, "option", { value: i }, n));
  const map = control("map", "select"), kind = control("class", "select"), order = control("order", "select");
  choices(map, D.maps.map(m => m.name));
  choices(kind, ["all", ...D.classes]);
  choices(order, ["entry", "score, highest first", "score, lowest first"]);
  const steps = make(bar, "span", { class: "steps" }), back = make(steps, "button", { type: "button", "aria-label": "previous event" }, "◂");
  const which = make(steps, "select", { "aria-label": "event" }), next = make(steps, "button", { type: "button", "aria-label": "next event" }, "▸");
  const lines = control("lines", "input", { type: "range", min: 1, max: 40, value: 8, "aria-label": "lines drawn" });
  const title = make(box, "p", { "aria-live": "polite" }), pane = make(box, "div", { class: "event" });
  const svg = make(pane, "svg", { viewBox: "0 0 720 560", role: "img" }), side = make(pane, "div", { class: "scroll" });
  let rows = [];
  function refill() {
    const name = D.classes[+kind.value - 1], sign = [0, -1, 1][+order.value];
    rows = D.events.map((e, i) => i).filter(i => !name || D.events[i].class === name);
    const scores = D.maps[+map.value].scores;
    if (sign) rows.sort((a, b) => sign * (scores[a] - scores[b]));
    which.replaceChildren();
    rows.forEach(i => make(which, "option", { value: i }, `${D.events[i].id} (${D.events[i].class})`));
    draw();
  }
  function step(by) {
    if (!rows.length) return;
    which.selectedIndex = (which.selectedIndex + by + rows.length) % rows.length;
    draw();
  }
  function colour(v, m, all) {
    if (v === null) return "#c8c8c8";
    const values = all.filter(x => x !== null);
    const far = Math.max(1e-30, ...values.map(x => Math.abs(x - m.centre)));
    const low = m.centre > 0 && Math.min(...values) >= 0 && m.centre < far ? m.centre : far;
    const t = v >= m.centre ? 0.5 + 0.5 * (v - m.centre) / far : 0.5 - 0.5 * (m.centre - v) / low;
    return D.palette[Math.round(32 * Math.min(1, Math.max(0, t)))];
  }
  function text(v) { return number(v[0]) + (v.length > 1 ? " ± " + number(v[1]) + " (trainings)" : ""); }
  function draw() {
    svg.replaceChildren(); side.replaceChildren();
    if (!rows.length) { title.textContent = "No event of this class is on the page."; return; }
    const i = +which.value, e = D.events[i], m = D.maps[+map.value], values = m.values[i], P = e.particles;
    const [observer, unit] = (D.observer || "").split(/ \[|\]/);
    const observed = observer && e.observer !== null ? `, ${observer} = ${number(e.observer)} ${unit || ""}` : "";
    title.textContent = `${e.class}: event ${e.id}, ${e.split}, ${m.score} ${number(m.scores[i])}${observed}, weight ${number(e.weight)}; ${e.file} entry ${e.entry}`;
    svg.setAttribute("aria-label", title.textContent);
    const half = Math.max(2.5, Math.ceil(2 * (0.2 + Math.max(0, ...P.filter(p => p[3] !== null).map(p => Math.abs(p[3])))) ) / 2);
    const X = eta => 60 + 540 * ((eta === null ? 1.16 * half : eta) + 1.08 * half) / (2.4 * half), Y = phi => 270 - 240 * phi / Math.PI;
    const line = (x1, y1, x2, y2, more) => make(svg, "line", { x1, y1, x2, y2, stroke: "#999999", ...more });
    const label = (x, y, t, more) => make(svg, "text", { x, y, "text-anchor": "middle", ...more }, t);
    make(svg, "rect", { x: 60, y: 20, width: 630, height: 500, fill: "none", stroke: "#222222" });
    for (const [phi, t] of [[-Math.PI, "−π"], [-Math.PI / 2, "−π/2"], [0, "0"], [Math.PI / 2, "π/2"], [Math.PI, "π"]]) {
      line(54, Y(phi), 60, Y(phi)); label(50, Y(phi) + 4, t, { "text-anchor": "end" });
      if (Math.abs(phi) > 3) line(60, Y(phi), 690, Y(phi), { "stroke-dasharray": "2 4" });
    }
    for (let eta = -Math.floor(half); eta <= half; eta += half < 4 ? 1 : 2) { line(X(eta), 520, X(eta), 526); label(X(eta), 541, minus(eta)); }
    label(330, 557, "η"); label(16, 270, "φ [rad]", { transform: "rotate(-90 16 270)" });
    if (P.some(p => p[3] === null)) { line(X(half), 20, X(half), 520); label(X(null), 541, "no η"); }
    const drawn = m.over === "pair" ? values.slice(0, +lines.value) : [], at = m.over === "particle" ? 0 : 2, all = values.map(v => v[at]);
    const top = Math.max(1e-30, ...all.map(Math.abs));  // of null: 0
    const defs = make(svg, "defs"), arrows = make(svg, "g", { "clip-path": "url(#frame)" });
    make(make(defs, "clipPath", { id: "frame" }), "rect", { x: 60, y: 20, width: 630, height: 500 });
    defs.append(...drawn.map(v => {
      const head = make(svg, "marker", { id: `h${v[0]}_${v[1]}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 10, markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto" });
      make(head, "path", { d: "M0,0L8,4L0,8Z", fill: colour(v[2], m, all) });
      return head;
    }));
    for (const v of [...drawn].reverse()) {
      const [a, b] = [P[v[0]], P[v[1]]], tipText = `${a[1]} ${m.directed ? "→" : "–"} ${b[1]}\n${m.quantity}: ${text(v.slice(2))}`;
      let turn = 0;
      if (b[4] - a[4] > Math.PI) turn = -2 * Math.PI; else if (a[4] - b[4] > Math.PI) turn = 2 * Math.PI;
      const legs = turn ? [[X(a[3]), Y(a[4]), X(b[3]), Y(b[4] + turn)], [X(a[3]), Y(a[4] - turn), X(b[3]), Y(b[4])]] : [[X(a[3]), Y(a[4]), X(b[3]), Y(b[4])]];
      for (const [x0, y0, x1, y1] of legs) {
        const l = Math.hypot(x1 - x0, y1 - y0) || 1, bend = m.directed ? 0.14 : 0, s = 11 / l;
        const cx = (x0 + x1) / 2 + bend * (y1 - y0), cy = (y0 + y1) / 2 - bend * (x1 - x0);
        const d = `M${x0},${y0}Q${cx},${cy} ${x1 - s * (x1 - cx) * 2},${y1 - s * (y1 - cy) * 2}`;
        const path = make(arrows, "path", { d, fill: "none", stroke: colour(v[2], m, all), "stroke-width": 1 + 3 * Math.abs(v[2]) / top, "data-tip": tipText });
        if (m.directed) path.setAttribute("marker-end", `url(#h${v[0]}_${v[1]})`);
        make(arrows, "path", { d, fill: "none", stroke: "transparent", "stroke-width": 12, "data-tip": tipText });
      }
    }
    const ptMax = Math.max(1, ...P.map(p => p[2])), crowded = P.length > D.crowded;
    const hardest = new Set([...P.keys()].sort((a, b) => P[b][2] - P[a][2]).slice(0, 3)), ends = new Set(drawn.flatMap(v => [v[0], v[1]]));
    P.forEach((p, k) => {
      const look = D.types[p[0]], r = crowded ? 2 + 6 * Math.sqrt(p[2] / ptMax) : 5.5 + 0.25 * Math.sqrt(Math.min(400, p[2])) * 2;
      const value = m.over === "particle" ? values[k] : null;
      const tipText = `${p[1]}${p[5] ? ` (${D.truth})` : ""}\npT ${number(p[2])} GeV, η ${number(p[3])}, φ ${number(p[4])}` + (value ? `\n${m.quantity}: ${text(value)}` : "");
      if (value) make(svg, "circle", { cx: X(p[3]), cy: Y(p[4]), r: r + 7, fill: colour(value[0], m, all), "fill-opacity": 0.75 });
      if (p[3] === null) line(60, Y(p[4]), 690, Y(p[4]), { "stroke-dasharray": "5 5", "stroke-opacity": 0.6 });
      make(svg, "path", { d: markerPath(look.marker, X(p[3]), Y(p[4]), r), fill: look.colour, stroke: p[5] ? "#000000" : "#ffffff", "stroke-width": p[5] ? 2.4 : 1, tabindex: 0, "data-tip": tipText });
      if (!crowded || hardest.has(k) || ends.has(k)) label(X(p[3]), Y(p[4]) - r - 5, crowded ? Math.round(p[2]) : `${p[1]} ${p[2] >= 10 ? Math.round(p[2]) : p[2]}`, { "paint-order": "stroke", stroke: "#ffffff", "stroke-width": 3 });
    });
    const table = make(side, "table"), head = make(make(table, "thead"), "tr"), body = make(table, "tbody");
    make(head, "th", { class: "word", scope: "col" }, m.over); make(head, "th", { scope: "col" }, m.quantity);
    if (m.over === "pair") for (const v of drawn) row(`${P[v[0]][1]} ${m.directed ? "→" : "–"} ${P[v[1]][1]}`, v.slice(2));
    else if (m.over === "column") for (const v of values) row(`${v[0]} = ${number(v[1])}`, v.slice(2));
    else [...P.keys()].sort((a, b) => Math.abs(values[b][0]) - Math.abs(values[a][0])).forEach(k => row(P[k][1], values[k]));
    function row(name, v) { const tr = make(body, "tr"); make(tr, "td", { class: "word" }, name); make(tr, "td", {}, number(v[0]) + (v.length > 1 ? " ± " + number(v[1]) : "")); }
  }
  for (const c of [kind, order]) c.addEventListener("change", refill);  // another map keeps the event
  for (const c of [map, which]) c.addEventListener("change", draw);
  lines.addEventListener("input", draw);
  back.addEventListener("click", () => step(-1));
  next.addEventListener("click", () => step(1));
  refill();
}
within(document, ".browser").forEach(eventBrowser);
