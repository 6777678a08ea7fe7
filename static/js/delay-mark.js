// Where the data of a delayed market ends: a line behind the newest bar that says how late it is (a series primitive).
const LINE = 14; // px

export class DelayMark {
  #chart = null;
  #update = () => {};
  #told = { text: "", time: null, color: "", font: "" };
  #views = [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => target.useMediaCoordinateSpace((scope) => this.#draw(scope)) }) }];

  attached({ chart, requestUpdate }) {
    this.#chart = chart;
    this.#update = requestUpdate;
  }

  paneViews() {
    return this.#views;
  }

  /** {text, time, color, font}; nothing is drawn without a text. `time` is that of the newest bar, in seconds. */
  show(told) {
    const before = this.#told;
    this.#told = told;
    if (Object.keys(told).some((key) => told[key] !== before[key])) this.#update();
  }

  #draw({ context, mediaSize }) {
    const { text, time, color, font } = this.#told;
    if (text === "" || time === null) return;
    const scale = this.#chart.timeScale();
    const at = scale.timeToCoordinate(time);
    if (at === null) return;
    const x = Math.round(at + scale.options().barSpacing / 2) + 0.5;
    if (x < 0 || x > mediaSize.width) return;
    context.strokeStyle = color;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, mediaSize.height);
    context.stroke();
    context.setLineDash([]);
    context.font = font;
    context.fillStyle = color;
    [context.textAlign, context.textBaseline] = ["left", "alphabetic"];
    const lines = words(text);
    const width = Math.max(...lines.map((line) => context.measureText(line).width));
    if (x + 8 + width > mediaSize.width) return; // beside the bars or not at all: the header says it, too
    lines.forEach((line, index) => context.fillText(line, x + 6, mediaSize.height - 8 - (lines.length - 1 - index) * LINE));
  }
}

/** "delayed 15 min" in two lines: the room beside the newest bar is narrow. */
function words(text) {
  const [first, ...rest] = text.split(" ");
  return [first, rest.join(" ")];
}
