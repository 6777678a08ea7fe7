// Where panes lie: their heights, remembered as shares of the price pane, and the tops at which legends stand.
import { remember, remembered } from "./store.js";

const USUAL_SHARE = 0.26;

export class Panes {
  #keys = ["price"];
  #observer = new ResizeObserver(() => this.#measured());
  #frame = 0;

  /**
   * onLayout([{key, top, height}]) is called whenever a pane moves or changes its height. The heights are read by
   * shares() and written by onShares(shares), to this browser's memory unless told otherwise.
   */
  constructor(chart, { plot, onLayout, shares = () => remembered("panes", {}), onShares = (kept) => remember("panes", kept) }) {
    this.chart = chart;
    this.plot = plot;
    this.onLayout = onLayout;
    this.shares = shares;
    this.onShares = onShares;
  }

  /** After the studies changed: the keys of the panes from the top. */
  arrange(keys) {
    this.#keys = keys;
    const shares = this.shares();
    cancelAnimationFrame(this.#frame);
    this.chart.api.panes().forEach((pane, index) => {
      pane.setStretchFactor(index === 0 ? 1 : (shares[keys[index]] ?? USUAL_SHARE));
    });
    this.#observe(10);
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#observer.disconnect();
  }

  /** The library makes a pane's element with its next frame. */
  #observe(tries) {
    this.#frame = requestAnimationFrame(() => {
      const elements = this.chart.api.panes().map((pane) => pane.getHTMLElement());
      if (elements.some((element) => element === null) && tries > 0) return this.#observe(tries - 1);
      this.#observer.disconnect();
      for (const element of elements) this.#observer.observe(element);
      return undefined;
    });
  }

  #measured() {
    const panes = this.chart.api.panes();
    if (panes.length !== this.#keys.length) return;
    const origin = this.plot.getBoundingClientRect().top;
    const boxes = panes.map((pane) => pane.getHTMLElement()?.getBoundingClientRect());
    if (boxes.some((box) => box === undefined)) return;
    this.onLayout(boxes.map((box, index) => ({ key: this.#keys[index], top: box.top - origin, height: box.height })));
    this.#keep(panes);
  }

  #keep(panes) {
    const price = panes[0].getStretchFactor();
    const shares = { ...this.shares() };
    panes.forEach((pane, index) => {
      if (index > 0) shares[this.#keys[index]] = Number((pane.getStretchFactor() / price).toFixed(4));
    });
    this.onShares(shares);
  }
}
