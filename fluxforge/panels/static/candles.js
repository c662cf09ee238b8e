// Candles and volume that go on: a whole chart first, then only the bars that changed.
export default {
  render({ model, el }) {
    const panel = fluxforgePanel(model, el);
    const title = document.createElement("div");
    const host = document.createElement("div");
    host.style.cssText = "width:720px;height:340px";
    panel.body.append(title, host);
    const ink = "#808080";
    const chart = LightweightCharts.createChart(host, {
      layout: { background: { color: "transparent" }, textColor: ink, attributionLogo: true },
      grid: { vertLines: { color: "rgba(128,128,128,.2)" }, horzLines: { color: "rgba(128,128,128,.2)" } },
      timeScale: { timeVisible: true, secondsVisible: true },
      localization: { timeFormatter: (t) => new Date(t * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC" },
      width: 720, height: 340,
    });
    const candles = chart.addSeries(LightweightCharts.CandlestickSeries, {
      upColor: "#26a69a", downColor: "#ef5350", wickUpColor: "#26a69a", wickDownColor: "#ef5350", borderVisible: false,
    });
    const volume = chart.addSeries(LightweightCharts.HistogramSeries, { priceScaleId: "", priceFormat: { type: "volume" } });
    volume.priceScale().applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    const bar = (b) => ({ time: b[0], open: b[1], high: b[2], low: b[3], close: b[4] });
    const amount = (b) => ({ time: b[0], value: b[5], color: b[4] >= b[1] ? "rgba(38,166,154,.5)" : "rgba(239,83,80,.5)" });
    panel.watch("state", (state) => {
      title.textContent = `${state.title || ""} (UTC)`;
      const bars = state.bars || [];
      if (state.whole) { candles.setData(bars.map(bar)); volume.setData(bars.map(amount)); chart.timeScale().fitContent(); }
      else bars.forEach((b) => { candles.update(bar(b)); volume.update(amount(b)); });
    });
    const close = panel.close;
    return () => { close(); chart.remove(); };
  },
};
