// How a capture goes: what it has received, how old each channel is, and what is missing.
export default {
  render({ model, el }) {
    const panel = fluxforgePanel(model, el);
    const title = document.createElement("div");
    const table = document.createElement("table");
    panel.body.append(title, table);
    panel.watch("state", (state) => {
      title.textContent = state.title || "";
      table.replaceChildren();
      for (const [name, value, warn] of state.rows || []) {
        const row = table.insertRow();
        const label = row.insertCell();
        label.className = "name note";
        label.textContent = name;
        const shown = row.insertCell();
        shown.textContent = value;
        if (warn) shown.className = "warn";
      }
    });
    return panel.close;
  },
};
