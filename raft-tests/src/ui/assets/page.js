"use strict";
// Asks for the state a few times a second, shows it, and sends what is clicked.

const POLL_MS = 250;
const SHOWN_NS = 10e9;
const byId = (id) => document.getElementById(id);
let state = null;
let cameAt = 0;

function make(tag, attributes = {}, ...children) {
  const svg = ["g", "line", "circle", "text"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function complain(text) {
  const trouble = byId("trouble");
  trouble.hidden = !text;
  trouble.textContent = text;
}

async function act(action) {
  try {
    const answer = await fetch("act", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(action) });
    complain(answer.ok ? "" : await answer.text());
  } catch {
    complain("The test does not answer any more.");
  }
  await refresh();
}

const isCut = (one, other) => state.cuts.some(([a, b]) => a === Math.min(one, other) && b === Math.max(one, other));
const others = (index) => state.members.map((_, other) => other).filter((other) => other !== index);
const isAlone = (index) => others(index).every((other) => isCut(index, other));
const look = (node) => (node.condition === "paused" ? "paused" : node.role.toLowerCase());

// The corner of a polygon for each member; the first stands on top.
function place(index) {
  const angle = (index / state.members.length) * 2 * Math.PI - Math.PI / 2;
  return [230 + 140 * Math.cos(angle), 205 + 140 * Math.sin(angle)];
}

// Built once, so that what has the focus keeps it; after that only classes and words change.
let built = null;

function build() {
  const links = [];
  const picture = byId("picture");
  for (let one = 0; one < state.members.length; one++) {
    for (let other = one + 1; other < state.members.length; other++) links.push(buildLink(one, other));
  }
  const nodes = state.members.map((_, index) => buildNode(index));
  picture.replaceChildren(...links.map((link) => link.group), ...nodes.map((node) => node.group));
  const cards = state.members.map((_, index) => buildCard(index));
  byId("members").replaceChildren(...cards.map((card) => card.card));
  return { links, nodes, cards };
}

function buildLink(one, other) {
  const [x1, y1] = place(one);
  const [x2, y2] = place(other);
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const toggle = () => act({ [isCut(one, other) ? "heal" : "cut"]: [one, other] });
  const onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); } };
  const group = make("g", { class: "link", role: "button", tabindex: 0, onclick: toggle, onkeydown, "data-link": `${one}-${other}` },
    make("line", { class: "hit", x1, y1, x2, y2 }), make("line", { class: "wire", x1, y1, x2, y2 }),
    make("line", { class: "cross", x1: x - 8, y1: y - 8, x2: x + 8, y2: y + 8 }),
    make("line", { class: "cross", x1: x - 8, y1: y + 8, x2: x + 8, y2: y - 8 }));
  return { group, one, other };
}

function buildNode(index) {
  const [x, y] = place(index);
  const role = make("text", { class: "small", x, y: y + 17 });
  const group = make("g", { class: "node" }, make("circle", { cx: x, cy: y, r: 48 }), make("text", { x, y: y - 1 }, state.members[index].name), role);
  return { group, role };
}

function buildCard(index) {
  const role = make("span", { class: "role" });
  const figures = Object.fromEntries(["term", "revision", "applied"].map((name) => [name, make("dd")]));
  const button = (onclick) => make("button", { type: "button", onclick });
  const running = () => state.members[index].condition !== "stopped";
  const kill = button(() => act({ [running() ? "kill" : "start"]: index }));
  const pause = button(() => act({ [state.members[index].condition === "paused" ? "resume" : "pause"]: index }));
  const alone = button(async () => {
    const sort = isAlone(index) ? "heal" : "cut";
    for (const other of others(index)) await act({ [sort]: [index, other] });
  });
  const list = make("dl", {}, ...Object.entries(figures).map(([name, figure]) => make("div", {}, make("dt", {}, name), figure)));
  const name = state.members[index].name;
  const card = make("article", { class: "member", "aria-label": `member ${name}` }, make("h3", {}, `member ${name}`, role), list, make("div", { class: "buttons" }, kill, pause, alone));
  return { card, role, figures, kill, pause, alone };
}

function show() {
  built ??= build();
  for (const { group, one, other } of built.links) {
    const cut = isCut(one, other);
    group.classList.toggle("cut", cut);
    group.setAttribute("aria-pressed", String(cut));
    group.setAttribute("aria-label", `link between ${state.members[one].name} and ${state.members[other].name}, ${cut ? "cut" : "whole"}`);
  }
  state.members.forEach((node, index) => {
    const card = built.cards[index];
    const seen = look(node);
    built.nodes[index].group.setAttribute("class", `node ${seen}`);
    built.nodes[index].role.textContent = seen === "leader" ? `leads term ${node.term}` : seen;
    card.role.className = `role ${seen}`;
    card.role.textContent = seen;
    // A member that says nothing has no figures.
    for (const [name, figure] of Object.entries(card.figures)) figure.textContent = node[name] ? node[name].toLocaleString("en-US") : "–";
    card.kill.textContent = node.condition === "stopped" ? "Start" : "Kill";
    card.pause.textContent = node.condition === "paused" ? "Resume" : "Pause";
    card.pause.disabled = node.condition === "stopped";
    card.alone.textContent = isAlone(index) ? "Join" : "Cut off";
    card.alone.setAttribute("aria-pressed", String(isAlone(index)));
  });
  showFindings();
  tell();
}

let shownFindings = "";
function showFindings() {
  const key = state.findings.join("\n");
  if (key === shownFindings) return;
  shownFindings = key;
  byId("findings").hidden = state.findings.length === 0;
  byId("findings").querySelector("ul").replaceChildren(...state.findings.map((words) => make("li", {}, words)));
}

// One sentence on who leads and what is wrong.
function tell() {
  const leaders = state.members.filter((node) => look(node) === "leader");
  const newest = leaders.toSorted((one, other) => other.term - one.term)[0];
  const rest = leaders.filter((node) => node !== newest).map((node) => node.name);
  const wrong = [
    ...state.members.filter((node) => node.condition !== "running").map((node) => `${node.name} is ${node.condition}`),
    ...(state.cuts.length > 0 ? [`${state.cuts.length} ${state.cuts.length === 1 ? "link is" : "links are"} cut`] : []),
    ...(rest.length > 0 ? [`${rest.join(" and ")} ${rest.length === 1 ? "does" : "do"} not know yet that this is over`] : []),
  ];
  const text = `${newest ? `Member ${newest.name} leads term ${newest.term}` : "Nobody leads"}${wrong.length > 0 ? `; ${wrong.join(", ")}` : ""}.`;
  if (byId("story").textContent !== text) byId("story").textContent = text;
}

function drawLanes() {
  requestAnimationFrame(drawLanes);
  if (!state) return;
  const canvas = byId("lanes");
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, state.lanes.length * 24 + 6];
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`);
  // The clock of the cluster, carried on between two answers.
  const now = state.now + (performance.now() - cameAt) * 1e6;
  const x = (at) => 84 + ((at - now + SHOWN_NS) / SHOWN_NS) * (width - 92);
  state.lanes.forEach((lane, index) => drawLane(pen, lane, index * 24 + 4, x, width, color));
}

function drawLane(pen, lane, y, x, width, color) {
  pen.save();
  pen.beginPath();
  pen.rect(82, y - 2, width - 82, 20);
  pen.clip();
  for (const call of lane.calls) {
    const left = x(call.from);
    const right = Math.max(call.until === null ? width - 8 : x(call.until), left + 2);
    if (right < 82) continue;
    pen.fillStyle = color({ ok: "ok", failed: "failed", unknown: "unknown", open: "line" }[call.sort]);
    pen.beginPath();
    pen.roundRect(left, y, right - left, 15, right - left > 6 ? 3 : 0);
    pen.fill();
    if (call.sort === "failed") { pen.strokeStyle = color("failed-line"); pen.stroke(); }
    if (call.sort === "unknown") {
      const fade = pen.createLinearGradient(right, 0, right + 50, 0);
      fade.addColorStop(0, color("unknown"));
      fade.addColorStop(1, "transparent");
      pen.fillStyle = fade;
      pen.fillRect(right - 1, y + 4, 50, 7);
    }
  }
  pen.restore();
  pen.fillStyle = color("ink");
  pen.font = `12.5px ${color("text")}`;
  pen.textBaseline = "middle";
  pen.fillText(`client ${lane.client}`, 2, y + 8);
}

async function refresh() {
  const answer = await fetch("state").then((came) => (came.ok ? came.json() : null), () => null);
  if (!answer) {
    byId("story").textContent = "The test does not answer any more.";
    return;
  }
  state = answer;
  cameAt = performance.now();
  show();
}

async function poll() {
  await refresh();
  setTimeout(poll, POLL_MS);
}

poll();
requestAnimationFrame(drawLanes);
