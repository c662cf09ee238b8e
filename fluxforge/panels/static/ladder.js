// An order book: one row a level, redrawn only where it changed.
export default {
  render({ model, el }) {
    const panel = fluxforgePanel(model, el);
    const table = panel.make("table", "ladder");
    const title = table.createCaption();
    const rows = new Map();
    panel.body.append(table);
    const draw = (key, kind, level) => {
      let row = rows.get(key);
      if (!row) {
        row = table.insertRow();
        row.dataset.level = key;
        rows.set(key, row);
        [kind, "size", "bar"].forEach((name) => { row.insertCell().className = name; });
        row.cells[2].append(panel.make("div", kind));
      }
      const [price, size, share] = level || ["", "", 0];
      const [a, b, c] = row.cells;
      if (a.textContent === price && b.textContent === size) return;
      a.textContent = price;
      b.textContent = size;
      c.firstChild.style.width = `${share}%`;
      row.classList.remove("changed");
      void row.offsetWidth;  // so that the animation begins anew
      row.classList.add("changed");
    };
    panel.watch("state", (state) => {
      title.textContent = state.title || "";
      const depth = state.depth || 0;
      if (!depth) return;  // nothing is read yet
      for (let i = depth; i >= 1; i--) draw(`ask${i}`, "ask", (state.asks || [])[i - 1]);
      draw("mid", "mid", state.mid ? [state.mid, state.spread, 0] : null);
      for (let i = 1; i <= depth; i++) draw(`bid${i}`, "bid", (state.bids || [])[i - 1]);
    });
    return panel.close;
  },
};
