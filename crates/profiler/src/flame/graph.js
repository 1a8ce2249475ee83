// Zooms to a frame that is clicked or chosen by the keys, and marks the frames whose names contain the text that is searched.
(() => {
  const WIDTH = 1180, LEFT = 10, CHARACTER = 6.4;
  const nodes = [...document.querySelectorAll("g[data-w]")].map((node) => ({
    node,
    at: Number(node.dataset.x),
    width: Number(node.dataset.w),
    depth: Number(node.dataset.d),
    rect: node.querySelector("rect"),
    text: node.querySelector("text"),
    name: node.querySelector("title").textContent.split("\n")[0],
  }));
  const reading = document.getElementById("reading");
  const search = document.getElementById("search");

  const show = (focus) => {
    for (const it of nodes) {
      const isAbove = it.depth < focus.depth && it.at <= focus.at && it.at + it.width >= focus.at + focus.width;
      const isWithin = it.depth >= focus.depth && it.at >= focus.at && it.at + it.width <= focus.at + focus.width;
      it.node.style.display = isAbove || isWithin ? "" : "none";
      it.node.classList.toggle("above", isAbove);
      const at = isAbove ? 0 : (it.at - focus.at) / focus.width;
      const width = (isAbove ? 1 : it.width / focus.width) * WIDTH;
      it.rect.setAttribute("x", LEFT + at * WIDTH);
      it.rect.setAttribute("width", Math.max(width, .1));
      it.text.setAttribute("x", LEFT + at * WIDTH + 3);
      const most = Math.floor((width - 6) / CHARACTER);
      it.text.textContent = most < 3 ? "" : it.name.length <= most ? it.name : it.name.slice(0, most - 1) + "…";
    }
  };

  const mark = (wanted) => {
    let share = 0, end = -1;
    for (const it of nodes) {
      const isHit = wanted !== "" && it.name.toLowerCase().includes(wanted);
      it.node.classList.toggle("hit", isHit);
      // The frames are in depth-first order: one within an earlier hit is part of its share.
      if (isHit && it.at >= end) {
        share += it.width;
        end = it.at + it.width - 1e-9;
      }
    }
    reading.textContent = wanted === "" ? "" : `${(share * 100).toFixed(1)} % match`;
  };

  // The nearest frame of a depth in a direction, before one whose depth is below the least.
  const seek = (at, by, depth, least) => {
    for (at += by; nodes[at] && nodes[at].depth >= least; at += by) {
      if (nodes[at].depth === depth && nodes[at].node.style.display !== "none") return nodes[at];
    }
    return undefined;
  };
  // To the caller, to what it called most, and to the frames beside it.
  const MOVES = {
    ArrowUp: (at, depth) => seek(at, -1, depth - 1, 0),
    ArrowDown: (at, depth) => seek(at, 1, depth + 1, depth + 1),
    ArrowLeft: (at, depth) => seek(at, -1, depth, depth),
    ArrowRight: (at, depth) => seek(at, 1, depth, depth),
  };
  let focused = nodes[0];
  const focus = (it) => {
    focused.node.setAttribute("tabindex", "-1");
    focused = it;
    it.node.setAttribute("tabindex", "0");
    it.node.focus();
  };
  const press = (event) => {
    const at = nodes.indexOf(focused);
    if (event.key === "Enter" || event.key === " ") show(focused);
    else if (event.key === "Escape") show(nodes[0]);
    else if (MOVES[event.key]) focus(MOVES[event.key](at, focused.depth) || focused);
    else return;
    event.preventDefault();
  };

  for (const it of nodes) {
    it.node.addEventListener("click", () => show(it));
    it.node.addEventListener("keydown", press);
  }
  search.addEventListener("input", () => mark(search.value.trim().toLowerCase()));
  // Nothing has grown: there is nothing to show.
  if (nodes[0]?.width > 0) show(nodes[0]);
})();
