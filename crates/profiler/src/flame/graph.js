// Zooms to a frame that is clicked, and marks the frames whose names contain the text that is searched.
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

  for (const it of nodes) it.node.addEventListener("click", () => show(it));
  search.addEventListener("input", () => mark(search.value.trim().toLowerCase()));
  // Nothing has grown: there is nothing to show.
  if (nodes[0]?.width > 0) show(nodes[0]);
})();
