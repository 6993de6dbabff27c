// What the page carries (report/picture.rs), with names in place of positions, and times as text.

const picture = JSON.parse(document.getElementById("picture").textContent);
const SORTS = ["ok", "failed", "unknown"];
const OUTCOMES = ["answered", "failed, no effect", "unknown"];

const byId = (id) => document.getElementById(id);
const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const count = (number) => number.toLocaleString("en-US");

// An element with attributes and children. Text becomes text, never markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

function readOperation(list, lane) {
  const [id, row, member, from, returned, until, sort, revision, verb, request, answer] = list;
  return { what: "operation", id, row, member, from, returned, until, sort, revision, verb, request, answer, lane };
}

// A lane has its operations by row, so that those of a row follow each other in time.
function readLane(raw) {
  const lane = { what: "client", client: raw.client, name: raw.name, overview: raw.overview, operations: [], rows: [] };
  for (let row = 0; row < raw.rows; row++) lane.rows.push([]);
  for (const list of raw.operations) {
    const operation = readOperation(list, lane);
    operation.index = lane.operations.length;
    lane.operations.push(operation);
    lane.rows[operation.row].push(operation);
  }
  return lane;
}

// The watches of a lane follow each other, and so do all their messages.
function readWatches(raw) {
  const lane = { what: "watches", client: raw.client, name: raw.name, keys: raw.keys, watches: [], messages: [] };
  for (const one of raw.watches) {
    const watch = { ...one, what: "watch", client: raw.client, lane };
    watch.messages = one.messages.map(([at, revision, sort, first, last, text]) => ({
      what: "message", at, revision, sort, first, last, text, watch, lane,
    }));
    for (const message of watch.messages) message.index = lane.messages.push(message) - 1;
    lane.watches.push(watch);
  }
  return lane;
}

const lanes = picture.lanes.map(readLane);
const watchLanes = picture.watches.map(readWatches);
const watches = watchLanes.flatMap((lane) => lane.watches);
const strips = picture.strips.map((strip) => ({
  ...strip,
  what: "member",
  states: strip.states.map(([from, until, role, term]) => ({ from, until, role, term })),
}));
const bands = picture.bands.map((band) => ({ ...band, words: band.what, what: "fault" }));
const revisions = picture.revisions.map(([revision, called, operation, seen]) => ({
  what: "revision", revision, called, operation, seen,
}));
const operationsById = new Map();
for (const lane of lanes) for (const operation of lane.operations) operationsById.set(operation.id, operation);
const watchesById = new Map(watches.map((watch) => [watch.id, watch]));
const findings = picture.findings.map((finding) => ({
  ...finding,
  operations: finding.operations.map((id) => operationsById.get(id)).filter(Boolean),
  watches: finding.watches.map((id) => watchesById.get(id)).filter(Boolean),
}));
const runEnd = picture.run.length;

// The first of a sorted list for which `key` is at least `value`.
function firstAtLeast(list, value, key) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(list[middle]) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// A moment of the run, to what `step` nanoseconds tell apart.
function moment(at, step = 1e3) {
  const digits = clamp(9 - Math.floor(Math.log10(step) + 1e-9), 0, 9);
  return `${(at / 1e9).toFixed(digits)} s`;
}

function duration(length) {
  if (length === 0) return "a moment";
  const units = [[3.6e12, "h"], [6e10, "min"], [1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
  for (const [size, name] of units) {
    if (length >= size) return `${Number((length / size).toPrecision(4))} ${name}`;
  }
  return `${length} ns`;
}

function lasted(operation) {
  return operation.returned === null ? "no answer" : duration(operation.returned - operation.from);
}
