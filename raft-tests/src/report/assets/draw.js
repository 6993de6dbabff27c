// Paints the visible part. What is smaller than a pixel is merged with its neighbours, so that the cost of a frame
// follows the width of the window and not the length of the run.

const canvas = byId("canvas");
const pen = canvas.getContext("2d");
let colors = {};
let hatches = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "card", "ink", "muted", "line", "grid", "ok", "ok-text", "failed", "failed-line", "unknown",
    "unknown-text", "named", "named-soft", "fault", "fault-soft", "fault-hit", "leader", "follower", "follower-text",
    "candidate", "learner", "healed", "gutter", "text", "mono"];
  colors = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  hatches = { down: hatch(colors.line, 6), away: hatch(colors.line, 9), candidate: hatch(colors.muted, 5), unknown: hatch(colors["unknown-text"], 6, 0.25) };
}

function hatch(color, size, alpha = 1) {
  const tile = make("canvas", { width: size, height: size });
  const brush = tile.getContext("2d");
  brush.strokeStyle = color;
  brush.globalAlpha = alpha;
  brush.lineWidth = 1.2;
  for (const shift of [-size, 0, size]) {
    brush.beginPath();
    brush.moveTo(shift, size);
    brush.lineTo(shift + size, 0);
    brush.stroke();
  }
  return pen.createPattern(tile, "repeat");
}

const font = (size, weight = 400) => `${weight} ${size}px ${colors.text}`;

function block(x, y, width, height, radius = 3) {
  pen.beginPath();
  if (width > 6) pen.roundRect(x, y, width, height, radius);
  else pen.rect(x, y, width, height);
}

function line(x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}

// Text that ends in an ellipsis where there is no room, and is left out where not even three letters fit.
function label(text, x, y, room) {
  if (room < 22) return;
  const short = text.length > 300 ? text.slice(0, 300) : text;
  if (pen.measureText(short).width <= room) { pen.fillText(short, x, y); return; }
  let low = 0;
  let high = short.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pen.measureText(`${short.slice(0, middle)}…`).width <= room) low = middle;
    else high = middle - 1;
  }
  if (low >= 2) pen.fillText(`${short.slice(0, low)}…`, x, y);
}

function draw() {
  pen.clearRect(0, 0, view.width, view.height);
  pen.fillStyle = colors.card;
  pen.fillRect(0, 0, view.width, view.height);
  const ticks = timeTicks();
  clipped(GUTTER, HEAD, view.width - GUTTER, view.height - HEAD, () => {
    drawGrid(ticks);
    drawBands();
    for (const track of visibleTracks()) drawTrack(track);
    drawGuides();
    drawOrder();
    drawHealedLabel();
  });
  clipped(0, HEAD, GUTTER, view.height - HEAD, drawGutter);
  drawHead(ticks);
}

function clipped(x, y, width, height, paint) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, width, height);
  pen.clip();
  paint();
  pen.restore();
}

const topOf = (track) => HEAD + track.top - view.scroll;
const visibleTracks = () => layout.tracks.filter((track) => topOf(track) < view.height && topOf(track) + track.height > HEAD);

function timeTicks() {
  const rough = perPixel() * 110;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough);
  const ticks = [];
  for (let at = Math.ceil(Math.max(view.from, 0) / step) * step; at <= Math.min(view.until, runEnd); at += step) ticks.push(at);
  return { step, ticks };
}

function drawGrid({ ticks }) {
  pen.strokeStyle = colors.grid;
  pen.lineWidth = 1;
  for (const at of ticks) line(Math.round(xOf(at)) + 0.5, HEAD, Math.round(xOf(at)) + 0.5, view.height);
  // Before and after the run there is nothing.
  pen.fillStyle = colors.paper;
  pen.fillRect(GUTTER, HEAD, Math.max(xOf(0) - GUTTER, 0), view.height);
  pen.fillRect(xOf(runEnd), HEAD, Math.max(view.width - xOf(runEnd), 0), view.height);
  if (picture.run.healed !== null) {
    pen.strokeStyle = colors.healed;
    pen.setLineDash([5, 4]);
    line(xOf(picture.run.healed), HEAD, xOf(picture.run.healed), view.height);
    pen.setLineDash([]);
  }
}

function drawBands() {
  pen.setLineDash([2, 3]);
  pen.strokeStyle = colors.fault;
  pen.fillStyle = colors["fault-soft"];
  let covered = -1;
  for (const band of bands) {
    const left = xOf(band.from);
    const right = Math.max(xOf(band.until), left + 1.5);
    if (right < GUTTER || left > view.width || right <= covered) continue;
    // Faults at one time do not darken each other.
    const start = Math.max(left, covered);
    pen.fillRect(start, HEAD, right - start, view.height);
    covered = right;
    if (right - left > 8) {
      pen.globalAlpha = 0.5;
      line(left, HEAD, left, view.height);
      if (!band.open) line(right, HEAD, right, view.height);
      pen.globalAlpha = 1;
    }
  }
  pen.setLineDash([]);
}

function drawTrack(track) {
  const top = topOf(track);
  switch (track.what) {
    case "heading": break;
    case "faults": return drawFaultLabels(top);
    case "member": return drawMember(track.item, top);
    case "client": return drawClient(track.item, top, track.height);
    case "watches": return drawWatches(track.item, top);
  }
}

function drawFaultLabels(top) {
  pen.font = font(11.5, 500);
  pen.textBaseline = "middle";
  const nextInRow = [];
  for (const band of bands.toReversed()) {
    const left = xOf(band.from);
    const right = Math.max(xOf(band.until), left + 3);
    const limit = nextInRow[band.row] ?? view.width + 400;
    nextInRow[band.row] = left;
    if (right < GUTTER - 400 || left > view.width) continue;
    const y = top + band.row * 20 + 2;
    const start = Math.max(left, GUTTER);
    pen.fillStyle = colors.fault;
    if (right > GUTTER) {
      pen.globalAlpha = 0.9;
      block(left, y, right - left, 3, 1.5);
      pen.fill();
      pen.globalAlpha = 1;
    }
    if (isChosen(band)) outline(left - 2, y - 2, right - left + 4, 19);
    if (right > GUTTER) label(`${band.kind}: ${band.words}`, start + 1, y + 10, Math.max(right, Math.min(limit, left + 260)) - start - 4);
  }
}

function outline(x, y, width, height, color = colors.ink, weight = 2) {
  pen.strokeStyle = color;
  pen.lineWidth = weight;
  block(x, y, width, height, 4);
  pen.stroke();
  pen.lineWidth = 1;
}

function drawMember(strip, top) {
  for (const band of bands) {
    if (!band.members.includes(strip.member)) continue;
    pen.fillStyle = colors["fault-hit"];
    const left = xOf(band.from);
    if (left < view.width && xOf(band.until) > GUTTER) pen.fillRect(left, top, Math.max(xOf(band.until) - left, 2), 42);
  }
  pen.font = font(11, 500);
  pen.textBaseline = "middle";
  const painted = {};
  for (const state of strip.states) {
    const left = xOf(state.from);
    const right = xOf(state.until);
    if (right < GUTTER || left > view.width) continue;
    // A role that is too short to be seen is drawn once for a pixel.
    if (right - left < 1 && painted[state.role] >= right - 1) continue;
    painted[state.role] = right;
    drawRole(state, left, Math.max(right - left, 1.5), top + 4);
  }
  drawApplied(strip, top + 22, 16);
}

const ROLES = { Leader: ["leader", "card"], Follower: ["follower", "follower-text"], Candidate: ["candidate", "ink"], Learner: ["learner", "ink"] };

function drawRole(state, left, width, y) {
  const [fill, text] = ROLES[state.role] ?? [null, "muted"];
  block(left, y, Math.max(width - 1, 1), 15);
  pen.fillStyle = fill ? colors[fill] : colors.card;
  pen.fill();
  if (state.role === "Down" || state.role === "Candidate") {
    pen.fillStyle = state.role === "Down" ? hatches.down : hatches.candidate;
    pen.globalAlpha = state.role === "Down" ? 1 : 0.5;
    pen.fill();
    pen.globalAlpha = 1;
  }
  const start = Math.max(left, GUTTER);
  pen.fillStyle = colors[text];
  const words = state.role === "Down" ? "down" : `${state.role.toLowerCase()}, term ${state.term}`;
  const room = Math.min(left + width, view.width) - start - 10;
  if (room > 45) label(words, start + 6, y + 8, room);
}

// All members on one scale, that of what is visible, so that who lags runs below the others.
function drawApplied(strip, top, height) {
  const [least, most] = appliedRange();
  const yFor = (index) => top + height - ((index - least) / Math.max(most - least, 1)) * height;
  pen.strokeStyle = colors.leader;
  pen.lineWidth = 1.5;
  pen.beginPath();
  let last = null;
  let lastX = -Infinity;
  const first = Math.max(firstAtLeast(strip.applied, view.from, (point) => point[0]) - 1, 0);
  for (let index = first; index < strip.applied.length; index++) {
    const [at, applied] = strip.applied[index];
    const x = xOf(at);
    if (x > view.width) break;
    if (last !== null && x - lastX < 0.7 && applied !== 0) { last = applied; continue; }
    if (last) pen.lineTo(x, yFor(last));
    if (applied) { if (last) pen.lineTo(x, yFor(applied)); else pen.moveTo(x, yFor(applied)); }
    last = applied;
    lastX = x;
  }
  if (last) pen.lineTo(Math.min(view.width, xOf(runEnd)), yFor(last));
  pen.stroke();
  pen.lineWidth = 1;
}

let appliedFor = { key: "", range: [0, 1] };
function appliedRange() {
  const key = `${view.from} ${view.until}`;
  if (appliedFor.key === key) return appliedFor.range;
  let least = Infinity;
  let most = 0;
  for (const strip of strips) {
    const first = Math.max(firstAtLeast(strip.applied, view.from, (point) => point[0]) - 1, 0);
    const end = firstAtLeast(strip.applied, view.until, (point) => point[0]);
    for (let index = first; index < Math.max(end, first + 1); index++) {
      const applied = strip.applied[index]?.[1] ?? 0;
      if (applied === 0) continue;
      least = Math.min(least, applied);
      most = Math.max(most, applied);
    }
  }
  appliedFor = { key, range: least > most ? [0, 1] : [least, most] };
  return appliedFor.range;
}

function drawClient(lane, top, height) {
  const away = picture.part && lane.overview ? picture.part.span : null;
  if (away) drawAway(lane, top, height, away);
  const dim = state.dim && activeFinding() ? 0.32 : 1;
  const y = (row) => top + 4 + row * ROW;
  pen.globalAlpha = dim;
  lane.rows.forEach((row, index) => drawTails(row, y(index)));
  for (const sort of [0, 1, 2]) lane.rows.forEach((row, index) => drawRow(row, sort, y(index)));
  pen.globalAlpha = 1;
  if (state.chosen?.lane === lane) {
    const left = xOf(state.chosen.from);
    outline(left - 3.5, y(state.chosen.row) - 3.5, Math.max(xOf(state.chosen.until) - left, 5) + 7, ROW + 4);
  }
  for (const operation of namedByLane.get(lane) ?? []) drawNamed(operation, y(operation.row));
}

// Where the page has counts only: how many calls began, as grey columns on hatching.
function drawAway(lane, top, height, span) {
  const sides = [[0, span[0]], [span[1], runEnd]];
  pen.fillStyle = hatches.away;
  for (const [from, until] of sides) pen.fillRect(xOf(from), top, xOf(until) - xOf(from), height);
  const { bucket, buckets } = lane.overview;
  const most = Math.max(1, ...buckets.map((three) => three[0] + three[1] + three[2]));
  pen.fillStyle = colors.muted;
  pen.globalAlpha = 0.6;
  buckets.forEach((three, index) => {
    const from = index * bucket;
    if (from + bucket > span[0] && from < span[1]) return;
    const left = xOf(from);
    const width = xOf(from + bucket) - left;
    if (left > view.width || left + width < GUTTER) return;
    const high = ((three[0] + three[1] + three[2]) / most) * (height - 6);
    pen.fillRect(left, top + height - 2 - high, Math.max(width - 0.5, 1), high);
  });
  pen.globalAlpha = 1;
}

const firstVisible = (row) => Math.max(firstAtLeast(row, view.from, (operation) => operation.from) - 9, 0);

// The open end of what is unknown: it may have its effect at any later time.
function drawTails(row, y) {
  let covered = -Infinity;
  for (let index = firstVisible(row); index < row.length; index++) {
    const operation = row[index];
    const end = xOf(operation.until);
    if (xOf(operation.from) > view.width) break;
    // Where many are too small to be seen alone, their ends would cover what comes after them.
    if (operation.sort !== 2 || end < covered || end - xOf(operation.from) < 2) continue;
    covered = end + 6;
    fade(end, y + 2, 64, ROW - 7);
  }
}

function fade(x, y, width, height, color = colors.unknown) {
  const gradient = pen.createLinearGradient(x, 0, x + width, 0);
  gradient.addColorStop(0, color);
  gradient.addColorStop(1, "transparent");
  pen.fillStyle = gradient;
  pen.fillRect(x - 1, y, width, height);
}

const FILLS = ["ok", "failed", "unknown"];

function drawRow(row, sort, y) {
  const color = sort === 1 ? colors["failed-line"] : colors[FILLS[sort]];
  let from = null;
  let until = 0;
  pen.fillStyle = color;
  const flush = () => {
    if (from === null) return;
    pen.fillRect(from, y, Math.max(until - from, 1.5), ROW - 3);
    from = null;
  };
  for (let index = firstVisible(row); index < row.length; index++) {
    const operation = row[index];
    const left = xOf(operation.from);
    if (left > view.width) break;
    if (operation.sort !== sort) continue;
    const right = xOf(operation.until);
    if (right < GUTTER) continue;
    if (right - left >= 4) { flush(); drawBar(operation, left, right - left, y); pen.fillStyle = color; continue; }
    if (from !== null && left <= until + 0.6) { until = Math.max(until, right); continue; }
    flush();
    from = left;
    until = right;
  }
  flush();
}

// One that is wide enough to be seen alone. A hair of room tells it from the next.
function drawBar(operation, left, width, y) {
  const wide = width > 6 ? width - 1 : width;
  block(left, y, wide, ROW - 3);
  pen.fillStyle = colors[FILLS[operation.sort]];
  pen.fill();
  if (operation.sort === 1) { pen.strokeStyle = colors["failed-line"]; block(left + 0.5, y + 0.5, wide - 1, ROW - 4); pen.stroke(); }
  if (operation.sort === 2) { pen.fillStyle = hatches.unknown; pen.fill(); }
  const start = Math.max(left, GUTTER);
  const room = Math.min(left + wide, view.width) - start - 9;
  if (room < 28) return;
  pen.fillStyle = operation.sort === 0 ? colors["ok-text"] : operation.sort === 1 ? colors.ink : colors["unknown-text"];
  pen.font = font(10.5, 500);
  pen.textBaseline = "middle";
  label(operation.request, start + 5, y + 6.5, room);
}

function drawNamed(operation, y) {
  const left = xOf(operation.from);
  const width = Math.max(xOf(operation.until) - left, 5);
  if (left + width < GUTTER - 70 || left > view.width + 20) return;
  const number = numberOf(operation);
  if (operation.sort === 2) fade(left + width, y + 2, 90, ROW - 7);
  drawBar(operation, left, width, y);
  outline(left - 1.5, y - 1.5, width + 3, ROW, colors.named, number ? 2.5 : 1.5);
  if (number) badge(number, left - 1, y + 6);
}

function badge(number, x, y) {
  pen.beginPath();
  pen.arc(x, y, 8, 0, 7);
  pen.fillStyle = colors.named;
  pen.fill();
  pen.strokeStyle = colors.card;
  pen.lineWidth = 1.5;
  pen.stroke();
  pen.lineWidth = 1;
  pen.fillStyle = colors.card;
  pen.font = font(number > 9 ? 9 : 10.5, 700);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(String(number), x, y + 0.5);
  pen.textAlign = "left";
}

function drawWatches(lane, top) {
  const y = top + 12;
  const faint = (watch) => (state.dim && activeFinding() && !isNamed(watch) ? 0.4 : 1);
  for (const watch of lane.watches) {
    const left = xOf(watch.from);
    const right = xOf(watch.until);
    if (right < GUTTER || left > view.width) continue;
    pen.globalAlpha = faint(watch);
    pen.strokeStyle = isNamed(watch) ? colors.named : colors["failed-line"];
    pen.lineWidth = isNamed(watch) ? 2 : 1;
    line(left, y, right, y);
  }
  pen.lineWidth = 1;
  const last = {};
  for (let index = Math.max(firstAtLeast(lane.messages, view.from, (message) => message.at) - 1, 0); index < lane.messages.length; index++) {
    const message = lane.messages[index];
    const x = xOf(message.at);
    if (x > view.width + 8) break;
    // Closer than a dot is wide, one stands for both; what is chosen is drawn in any case.
    if (x - (last[message.sort] ?? -9) < 3 && state.chosen !== message) continue;
    last[message.sort] = x;
    pen.globalAlpha = faint(message.watch);
    drawMessage(message, x, y);
  }
  pen.globalAlpha = 1;
}

function drawMessage(message, x, y) {
  const marked = state.chosen?.what === "revision" && message.first <= state.chosen.revision && message.last >= state.chosen.revision;
  pen.beginPath();
  pen.fillStyle = colors.ok;
  pen.strokeStyle = colors.muted;
  switch (message.sort) {
    case "events": pen.arc(x, y, message.first === message.last ? 3.5 : 5, 0, 7); pen.fill(); break;
    case "progress": pen.lineWidth = 1.5; line(x, y - 5, x, y + 5); break;
    case "created": pen.arc(x, y, 3, 0, 7); pen.fillStyle = colors.card; pen.fill(); pen.stroke(); break;
    default:
      pen.strokeStyle = message.sort === "lost" ? colors.unknown : colors["failed-line"];
      pen.lineWidth = 2.5;
      line(x - 4, y - 4, x + 4, y + 4);
      line(x - 4, y + 4, x + 4, y - 4);
  }
  pen.lineWidth = 1;
  if (marked || state.chosen === message) {
    pen.beginPath();
    pen.arc(x, y, 8, 0, 7);
    pen.strokeStyle = colors.ink;
    pen.lineWidth = 2;
    pen.stroke();
    pen.lineWidth = 1;
  }
}

// Lines over all lanes at what is chosen.
function drawGuides() {
  const chosen = state.chosen;
  const times = { operation: [chosen?.from, chosen?.returned], message: [chosen?.at], revision: [chosen?.seen, chosen?.called] }[chosen?.what] ?? [];
  pen.strokeStyle = colors.ink;
  pen.globalAlpha = 0.55;
  pen.setLineDash([3, 3]);
  for (const at of times) if (at !== null && at !== undefined) line(xOf(at), HEAD, xOf(at), view.height);
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

// An arrow where one of the unexplained was answered before the next was called: that order is certain.
function drawOrder() {
  const chain = (activeFinding()?.operations ?? []).slice(0, 12);
  pen.strokeStyle = colors.named;
  pen.fillStyle = colors.named;
  pen.lineWidth = 1.5;
  for (let index = 1; index < chain.length; index++) {
    const [before, after] = [chain[index - 1], chain[index]];
    if (before.returned === null || before.returned > after.from) continue;
    const place = (operation) => topOf(trackOf(operation.lane)) + 4 + operation.row * ROW + 6;
    const [x1, y1] = [xOf(before.until) + 2, place(before)];
    const [x2, y2] = [xOf(after.from) - 10, place(after)];
    const bend = clamp(Math.abs(x2 - x1) / 2, 10, 60);
    pen.beginPath();
    pen.moveTo(x1, y1);
    pen.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
    pen.stroke();
    pen.beginPath();
    pen.moveTo(x2 + 2, y2);
    pen.lineTo(x2 - 5, y2 - 3.5);
    pen.lineTo(x2 - 5, y2 + 3.5);
    pen.fill();
  }
  pen.lineWidth = 1;
}

function drawGutter() {
  pen.fillStyle = colors.gutter;
  pen.fillRect(0, HEAD, GUTTER, view.height);
  pen.textBaseline = "middle";
  for (const track of visibleTracks()) {
    const top = topOf(track);
    if (track.what === "heading") {
      pen.font = font(12, 650);
      pen.fillStyle = colors.ink;
      label(track.name, 12, top + 11, GUTTER - 20);
      continue;
    }
    const named = namedByLane.has(track.item);
    pen.font = font(12, named ? 650 : 400);
    pen.fillStyle = named ? colors.named : colors.ink;
    const two = track.what === "member";
    label(track.name, 12, two ? top + 12 : top + track.height / 2 + 0.5, GUTTER - 20);
    if (track.what === "watches") {
      const left = 18 + pen.measureText(track.name).width;
      pen.font = `11px ${colors.mono}`;
      pen.fillStyle = named ? colors.named : colors.muted;
      label(track.more, left, top + track.height / 2 + 0.5, GUTTER - left - 8);
    }
    if (two) {
      pen.font = font(11);
      pen.fillStyle = colors.muted;
      label(track.more, 12, top + 30, GUTTER - 20);
    }
  }
  pen.strokeStyle = colors.line;
  line(GUTTER - 0.5, HEAD, GUTTER - 0.5, view.height);
}

// The axes stay at the top: time, and below it the revisions.
function drawHead({ step, ticks }) {
  pen.fillStyle = colors.gutter;
  pen.fillRect(0, 0, view.width, HEAD);
  pen.textBaseline = "middle";
  pen.font = font(12, 650);
  pen.fillStyle = colors.ink;
  pen.fillText("Time", 12, 15);
  pen.fillText("Revisions", 12, 40);
  clipped(GUTTER, 0, view.width - GUTTER, HEAD, () => {
    pen.font = font(11.5);
    pen.fillStyle = colors.muted;
    pen.strokeStyle = colors.line;
    for (const at of ticks) {
      const x = Math.round(xOf(at)) + 0.5;
      line(x, 22, x, 27);
      pen.textAlign = at === 0 ? "left" : "center";
      pen.fillText(moment(at, step), at === 0 ? x - 1 : x, 14);
    }
    pen.textAlign = "left";
    drawRevisions();
  });
  pen.strokeStyle = colors.line;
  line(0, 27.5, view.width, 27.5);
  line(0, HEAD - 0.5, view.width, HEAD - 0.5);
  line(GUTTER - 0.5, 0, GUTTER - 0.5, HEAD);
}

function drawHealedLabel() {
  if (picture.run.healed === null) return;
  const x = xOf(picture.run.healed);
  pen.font = font(11, 600);
  pen.textBaseline = "middle";
  pen.fillStyle = colors.healed;
  const width = pen.measureText("healed").width;
  pen.fillText("healed", x + width + 10 > view.width ? x - width - 5 : x + 5, HEAD + 14 - view.scroll);
}

function drawRevisions() {
  pen.font = `500 10.5px ${colors.mono}`;
  let lastTick = -9;
  let free = -9;
  const first = Math.max(firstAtLeast(revisions, view.from, (made) => made.seen) - 1, 0);
  for (let index = first; index < revisions.length; index++) {
    const made = revisions[index];
    const x = xOf(made.seen);
    if (x > view.width) break;
    const chosen = state.chosen === made || state.chosen?.revision === made.revision;
    if (x - lastTick >= 2 || chosen) {
      pen.strokeStyle = chosen ? colors.ink : colors.ok;
      pen.lineWidth = chosen ? 2.5 : 1;
      line(x, 29, x, 36);
      pen.lineWidth = 1;
      lastTick = x;
    }
    // Of several at one place the last is named: it is the newest there.
    const next = revisions[index + 1];
    if (next && xOf(next.seen) - x < 2) continue;
    const text = String(made.revision);
    const width = text.length * 6.4;
    if (x - width / 2 < free) continue;
    pen.fillStyle = chosen ? colors.ink : colors.muted;
    pen.fillText(text, x - width / 2, 45);
    free = x + width / 2 + 7;
  }
}
