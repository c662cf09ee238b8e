// Candles and volume that go on: a whole chart first, then only the bars that changed.
export default {
  render({ model, el }) {
    const panel = fluxforgePanel(model, el);
    const title = panel.make("div", "title");
    const host = panel.make("div", "chart");
    panel.body.append(title, host);
    const credit = panel.make("a", "credit", "Charts by TradingView Lightweight Charts™");
    Object.assign(credit, { href: "https://www.tradingview.com/", target: "_blank", rel: "noopener" });
    panel.foot.append(credit);
    const ink = "#808080", faint = "rgba(128,128,128,.2)", up = "#26a69a", down = "#ef5350";
    const clock = (t) => new Date(t * 1000).toISOString();
    const chart = LightweightCharts.createChart(host, {
      autoSize: true,
      layout: { background: { color: "transparent" }, textColor: ink, attributionLogo: true },
      grid: { vertLines: { color: faint }, horzLines: { color: faint } },
      rightPriceScale: { borderColor: faint },
      timeScale: { timeVisible: true, secondsVisible: true, borderColor: faint },
      localization: { timeFormatter: (t) => clock(t).replace("T", " ").slice(0, 19) + " UTC" },
    });
    const candles = chart.addSeries(LightweightCharts.CandlestickSeries, {
      upColor: up, downColor: down, wickUpColor: up, wickDownColor: down, borderVisible: false,
    });
    const volume = chart.addSeries(LightweightCharts.HistogramSeries, {
      priceScaleId: "", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    volume.priceScale().applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    const bar = (b) => ({ time: b[0], open: b[1], high: b[2], low: b[3], close: b[4] });
    const amount = (b) => ({ time: b[0], value: b[5], color: b[4] >= b[1] ? `${up}80` : `${down}80` });
    const shown = new Map();
    let last = 0;
    panel.watch("state", (state) => {
      title.textContent = state.title || "";
      const bars = state.bars || [];
      const fresh = bars.filter((b) => shown.get(b[0]) !== String(b));
      host.dataset.bars = bars.length;
      if (!fresh.length) return;
      if (!shown.size || fresh.some((b) => b[0] < last && !shown.has(b[0]))) {
        candles.setData(bars.map(bar));
        volume.setData(bars.map(amount));
        if (!shown.size) chart.timeScale().fitContent();
      } else {
        for (const b of fresh) { candles.update(bar(b), b[0] < last); volume.update(amount(b), b[0] < last); }
      }
      for (const b of fresh) { shown.set(b[0], String(b)); last = Math.max(last, b[0]); }
    });
    const close = panel.close;
    return () => { close(); chart.remove(); };
  },
};
