// What all panels share: a frame around a body, a line of notes, and a button that stops them.
function fluxforgePanel(model, el) {
  if (!document.getElementById("fluxforge-saved")) {
    // The table for those who read the saved notebook is of no use beside the widget itself.
    const style = document.createElement("style");
    style.id = "fluxforge-saved";
    style.textContent = ".fluxforge-saved { display: none; }";
    document.head.append(style);
  }
  const make = (name, kind, text = "") => Object.assign(document.createElement(name), { className: kind, textContent: text });
  const root = make("div", "fluxforge");
  const body = make("div", "body");
  const foot = make("div", "foot");
  const note = make("span", "note");
  const stop = make("button", "stop", "Stop");
  stop.onclick = () => { stop.disabled = true; model.send({ kind: "stop" }); };
  foot.append(stop, note);
  root.append(body, foot);
  el.append(root);
  const watch = (name, show) => {
    const update = () => show(model.get(name));
    model.on(`change:${name}`, update);
    update();
    return () => model.off(`change:${name}`, update);
  };
  const ends = [
    watch("note", (text) => { note.textContent = text; }),
    watch("running", (on) => { stop.disabled = !on; stop.textContent = on ? "Stop" : "Stopped"; }),
  ];
  return { body, foot, make, watch: (name, show) => ends.push(watch(name, show)), close: () => ends.forEach((end) => end()) };
}
