// What can be shown besides candles: data only. A plot's name is the API's, its colour a token; `daily` lines begin anew
// with each UTC day.
const line = (name, color, extra = {}) => ({ kind: "line", name, color, width: 1.5, ...extra });

function average(id, label, color) {
  return { id, label, group: "Overlays", place: "price", plots: [line(id, color)] };
}

export const STUDIES = [
  { id: "volume", label: "Volume", group: "Panes", place: "volume", plots: [line("volume_sma", "line-volume", { title: "average" })] },
  {
    id: "rsi",
    label: "RSI 14",
    group: "Panes",
    place: "pane",
    decimals: 1,
    bands: [30, 70],
    within: [20, 80],
    limits: [0, 100],
    plots: [line("rsi_14", "line-rsi")],
  },
  {
    id: "macd",
    label: "MACD 12 26 9",
    group: "Panes",
    place: "pane",
    bands: [],
    plots: [
      { kind: "histogram", name: "macd_hist", color: "text-muted" },
      line("macd", "line-macd"),
      line("macd_signal", "line-signal"),
    ],
  },
  {
    id: "stoch",
    label: "Stochastic 14 3 3",
    group: "Panes",
    place: "pane",
    decimals: 1,
    bands: [20, 80],
    within: [0, 100],
    limits: [0, 100],
    plots: [line("stoch_k", "line-stoch-k"), line("stoch_d", "line-stoch-d")],
  },
  {
    id: "bb",
    label: "Bollinger 20 2",
    group: "Overlays",
    place: "price",
    plots: [
      line("bb_upper", "line-bollinger", { width: 1 }),
      line("bb_middle", "line-bollinger", { width: 1, dashed: true }),
      line("bb_lower", "line-bollinger", { width: 1 }),
    ],
  },
  average("sma_20", "SMA 20", "line-sma-20"),
  average("sma_50", "SMA 50", "line-sma-50"),
  average("sma_100", "SMA 100", "line-sma-100"),
  average("sma_200", "SMA 200", "line-sma-200"),
  average("ema_12", "EMA 12", "line-ema-12"),
  average("ema_26", "EMA 26", "line-ema-26"),
  average("ema_50", "EMA 50", "line-ema-50"),
  { id: "vwap", label: "VWAP", group: "Overlays", place: "price", plots: [line("vwap", "line-vwap", { daily: true })] },
];

export const DEFAULT_STUDIES = ["volume", "rsi", "macd"];

export const studyById = new Map(STUDIES.map((study) => [study.id, study]));

/** The known ids among these, in the order of STUDIES (so panes keep their order). */
export function knownStudies(ids) {
  return STUDIES.filter((study) => ids.includes(study.id)).map((study) => study.id);
}

/** The API's names that these studies draw. */
export function namesOf(ids) {
  return ids.flatMap((id) => studyById.get(id).plots.map((plot) => plot.name));
}
