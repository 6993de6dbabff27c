// The whole run in small, above the timeline: how much went on, the faults, and which part is visible.

const small = byId("overview");
const brush = small.getContext("2d");
const overview = { width: 800, height: 46, drag: null };
const smallX = (at) => GUTTER + (at / runEnd) * (overview.width - GUTTER - 8);
const smallTime = (x) => clamp((x - GUTTER) / (overview.width - GUTTER - 8), 0, 1) * runEnd;

function drawOverview() {
  const { width, height } = overview;
  brush.clearRect(0, 0, width, height);
  brush.font = font(12, 650);
  brush.fillStyle = colors.ink;
  brush.textBaseline = "middle";
  brush.fillText("Whole run", 12, height / 2);
  brush.fillStyle = colors["fault-hit"];
  let covered = -1;
  for (const band of bands) {
    const left = Math.max(smallX(band.from), covered);
    const right = Math.max(smallX(band.until), smallX(band.from) + 1.5);
    if (right > left) brush.fillRect(left, 0, right - left, height);
    covered = Math.max(covered, right);
  }
  drawColumns();
  if (picture.part) {
    const [from, until] = picture.part.span;
    brush.strokeStyle = colors.muted;
    brush.setLineDash([3, 3]);
    brush.strokeRect(smallX(from), 2, smallX(until) - smallX(from), height - 4);
    brush.setLineDash([]);
  }
  drawMarks();
  const left = smallX(clamp(view.from, 0, runEnd));
  const right = Math.max(smallX(clamp(view.until, 0, runEnd)), left + 3);
  brush.globalAlpha = 0.6;
  brush.fillStyle = colors.card;
  brush.fillRect(GUTTER, 0, left - GUTTER, height);
  brush.fillRect(right, 0, width - right, height);
  brush.globalAlpha = 1;
  brush.strokeStyle = colors.ink;
  brush.lineWidth = 1.5;
  brush.strokeRect(left, 1, right - left, height - 2);
  brush.lineWidth = 1;
}

function drawColumns() {
  const { bucket, buckets } = picture.overview;
  const most = Math.max(1, ...buckets.map((three) => three[0] + three[1] + three[2]));
  buckets.forEach((three, index) => {
    const left = smallX(index * bucket);
    const wide = Math.max(smallX((index + 1) * bucket) - left, 1);
    let base = overview.height - 3;
    three.forEach((number, sort) => {
      if (number === 0) return;
      // One of a thousand is still to be seen.
      const high = Math.max((number / most) * (overview.height - 12), 1.5);
      brush.fillStyle = [colors.ok, colors["failed-line"], colors.unknown][sort];
      brush.fillRect(left, base - high, wide, high);
      base -= high;
    });
  });
}

function drawMarks() {
  brush.fillStyle = colors.named;
  for (const finding of findings) {
    if (!finding.span) continue;
    const x = smallX((finding.span[0] + finding.span[1]) / 2);
    brush.beginPath();
    brush.moveTo(x - 5, 0);
    brush.lineTo(x + 5, 0);
    brush.lineTo(x, 8);
    brush.fill();
  }
}

// Within the frame a drag moves it, elsewhere it draws a new one; a click brings the frame there.
function wireOverview() {
  small.addEventListener("pointerdown", (event) => {
    const at = smallTime(event.offsetX);
    const inside = at >= view.from && at <= view.until && view.until - view.from < runEnd;
    overview.drag = { at, inside, from: view.from, until: view.until, moved: false };
    small.setPointerCapture(event.pointerId);
  });
  small.addEventListener("pointermove", (event) => {
    const { drag } = overview;
    if (!drag) return;
    const at = smallTime(event.offsetX);
    if (Math.abs(smallX(at) - smallX(drag.at)) > 3) drag.moved = true;
    if (!drag.moved) return;
    if (drag.inside) show(drag.from + at - drag.at, drag.until + at - drag.at);
    else show(Math.min(at, drag.at), Math.max(at, drag.at));
  });
  small.addEventListener("pointerup", () => {
    const { drag } = overview;
    overview.drag = null;
    if (!drag || drag.moved) return;
    const half = Math.min(view.until - view.from, runEnd / 10) / 2;
    show(drag.at - half, drag.at + half);
  });
  small.addEventListener("dblclick", showAll);
}
