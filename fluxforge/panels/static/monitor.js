// How a capture goes: what it has received, how old each channel is, and what is missing.
export default {
  render({ model, el }) {
    const panel = fluxforgePanel(model, el);
    const title = panel.make("div", "title");
    const dot = panel.make("span", "dot");
    const words = panel.make("span", "");
    title.append(dot, words);
    const error = panel.make("div", "warn");
    const table = panel.make("table", "monitor");
    const ages = panel.make("div", "ages");
    const segment = panel.make("div", "note");
    panel.body.append(title, error, table, ages, segment);
    const fill = (row, cells, kind = "td") => cells.forEach((text) => row.append(panel.make(kind, "", text)));
    panel.watch("state", (state) => {
      words.textContent = state.title || "waiting for the capture";
      dot.className = `dot ${state.error ? "failed" : state.running ? "on" : ""}`;
      error.textContent = state.error || "";
      segment.textContent = state.segment ? `writing ${state.segment}` : "";
      table.replaceChildren();
      if (state.head) fill(table.insertRow(), state.head, "th");
      (state.rows || []).forEach((cells, i) => {
        const row = table.insertRow();
        fill(row, cells);
        if ((state.warn || [])[i]) { row.cells[5].className = "warn"; row.cells[6].className = "warn"; }
      });
      ages.replaceChildren(...(state.ages || []).map(([name, age, old]) => panel.make("span", old ? "warn" : "note", `${name} ${age}`)));
    });
    return panel.close;
  },
};
