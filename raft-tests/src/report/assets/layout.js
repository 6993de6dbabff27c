// Where everything stands: the visible time, and the tracks below each other.

const GUTTER = 150;
const HEAD = 54;
const ROW = 15;
const SPAN_MIN = 2000;

const view = { from: 0, until: runEnd, width: 800, height: 400, scroll: 0 };
const plotWidth = () => Math.max(view.width - GUTTER - 8, 50);
const xOf = (at) => GUTTER + ((at - view.from) / (view.until - view.from)) * plotWidth();
const timeOf = (x) => view.from + ((x - GUTTER) / plotWidth()) * (view.until - view.from);
const perPixel = () => (view.until - view.from) / plotWidth();

// The tracks from top to bottom, and how high all of them are. A heading stands before each sort.
function layOut() {
  const tracks = [];
  let top = 4;
  const add = (what, height, item, name, more) => {
    tracks.push({ what, top, height, item, name, more });
    top += height;
  };
  const heading = (name) => { top += 4; add("heading", 20, null, name); };
  if (bands.length > 0) {
    heading("Faults");
    add("faults", (Math.max(...bands.map((band) => band.row)) + 1) * 20 + 2, bands, "");
  }
  if (strips.length > 0) heading("Members");
  for (const strip of strips) add("member", 42, strip, `member ${strip.member}`, "applied");
  if (lanes.length > 0) heading("Clients");
  for (const lane of lanes) add("client", lane.rows.length * ROW + 9, lane, lane.name);
  if (watchLanes.length > 0) heading("Watches");
  for (const lane of watchLanes) add("watches", 24, lane, lane.name, lane.keys);
  return { tracks, height: top + 8 };
}

const layout = layOut();
const trackOf = (item) => layout.tracks.find((track) => track.item === item);

// Shows this time, within the run and not closer than can be told apart.
function show(from, until) {
  const least = Math.min(SPAN_MIN, runEnd);
  const room = runEnd * 0.02;
  const span = clamp(until - from, least, runEnd + 2 * room);
  const start = clamp((from + until - span) / 2, -room, runEnd + room - span);
  view.from = start;
  view.until = start + span;
  changed();
}

const showAll = () => show(-runEnd * 0.01, runEnd * 1.01);

// Zooms by a factor, and keeps what stands at `x` where it is.
function zoom(factor, x = GUTTER + plotWidth() / 2) {
  const at = timeOf(x);
  const span = clamp((view.until - view.from) * factor, Math.min(SPAN_MIN, runEnd), runEnd * 1.04);
  const share = (x - GUTTER) / plotWidth();
  show(at - span * share, at + span * (1 - share));
}

function pan(pixels) {
  const by = pixels * perPixel();
  const span = view.until - view.from;
  const start = clamp(view.from + by, -runEnd * 0.02, runEnd * 1.02 - span);
  show(start, start + span);
}

// Shows an item with some of what is around it.
function showItem(from, until) {
  const span = Math.max((until - from) * 3, runEnd / 400, SPAN_MIN * 5);
  const middle = (from + until) / 2;
  show(middle - span / 2, middle + span / 2);
}

function scrollTo(item) {
  const track = item && trackOf(item);
  if (!track) return;
  const plot = byId("plot");
  const room = plot.clientHeight - HEAD;
  if (track.top < plot.scrollTop) plot.scrollTop = Math.max(track.top - 30, 0);
  else if (track.top + track.height > plot.scrollTop + room) plot.scrollTop = track.top + track.height - room + 20;
}

// What stands at a place of the canvas, in pixels.
function itemAt(x, y) {
  if (x < GUTTER) return null;
  if (y < HEAD) return y > 27 ? revisionAt(x) : null;
  const down = y - HEAD + view.scroll;
  const track = layout.tracks.find((one) => down >= one.top && down < one.top + one.height);
  if (!track) return null;
  switch (track.what) {
    case "client": return operationAt(track, x, down);
    case "watches": return messageAt(track.item, x) ?? watchAt(track.item, x);
    case "faults": return bandAt(track, x, down);
    case "member": return stateAt(track.item, x);
    default: return null;
  }
}

function operationAt(track, x, down) {
  const row = track.item.rows[Math.floor((down - track.top - 4) / ROW)] ?? [];
  const around = firstAtLeast(row, timeOf(x), (operation) => operation.from);
  let best = null;
  let closest = 5;
  for (let index = Math.max(around - 9, 0); index < Math.min(around + 3, row.length); index++) {
    const operation = row[index];
    const left = xOf(operation.from);
    const right = Math.max(xOf(operation.until), left + 3);
    const away = x < left ? left - x : Math.max(x - right, 0);
    // What has to do with a violation is easier to hit than what covers it.
    const weight = away - (isNamed(operation) ? 3 : 0);
    if (weight <= closest) { closest = weight; best = operation; }
  }
  return best;
}

function nearestBy(list, x, key, reach) {
  const around = firstAtLeast(list, timeOf(x), key);
  const near = list.slice(Math.max(around - 1, 0), around + 1);
  near.sort((one, other) => Math.abs(xOf(key(one)) - x) - Math.abs(xOf(key(other)) - x));
  return near.length > 0 && Math.abs(xOf(key(near[0])) - x) <= reach ? near[0] : null;
}

const revisionAt = (x) => nearestBy(revisions, x, (made) => made.seen, 6);
const messageAt = (lane, x) => nearestBy(lane.messages, x, (message) => message.at, 6);
const watchAt = (lane, x) => lane.watches.find((watch) => x >= xOf(watch.from) - 3 && x <= xOf(watch.until) + 3) ?? null;

function bandAt(track, x, down) {
  const row = Math.floor((down - track.top) / 20);
  const hit = bands.filter((band) => band.row === row && x >= xOf(band.from) - 3 && x <= Math.max(xOf(band.until), xOf(band.from)) + 3);
  return hit.at(-1) ?? null;
}

function stateAt(strip, x) {
  const at = timeOf(x);
  const state = strip.states.find((one) => at >= one.from && at < one.until);
  if (!state) return null;
  const next = firstAtLeast(strip.applied, at + 1, (point) => point[0]);
  return { what: "state", ...state, strip, applied: strip.applied[next - 1]?.[1] ?? 0 };
}
