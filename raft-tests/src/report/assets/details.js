// What is chosen, in words: the panel beside the timeline, the tip under the pointer, and the tables below.

const list = (pairs) => make("dl", {}, ...pairs.filter(([, value]) => value !== undefined && value !== "")
  .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
const button = (text, onclick) => make("button", { type: "button", onclick }, text);
const key = (sort) => make("i", { class: `key ${SORTS[sort]}` });
const membersOf = (ids) => (ids.length === 0 ? "all" : ids.join(", "));

function operationLink(id) {
  const operation = operationsById.get(id);
  if (!operation) return `operation ${id}`;
  return make("a", { href: `#op-${id}` }, `${operation.lane.name}: ${operation.request.slice(0, 120)}`);
}

// For each sort of item: a title, a line below it, and what there is to know.
const DETAILS = {
  operation(operation) {
    const { lane } = operation;
    return [
      make("h3", {}, `${lane.name[0].toUpperCase()}${lane.name.slice(1)}, operation ${operation.id}`),
      make("p", { class: "state" }, key(operation.sort), OUTCOMES[operation.sort]),
      make("h4", {}, "Request"), make("pre", { id: "request" }, operation.request),
      make("h4", {}, ["Response", "Failure", "What became of it"][operation.sort]), make("pre", { id: "response" }, operation.answer || "no answer"),
      list([
        ["Revision", operation.revision ? String(operation.revision) : undefined],
        ["Member", String(operation.member)],
        ["Called", moment(operation.from)],
        ["Returned", operation.returned === null ? "never" : moment(operation.returned)],
        ["Took", lasted(operation)],
      ]),
      make("div", { class: "buttons" },
        button("Zoom to it", () => showItem(operation.from, operation.until)),
        button("Previous", () => step(-1)), button("Next", () => step(1))),
    ];
  },
  message(message) {
    const { watch } = message;
    return [
      make("h3", {}, `Watch ${watch.id} of ${watch.lane.name}: ${message.sort}`),
      make("p", { class: "state" }, watch.title),
      make("pre", {}, message.text || message.sort),
      list([["Revision", String(message.revision)], ["Arrived", moment(message.at)], ["Member", String(watch.member)]]),
      make("div", { class: "buttons" },
        button("Previous", () => step(-1)), button("Next", () => step(1)), button("The watch", () => choose(watch))),
    ];
  },
  watch(watch) {
    const events = watch.messages.filter((message) => message.sort === "events");
    return [
      make("h3", {}, `Watch ${watch.id} of ${watch.lane.name}`),
      make("pre", {}, watch.title),
      list([
        ["Member", String(watch.member)], ["Began", moment(watch.from)],
        ["Ended", watch.open ? "with the run" : moment(watch.until)],
        ["Messages", count(watch.messages.length)], ["with events", count(events.length)],
      ]),
    ];
  },
  fault(band) {
    return [
      make("h3", {}, band.kind), make("pre", {}, band.words),
      list([
        ["Members", membersOf(band.members)], ["From", moment(band.from)],
        ["Until", band.open ? "the end of the run" : moment(band.until)], ["Lasted", duration(band.until - band.from)],
      ]),
      make("div", { class: "buttons" }, button("Zoom to it", () => showItem(band.from, band.until))),
    ];
  },
  state(state) {
    return [
      make("h3", {}, `Member ${state.strip.member}: ${state.role.toLowerCase()}`),
      list([
        ["Term", String(state.term)], ["Id", state.strip.id === state.strip.member ? undefined : state.strip.id], ["Applied", state.applied ? count(state.applied) : "not known"],
        ["From", moment(state.from)], ["Until", moment(state.until)],
      ]),
    ];
  },
  revision(made) {
    const deliveries = watches.flatMap((watch) => watch.messages
      .filter((message) => message.first && message.first <= made.revision && message.last >= made.revision)
      .slice(0, 1));
    return [
      make("h3", {}, `Revision ${made.revision}`),
      list([
        ["Made by", made.operation === null ? "a call without an answer, or before the run" : operationLink(made.operation)],
        ["Not before", made.called === null ? undefined : moment(made.called)],
        ["First seen", moment(made.seen)],
      ]),
      deliveries.length > 0 ? make("h4", {}, "Arrived at watches") : undefined,
      make("ul", {}, ...deliveries.slice(0, 40).map((message) => make("li", {}, `${moment(message.at)}, watch ${message.watch.id} of ${message.watch.lane.name}`))),
    ].filter(Boolean);
  },
};

function drawDetails() {
  const panel = byId("details");
  const chosen = state.chosen;
  if (chosen) { panel.replaceChildren(...DETAILS[chosen.what](chosen)); return; }
  panel.replaceChildren(
    make("h3", {}, "Nothing chosen"),
    make("p", { class: "muted" }, "Click anything in the timeline, or move with n and p: an operation, a fault, a member's role, a watch or one of its messages, a revision."));
}

function tipFor(item) {
  switch (item.what) {
    case "operation": return [`${item.request.slice(0, 300)}`, `${OUTCOMES[item.sort]}${item.answer ? ": " : ""}${item.answer.slice(0, 300)}`,
      `${item.lane.name} to member ${item.member}, ${lasted(item)}${item.revision ? `, revision ${item.revision}` : ""}`];
    case "message": return [item.sort, item.text.slice(0, 300), `revision ${item.revision}, ${moment(item.at)}`];
    case "watch": return [`watch ${item.id} of ${item.lane.name}`, item.title];
    case "fault": return [item.kind, item.words, duration(item.until - item.from)];
    case "state": return [`member ${item.strip.member}: ${item.role.toLowerCase()}, term ${item.term}`, item.applied ? `applied ${count(item.applied)}` : ""];
    case "revision": return [`revision ${item.revision}`, `first seen at ${moment(item.seen)}`];
    default: return [];
  }
}

function showTip(item, x, y) {
  const tip = byId("tip");
  tip.hidden = !item;
  if (!item) return;
  const [title, ...lines] = tipFor(item);
  tip.replaceChildren(make("b", {}, title), ...lines.filter(Boolean).map((text) => make("div", {}, text)));
  const box = tip.getBoundingClientRect();
  tip.style.left = `${clamp(x + 14, 6, innerWidth - box.width - 6)}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18}px`;
}

// One sentence for who does not see the picture.
function sayChosen() {
  const chosen = state.chosen;
  byId("said").textContent = chosen ? tipFor(chosen).filter(Boolean).join("; ") : "";
}

const ROWS_MAX = 60;

function drawRows() {
  const inView = lanes.flatMap((lane) => {
    const first = Math.max(firstAtLeast(lane.operations, view.from, (one) => one.from) - 8, 0);
    const end = firstAtLeast(lane.operations, view.until, (one) => one.from);
    return lane.operations.slice(first, end).filter((one) => one.until >= view.from);
  });
  inView.sort((one, other) => one.from - other.from || one.id - other.id);
  byId("operation-rows").replaceChildren(...inView.slice(0, ROWS_MAX).map(operationRow));
  const more = inView.length - ROWS_MAX;
  byId("operations-more").textContent = more > 0 ? `and ${count(more)} more: zoom in to see them here` : "";
}

function operationRow(operation) {
  const chosen = state.chosen === operation ? "chosen" : undefined;
  return make("tr", { class: chosen },
    make("td", {}, key(operation.sort), button(moment(operation.from), () => choose(operation))),
    make("td", {}, lasted(operation)), make("td", {}, operation.lane.name.replace(/^client /, "")), make("td", {}, String(operation.member)),
    make("td", { class: "mono" }, operation.request.slice(0, 200)),
    make("td", {}, operation.sort === 0 ? operation.answer.slice(0, 200) : `${OUTCOMES[operation.sort]}: ${operation.answer.slice(0, 200)}`),
    make("td", {}, operation.revision ? String(operation.revision) : ""));
}

const FAULTS_MAX = 500;

function drawFaultRows() {
  byId("faults").hidden = bands.length === 0;
  byId("fault-rows").replaceChildren(...bands.slice(0, FAULTS_MAX).map((band) => make("tr", {},
    make("td", {}, button(moment(band.from), () => { choose(band); showItem(band.from, band.until); byId("plot").scrollIntoView({ block: "nearest" }); })),
    make("td", {}, band.open ? "to the end" : duration(band.until - band.from)),
    make("td", {}, band.kind), make("td", {}, membersOf(band.members)), make("td", {}, band.words))));
  byId("faults-more").textContent = bands.length > FAULTS_MAX ? `and ${count(bands.length - FAULTS_MAX)} more, in faults.json` : "";
}

function drawDumpRows() {
  const dumps = picture.dumps;
  byId("dumps").hidden = dumps.length === 0;
  const words = (dump) => [...dump.differences, ...(dump.more > 0 ? [`and ${count(dump.more)} more, in recording.json`] : [])];
  const same = (dump, index) => (index === 0 ? "" : "the same as the first");
  byId("dump-rows").replaceChildren(...dumps.map((dump, index) => make("tr", {},
    make("td", {}, dump.member), make("td", {}, count(dump.revision)), make("td", {}, count(dump.compacted)), make("td", {}, count(dump.keys)),
    make("td", {}, ...(words(dump).length > 0 ? [make("ul", {}, ...words(dump).map((text) => make("li", {}, text)))] : [same(dump, index)])))));
}
