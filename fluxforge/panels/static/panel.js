// What all panels share: a frame around a body, a line of notes, and a button that stops them.
function fluxforgePanel(model, el) {
  const root = document.createElement("div");
  root.className = "fluxforge";
  const body = document.createElement("div");
  const foot = document.createElement("div");
  const note = document.createElement("span");
  note.className = "note";
  const stop = document.createElement("button");
  stop.textContent = "Stop";
  stop.onclick = () => model.send({ kind: "stop" });
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
    watch("running", (on) => { stop.disabled = !on; }),
  ];
  return { body, watch: (name, show) => ends.push(watch(name, show)), close: () => ends.forEach((end) => end()) };
}
