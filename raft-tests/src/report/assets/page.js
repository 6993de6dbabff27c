// The rest of the page: counts, findings, and what pointer and keys do.

const state = { chosen: null, finding: findings.findIndex((finding) => finding.span), dim: true, frame: 0, rows: 0, drag: null };
const activeFinding = () => findings[state.finding];
const named = new Set(findings.flatMap((finding) => [...finding.operations, ...finding.watches]));
const isNamed = (item) => named.has(item);
const isChosen = (item) => state.chosen === item;
const numberOf = (operation) => (activeFinding()?.operations.indexOf(operation) ?? -1) + 1;
const namedByLane = Map.groupBy(named, (item) => item.lane);

// Paints at most once a frame; the table follows when the view has come to rest.
function changed() {
  if (!state.frame) {
    state.frame = requestAnimationFrame(() => {
      state.frame = 0;
      draw();
      drawOverview();
    });
  }
  clearTimeout(state.rows);
  state.rows = setTimeout(drawRows, 150);
}

function choose(item) {
  state.chosen = item;
  drawDetails();
  sayChosen();
  for (const link of document.querySelectorAll(".finding a")) {
    const hash = { operation: `#op-${item?.id}`, watch: `#watch-${item?.id}` }[item?.what];
    link.classList.toggle("chosen", link.hash === hash);
  }
  changed();
}

// Chooses it and brings it into view, without moving more than it takes.
function reveal(item, from, until) {
  if (from < view.from || until > view.until) {
    const span = Math.max(view.until - view.from, (until - from) * 1.5);
    show((from + until - span) / 2, (from + until + span) / 2);
  }
  scrollTo(item.lane ?? item);
  choose(item);
}

function openFinding(index) {
  state.finding = index;
  const finding = findings[index];
  if (finding?.span) showItemSpan(finding.span);
  scrollTo((finding?.operations[0] ?? finding?.watches[0])?.lane);
  changed();
}

function showItemSpan([from, until]) {
  const pad = Math.max((until - from) / 4, runEnd / 2000, 1000);
  show(from - pad, until + pad);
}

// The next or previous of the same client or watch; the first that is visible where nothing is chosen.
function step(by) {
  const chosen = state.chosen;
  if (chosen?.what === "message" || chosen?.what === "watch") {
    const next = chosen.what === "watch" ? chosen.messages.at(by > 0 ? 0 : -1) : chosen.lane.messages[chosen.index + by];
    if (next) reveal(next, next.at, next.at);
    return;
  }
  if (chosen?.what === "operation") {
    const next = chosen.lane.operations[chosen.index + by];
    if (next) reveal(next, next.from, next.until);
    return;
  }
  const visible = lanes.map((lane) => lane.operations[firstAtLeast(lane.operations, view.from, (one) => one.from)]).filter(Boolean);
  const first = activeFinding()?.operations[0] ?? visible.toSorted((one, other) => one.from - other.from)[0];
  if (first) reveal(first, first.from, first.until);
}

function zoomToChosen() {
  const chosen = state.chosen;
  if (!chosen) return;
  const from = chosen.from ?? chosen.at ?? chosen.called ?? chosen.seen;
  showItem(from, chosen.until ?? chosen.at ?? chosen.seen);
}

const KEYS = {
  ArrowLeft: (event) => pan(-plotWidth() * (event.shiftKey ? 0.5 : 0.1)),
  ArrowRight: (event) => pan(plotWidth() * (event.shiftKey ? 0.5 : 0.1)),
  ArrowUp: () => { byId("plot").scrollTop -= 40; },
  ArrowDown: () => { byId("plot").scrollTop += 40; },
  "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1 / 0.7),
  Home: () => show(0, view.until - view.from), End: () => show(runEnd - (view.until - view.from), runEnd),
  0: showAll, v: () => { if (activeFinding()) openFinding(state.finding); },
  n: () => step(1), p: () => step(-1), Enter: zoomToChosen, Escape: () => choose(null),
};

function wirePlot() {
  const plot = byId("plot");
  plot.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act(event);
  });
  plot.addEventListener("scroll", () => { view.scroll = plot.scrollTop; changed(); });
  plot.addEventListener("wheel", onWheel, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    state.drag = { x: event.clientX, y: event.clientY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointerup", onUp);
  canvas.addEventListener("pointercancel", () => { state.drag = null; });
  canvas.addEventListener("pointerleave", () => showTip(null));
  canvas.addEventListener("dblclick", (event) => zoom(0.4, event.offsetX));
}

// The page must stay scrollable: the wheel zooms only where the timeline was clicked before, or with Ctrl.
function onWheel(event) {
  const plot = byId("plot");
  if (event.offsetX < GUTTER && !event.ctrlKey) return;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    event.preventDefault();
    pan(event.deltaX || event.deltaY);
    return;
  }
  if (!event.ctrlKey && document.activeElement !== plot) { hint(); return; }
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 20 : 1;
  zoom(Math.exp(clamp(event.deltaY * lines, -300, 300) * 0.0022), event.offsetX);
}

function hint() {
  const shown = byId("hint");
  shown.hidden = false;
  clearTimeout(hint.timer);
  hint.timer = setTimeout(() => { shown.hidden = true; }, 1600);
}

function onMove(event) {
  const { drag } = state;
  if (!drag) {
    const item = itemAt(event.offsetX, event.offsetY);
    canvas.style.cursor = item ? "pointer" : "";
    showTip(item, event.clientX, event.clientY);
    return;
  }
  if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 3) drag.moved = true;
  if (!drag.moved) return;
  showTip(null);
  pan(drag.x - event.clientX);
  byId("plot").scrollTop += drag.y - event.clientY;
  drag.x = event.clientX;
  drag.y = event.clientY;
}

function onUp(event) {
  const { drag } = state;
  state.drag = null;
  if (!drag || drag.moved) return;
  choose(itemAt(event.offsetX, event.offsetY));
}

function fillFacts() {
  const { run } = picture;
  const facts = [
    ["Level", run.level], ["Seed", run.seed], ["Length", duration(run.length)],
    ["Members", run.members.join(", ")], ["Began", run.began],
    ["Healed", run.healed === null ? "" : `at ${moment(run.healed, 1e6)}`],
  ];
  byId("facts").replaceChildren(...facts.filter(([, value]) => value)
    .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function tile(name, figure, ...more) {
  return make("div", { class: "tile" }, make("h3", {}, name), make("div", { class: "figure" }, figure), ...more);
}

function fillNumbers() {
  const { counts } = picture;
  const figures = [counts.ok, counts.failed, counts.unknown];
  const total = figures[0] + figures[1] + figures[2];
  const share = make("div", { class: "share", "aria-hidden": "true" });
  figures.forEach((figure, sort) => {
    if (figure === 0) return;
    const part = make("i", { class: SORTS[sort] });
    part.style.flexGrow = String(figure / total);
    share.append(part);
  });
  const words = ["answered", "failed", "unknown"];
  const split = make("div", { class: "split-figures" }, ...figures.map((figure, sort) => make("span", {}, key(sort), `${count(figure)} ${words[sort]}`)));
  const faults = counts.faults.reduce((sum, [, number]) => sum + number, 0);
  const chips = make("div", { class: "chips" }, ...counts.faults.map(([kind, number]) => make("span", {}, `${kind} `, make("b", {}, count(number)))));
  byId("numbers").replaceChildren(
    tile(`Operations of ${counts.clients} clients`, count(total), share, split),
    tile("Revision", count(counts.revision)),
    tile("Watches", count(counts.watches), make("p", {}, `${count(counts.events)} events`)),
    tile("Leaders seen", count(counts.elections), make("p", {}, `up to term ${counts.term}`)),
    tile("Faults", count(faults), chips));
}

function fillFindings() {
  byId("findings").hidden = findings.length === 0;
  const alone = findings.length === 1;
  byId("finding-list").replaceChildren(...findings.map((finding, index) => make("article", { class: "finding" },
    // Of a single one this stands at the top of the page already.
    ...(alone ? [] : [make("h3", {}, finding.rule), make("p", {}, finding.story)]),
    make("ol", {}, ...finding.operations.map(operationFound), ...finding.watches.map(watchFound)),
    finding.span && !alone ? button("Show in the timeline", () => { openFinding(index); byId("timeline").scrollIntoView({ block: "start" }); }) : undefined)));
  for (const id of ["to-violation", "dim-label", "legend-named", "keys-violation"]) byId(id).hidden = !activeFinding();
}

function operationFound(operation, at) {
  return make("li", {}, make("a", { href: `#op-${operation.id}` },
    make("span", { class: "number" }, String(at + 1)),
    make("span", { class: "time" }, moment(operation.from)), make("span", {}, operation.lane.name),
    make("code", {}, operation.request.slice(0, 300)), make("code", { class: "answer" }, operation.sort === 0 ? operation.answer.slice(0, 300) : OUTCOMES[operation.sort]),
    make("span", { class: "revision" }, operation.revision ? `rev ${operation.revision}` : "")));
}

function watchFound(watch) {
  return make("li", {}, make("a", { href: `#watch-${watch.id}` },
    make("span", {}, ""), make("span", { class: "time" }, moment(watch.from)), make("span", {}, watch.lane.name),
    make("code", {}, `watch ${watch.title}`), make("code", { class: "answer" }, `${count(watch.messages.length)} messages`)));
}

// `report.html#op-17` chooses an operation, and `#watch-3` a watch, so that a link to it can be sent.
function followLink() {
  const [, sort, id] = /^#(op|watch)-(\d+)$/.exec(location.hash) ?? [];
  const item = (sort === "op" ? operationsById : watchesById).get(Number(id));
  if (!item) return;
  const of = findings.findIndex((finding) => finding.operations.includes(item) || finding.watches.includes(item));
  if (of >= 0) state.finding = of;
  reveal(item, item.from, item.until);
  byId("timeline").scrollIntoView({ block: "nearest" });
}

async function copyReplay() {
  const text = byId("replay").textContent;
  const copy = byId("copy");
  try {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("replay"));
    copy.textContent = document.execCommand("copy") ? "Copied" : "Selected";
  }
  setTimeout(() => { copy.textContent = "Copy"; }, 1500);
}

function resize() {
  const plot = byId("plot");
  const scale = devicePixelRatio || 1;
  byId("stage").style.height = `${HEAD + layout.height}px`;
  view.width = plot.clientWidth;
  view.height = matchMedia("print").matches ? HEAD + layout.height : Math.min(plot.clientHeight, HEAD + layout.height);
  overview.width = small.clientWidth;
  for (const [target, context, width, height] of [[canvas, pen, view.width, view.height], [small, brush, overview.width, overview.height]]) {
    target.width = Math.round(width * scale);
    target.height = Math.round(height * scale);
    target.style.height = `${height}px`;
    context.setTransform(scale, 0, 0, scale, 0, 0);
  }
  canvas.style.width = `${view.width}px`;
  readColors();
  draw();
  drawOverview();
}

function start() {
  fillFacts();
  fillNumbers();
  fillFindings();
  byId("notes").hidden = picture.notes.length === 0;
  byId("notes").replaceChildren(...picture.notes.map((note) => make("li", {}, note)));
  drawDetails();
  drawFaultRows();
  drawDumpRows();
  wirePlot();
  wireOverview();
  byId("copy").addEventListener("click", copyReplay);
  byId("fit").addEventListener("click", showAll);
  byId("to-violation").addEventListener("click", () => openFinding(state.finding));
  byId("zoom-in").addEventListener("click", () => zoom(0.6));
  byId("zoom-out").addEventListener("click", () => zoom(1 / 0.6));
  byId("dim").addEventListener("change", (event) => { state.dim = event.target.checked; changed(); });
  addEventListener("hashchange", followLink);
  resize();
  new ResizeObserver(resize).observe(byId("plot"));
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", resize);
  if (picture.focus) show(...picture.focus);
  else showAll();
  scrollTo((activeFinding()?.operations[0] ?? activeFinding()?.watches[0])?.lane);
  followLink();
}

// For scripts: where the middle and the beginning of an operation stand on the screen, and what time is visible.
window.report = {
  view: () => [view.from, view.until],
  chosen: () => state.chosen?.id ?? null,
  where(id) {
    const operation = operationsById.get(id);
    const box = canvas.getBoundingClientRect();
    const middle = (Math.max(xOf(operation.from), GUTTER) + Math.min(xOf(operation.until), view.width)) / 2;
    return [box.left + middle, box.top + topOf(trackOf(operation.lane)) + 4 + operation.row * ROW + 6, box.left + xOf(operation.from)];
  },
};

start();
