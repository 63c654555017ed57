"use strict";
// Names the values under the pointer. The page says the same without it.
const round = v => Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : +v.toPrecision(4);
const bytes = v => { let i = 0; while (v >= 1024 && i < 4) { v /= 1024; i++; } return round(v) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][i]; };
const shown = (v, unit) => unit === "bytes" ? bytes(v) : unit === "1/s" ? round(v) + "/s" : round(v) + (unit ? " " + unit : "");
const across = {
  time: v => "at " + round(v) + " s",
  value: v => round(v) + " ms",
  spectrum: v => +(100 * (1 - Math.pow(10, -v))).toFixed(Math.max(2, Math.ceil(v))) + " % below",
};
for (const chart of document.querySelectorAll("[data-chart]")) {
  const data = JSON.parse(chart.dataset.chart);
  const plot = chart.querySelector(".plot");
  const line = plot.appendChild(document.createElement("div"));
  line.className = "pointer";
  const box = plot.appendChild(document.createElement("div"));
  box.className = "values";
  const nearest = (points, at) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (points[middle][0] < at) low = middle; else high = middle; }
    return at - points[low][0] < points[high][0] - at ? points[low] : points[high];
  };
  const show = event => {
    const area = plot.getBoundingClientRect();
    const at = Math.min(1, Math.max(0, (event.clientX - area.left) / area.width));
    const found = data.lines.map(([name, points], index) => [name, points.length ? nearest(points, at) : null, index]).filter(it => it[1]);
    if (!found.length) return;
    const first = found.reduce((a, b) => Math.abs(a[1][0] - at) <= Math.abs(b[1][0] - at) ? a : b)[1];
    box.replaceChildren();
    const head = box.appendChild(document.createElement("b"));
    head.textContent = across[data.across](first[1]);
    for (const [name, point, index] of found) {
      const row = box.appendChild(document.createElement("div"));
      row.appendChild(document.createElement("i")).className = "c" + index;
      row.append((name && name + "  ") + shown(point[2], data.unit));
    }
    line.style.left = first[0] * 100 + "%";
    box.style.left = first[0] > 0.5 ? "auto" : first[0] * 100 + "%";
    box.style.right = first[0] > 0.5 ? (1 - first[0]) * 100 + "%" : "auto";
    chart.classList.add("active");
  };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", () => chart.classList.remove("active"));
}
